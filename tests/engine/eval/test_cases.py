"""Which errors are shown, in which order, and from which image file."""

import cv2
import numpy as np
import pytest

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.engine.eval import Source, compute_metrics, load_truth
from legnet_cli.engine.eval.cases import PER_CLASS, SIDE, worst_cases
from legnet_cli.engine.eval.matching import Predictions


def write(folder, objects, name="a", brightness=40):
    """An image of one brightness with objects of (x, y, w, h, class)."""
    for part in ("images", "labelTxt"):
        (folder / part).mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "images" / f"{name}.png"), np.full((128, 128), brightness, np.uint8))
    quads = boxes_to_polygons(np.array([(*row[:4], 0) for row in objects], float))
    lines = [f"{' '.join(map(str, quad.ravel()))} {row[4]} 0\n" for quad, row in zip(quads, objects, strict=True)]
    (folder / "labelTxt" / f"{name}.txt").write_text("".join(lines))


def cases(folder, found=()):
    """Cases of predictions (x, y, w, h, class, score)."""
    truth = load_truth(Source(folder))
    n = len(found)
    predictions = Predictions(
        np.array([(*row[:4], 0) for row in found], float).reshape(-1, 5),
        np.array([row[5] for row in found], np.float32),
        np.array([truth.classes.index(row[4]) for row in found], np.int64),
        np.zeros(n, np.int64),
        np.full(n, np.nan),
    )
    return worst_cases(truth, compute_metrics(predictions, truth.truths, truth.classes), None, "none")


def test_a_class_does_not_fill_the_page(tmp_path):
    ships = [(10 + 20 * i, 20, 12, 6, "ship") for i in range(6)]
    write(tmp_path, [*ships, (60, 80, 10, 8, "plane")])
    shown = cases(tmp_path)
    assert {(case.kind, case.note) for case in shown} == {("miss", "not found at any score")}
    assert [case.name for case in shown] == ["ship"] * PER_CLASS + ["plane"]  # larger first
    assert all(max(case.picture.shape[:2]) == SIDE for case in shown)


def test_misses_and_false_alarms(tmp_path):
    a, b, faint, lost = (20, 20, 20, 10), (60, 20, 20, 10), (100, 20, 20, 10), (20, 100, 16, 8)
    write(tmp_path, [(*place, "ship") for place in (a, b, faint, lost)])
    wrong = [(90, 60 + 20 * i, 20, 10, "ship", 0.3 + 0.1 * i) for i in range(3)]
    found = [(*a, "ship", 0.9), (*b, "ship", 0.8), (*a, "ship", 0.85), *wrong, (*faint, "ship", 0.1)]
    notes = [(case.kind, case.note) for case in cases(tmp_path, found)]
    assert notes == [
        ("miss", "not found at any score"),
        ("miss", "found at 0.10 only"),
        ("false alarm", "score 0.85, found twice"),
        ("false alarm", "score 0.50"),
        ("false alarm", "score 0.40"),
        ("false alarm", "score 0.30"),
    ]


@pytest.mark.parametrize(("x", "brightness"), [(80, 30), (115, 220)])
def test_the_tile_that_shows_most_around_an_object(tmp_path, x, brightness):
    write(tmp_path, [(x, 64, 14, 8, "ship")], "P1__128__0___0", 30)
    write(tmp_path, [(x - 64, 64, 14, 8, "ship")], "P1__128__64___0", 220)
    (case,) = cases(tmp_path)
    assert np.median(case.picture) == pytest.approx(brightness, abs=2)


def test_labels_without_images_show_nothing(tmp_path):
    write(tmp_path, [(20, 20, 20, 10, "ship")])
    (tmp_path / "images" / "a.png").unlink()
    assert cases(tmp_path) == []
