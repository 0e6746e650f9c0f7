"""Thresholds, probabilities and counts, on scores whose truth is known."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.detectors.weights.calibration import DEFAULT_SCORE, ClassCalibration, estimate_count
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import read_checkpoint, rewrite_card
from legnet_cli.detectors.weights.fetch import EMBEDDED, fetch
from legnet_cli.engine.eval.calibrate import Aim, _spread, calibrate, measure_reliability, reliability
from legnet_cli.engine.eval.matching import Predictions, Truths
from legnet_cli.engine.eval.measure import compute_metrics
from legnet_cli.errors import CheckpointError


def measured(scores, hits, missed=0, labels=None, classes=("ship",)):
    """Metrics of boxes far apart, of which ``hits`` lie on objects; ``missed`` objects more have no box."""
    count = len(scores)
    boxes = np.stack([100.0 * np.arange(count + missed) + 50, *np.tile([[50.0], [40], [20], [0]], count + missed)], 1)
    labels = np.zeros(count, np.int64) if labels is None else labels
    there = np.concatenate([np.flatnonzero(hits), np.arange(count, count + missed)])
    kinds = np.concatenate([labels, np.zeros(missed, np.int64)])[there]
    nothing = np.full(len(there), np.nan)
    truths = Truths(boxes_to_polygons(boxes[there]), kinds, np.zeros_like(kinds), np.zeros(len(there), bool), nothing)
    found = Predictions(
        boxes[:count], scores.astype(np.float32), labels, np.zeros(count, np.int64), np.full(count, np.nan)
    )
    return compute_metrics(found, truths, classes)


def draw(count, seed=0):
    """Scores of a model that is too sure: a true object with a probability of the square of the score."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.05, 1, count)
    return scores, rng.random(count) < scores**2


def test_probabilities_are_those_that_hold():
    found = calibrate(measured(*draw(8000)), Aim())["ship"]
    assert found.method == "isotonic"
    assert len(found.scores) <= 20
    assert sum(found.counts) == 8000
    at = np.linspace(0.1, 0.95, 18)
    np.testing.assert_allclose(found.probability(at), at**2, atol=0.05)
    other = measured(*draw(8000, 1))
    raw, mapped = measure_reliability(other, {"ship": found})
    assert raw.error > 0.1
    assert mapped.error < 0.03
    assert measure_reliability(other, {})[1] is None


def test_few_boxes_get_a_smooth_map():
    found = calibrate(measured(*draw(60)), Aim())["ship"]
    assert found.method == "logistic"
    assert (np.diff(found.probabilities) >= 0).all()
    np.testing.assert_allclose(found.probability(np.array([0.3, 0.6, 0.9])), [0.09, 0.36, 0.81], atol=0.2)
    every = calibrate(measured(np.linspace(0.2, 0.9, 8), np.ones(8, bool)), Aim())["ship"]
    assert 0.5 < every.probability(np.array([0.5]))[0] < 1  # eight hits of eight are no certainty


SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
HITS = np.array([True, True, False, True, False, False, True, False])


@pytest.mark.parametrize(
    ("aim", "score", "precision", "recall"),
    [
        (Aim(precision=0.9), 0.8, 1, 2 / 5),
        (Aim(precision=0.5), 0.3, 4 / 7, 4 / 5),
        (Aim(precision=1.0), 0.8, 1, 2 / 5),
        (Aim(false_alarms=1, km2=1.0), 0.6, 3 / 4, 3 / 5),
        (Aim(false_alarms=0.5, km2=2.0), 0.6, 3 / 4, 3 / 5),
        (Aim(false_alarms=3, km2=1.0), 0.3, 4 / 7, 4 / 5),
        (Aim(false_alarms=0, km2=1.0), 0.8, 1, 2 / 5),
    ],
)
def test_thresholds(aim, score, precision, recall):
    found = calibrate(measured(SCORES, HITS, missed=1), aim)["ship"]
    assert score - 2e-4 < found.threshold < np.float32(score)  # the box of that score is reported
    assert (found.precision, found.recall) == pytest.approx((precision, recall))
    assert found.objects == 5


def test_the_best_f1_is_the_threshold_that_nobody_asks_for():
    found = calibrate(measured(SCORES, HITS, missed=3), Aim())["ship"]
    assert (found.threshold, found.precision, found.recall) == pytest.approx((0.2999, 4 / 7, 4 / 7), abs=2e-4)


def test_classes_of_which_nothing_is_known_are_left_out():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    hits = np.array([True, True, False, True, False, False, False, False])
    assert list(calibrate(measured(SCORES, hits, labels=labels, classes=("ship", "plane")), Aim())) == ["ship"]


def test_equal_bins_weigh_by_their_boxes():
    found = reliability(np.array([0.1, 0.1, 0.1, 0.9]), np.array([True, False, False, True]))
    assert found.counts.tolist() == [3, 1]
    assert found.error == pytest.approx((3 * abs(0.1 - 1 / 3) + 1 * 0.1) / 4)
    assert reliability(np.zeros(0), np.zeros(0, bool)).error == 0


def test_intervals_hold_the_true_count():
    """In nine of ten scenes, though maps are learned from few boxes."""
    inside = []
    for seed in range(200):
        known = calibrate(measured(*draw(400, seed)), Aim())["ship"]
        scores, hits = draw(150, 1000 + seed)
        kept = scores >= known.threshold
        found = estimate_count(known, scores[kept])
        inside.append(found.low <= hits[kept].sum() <= found.high)
        assert found.low <= found.found <= found.high <= kept.sum()
    assert 0.85 < np.mean(inside) < 0.98


def test_images_that_differ_widen_the_interval():
    """Half of the images hold only true objects, the others none, whatever the scores say."""
    likely, images = np.full(1000, 0.5), np.repeat(np.arange(100), 10)
    assert _spread(likely, images % 2 == 0, images) == pytest.approx(10)
    assert _spread(likely, np.arange(1000) % 2 == 0, images) == 1
    known = ClassCalibration(0.5, 0.9, 0.8, "isotonic", 9, (0.5, 0.9), (0.5, 0.5), (9999, 9999))
    narrow, wide = (estimate_count(replace(known, spread=spread), np.full(400, 0.7)) for spread in (1, 4))
    assert wide.high - wide.low == pytest.approx(2 * (narrow.high - narrow.low), rel=0.1)


def test_missed_objects_by_the_recall():
    known = ClassCalibration(0.5, 0.9, 0.8, "isotonic", 9, (0.5, 0.9), (1.0, 1.0), (50, 50))
    found = estimate_count(known, np.full(8, 0.7))
    assert (found.found, found.missed) == pytest.approx((8, 2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"scores": (0.5, 0.4)},
        {"probabilities": (0.9, 0.1)},
        {"counts": (1, 0)},
        {"counts": (1,)},
        {"threshold": 2},
        {"probabilities": ("a", "b")},
        {"recall": float("nan")},
        {"spread": 0.5},
    ],
)
def test_damaged_maps_are_refused(wrong):
    sound = ClassCalibration(0.5, 0.9, 0.8, "isotonic", 9, (0.1, 0.9), (0.2, 1.0), (50, 50)).to_dict()
    assert ClassCalibration.from_dict(sound).to_dict() == sound
    with pytest.raises((ValueError, TypeError)):
        ClassCalibration.from_dict({**sound, **wrong})


def test_cards_hold_it(tmp_path):
    known = calibrate(measured(SCORES, HITS), Aim(precision=0.9))
    path = tmp_path / "m.safetensors"
    shutil.copy(fetch(EMBEDDED), path)
    before = read_checkpoint(path)
    plain = replace(before.card, calibration=None)
    assert set(plain.thresholds(None)) == {DEFAULT_SCORE}
    rewrite_card(path, replace(plain, calibration={name: one.to_dict() for name, one in known.items()}))
    after = read_checkpoint(path)
    assert load_file(path).keys() == load_file(fetch(EMBEDDED)).keys()
    assert all(value.dtype == load_file(path)[name].dtype for name, value in load_file(fetch(EMBEDDED)).items())
    assert all(after.state[name].equal(value) for name, value in before.state.items())
    assert after.card.calibrations == known
    expected = {name: known["ship"].threshold if name == "ship" else DEFAULT_SCORE for name in plain.classes}
    assert after.card.thresholds(None).tolist() == list(expected.values())
    assert set(after.card.thresholds(0.4)) == {0.4}


def test_only_files_of_this_project_hold_a_card(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="holds no model card"):
        rewrite_card(tmp_path / "a.pth", ModelCard("m", "oriented-rcnn/legnet-nano", ("ship",)))
