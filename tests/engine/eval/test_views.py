"""Evaluation of several views and weights, and what is learned of their scores."""

from __future__ import annotations

from dataclasses import replace

import pytest
from blobs import BlobDetector
from eval_set import write_dota

from legnet_cli.detectors.ensemble import join
from legnet_cli.detectors.loader import Detector
from legnet_cli.detectors.views import Views
from legnet_cli.detectors.weights.checkpoint import read_checkpoint, save_checkpoint
from legnet_cli.detectors.weights.fetch import EMBEDDED, fetch
from legnet_cli.engine.eval import EvalConfig, evaluate
from legnet_cli.errors import ConfigError

FULL = Views("full", (1.0,), "nms")


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Evaluate the detector of bright rectangles, in several views, on images of which it finds all objects."""
    detector = BlobDetector()
    member = Detector(detector.card, detector.device, "fp32", lambda images: detector.detect(images.numpy()))
    monkeypatch.setattr(
        "legnet_cli.engine.eval.run.load_ensemble", lambda weights, views, **_: join([member] * len(weights), views)
    )
    data = write_dota(tmp_path / "dota")

    def run(**values):
        return evaluate(EvalConfig(data=data, out=tmp_path / "run", overwrite=True, **values))

    return run


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"weights": "a"}, None),
        ({"weights": ("a", "b")}, None),
        ({"weights": "a", "tta": "flips"}, "tta flips, scales 1, wbf"),
        ({"weights": "a", "tta": "full", "fuse": "nms", "tile": 160}, "tta full, scales 1, nms"),
    ],
)
def test_views_find_the_same_objects(measured, values, name):
    metrics = measured(**values).metrics

    assert metrics["map"]["area"]["0.50"] == 1
    assert metrics["weights"] == ", ".join(["a", "b"] if len(values["weights"]) > 1 else ["a"])
    assert metrics.get("views") == name


def test_what_scores_of_views_mean_is_kept_apart(tmp_path, measured):
    own = tmp_path / "own.safetensors"
    checkpoint = read_checkpoint(fetch(EMBEDDED))
    save_checkpoint(own, checkpoint.state, replace(checkpoint.card, calibration=None, view_calibration=None))

    measured(weights=str(own), calibrate=True, write_back=True, tta="full", fuse="nms")
    card = read_checkpoint(own).card
    assert (card.calibration, list(card.view_calibration)) == (None, [FULL.name])
    assert card.thresholds(None).tolist() == [0.25] * len(card.classes)

    measured(weights=str(own), calibrate=True, write_back=True)
    both = read_checkpoint(own).card
    assert both.view_calibration == card.view_calibration
    assert set(both.calibration) == {"bright", "dim"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"weights": ("a", "b"), "calibrate": True, "write_back": True}, "in the card of one model"),
        ({"predictions": "p.csv", "tta": "full"}, "--tta and --scales search images: give --weights"),
    ],
)
def test_what_does_not_go_together(tmp_path, values, words):
    with pytest.raises(ConfigError, match=words):
        EvalConfig(data=tmp_path, out=tmp_path / "run", **values)
