"""Agreement of two detectors, on boxes made up for it."""

import numpy as np
import pytest

from legnet_cli.boxes import Detections
from legnet_cli.engine.export.parity import STRICT, Parity, Tolerance, measure_parity

BOX = (50, 50, 20, 10, 0.3)
IMAGE = np.zeros((100, 100, 3), np.uint8)


class Fixed:
    """Finds the same rows of (box, score, label) in every image."""

    def __init__(self, *rows):
        boxes = np.array([box for box, _, _ in rows], float).reshape(-1, 5)
        scores = np.array([score for _, score, _ in rows], np.float32)
        self.found = Detections(boxes, scores, np.array([label for *_, label in rows], np.int64))

    def detect(self, images):
        return [self.found for _ in images]


def parity(one, two, tolerance=STRICT):
    return measure_parity(Fixed(*one), Fixed(*two), [IMAGE], tolerance)


def moved(dx):
    return (BOX[0] + dx, *BOX[1:])


@pytest.mark.parametrize(
    ("one", "two", "boxes", "matched"),
    [
        pytest.param([(BOX, 0.9, 0)], [(BOX, 0.9, 0)], (1, 1), (1, 1), id="equal"),
        pytest.param([], [], (0, 0), (0, 0), id="none at all"),
        pytest.param([(BOX, 0.9, 0)], [], (1, 0), (0, 0), id="one is missing"),
        pytest.param([(BOX, 0.9, 0)], [(BOX, 0.9, 1)], (1, 1), (0, 0), id="another class"),
        pytest.param([(BOX, 0.9, 0)], [(BOX, 0.88, 0)], (1, 1), (0, 0), id="another score"),
        pytest.param([(BOX, 0.9, 0)], [(moved(2), 0.9, 0)], (1, 1), (0, 0), id="another place"),
        pytest.param([(BOX, 0.9, 0)], [(BOX, 0.9, 0), (moved(50), 0.09, 0)], (1, 1), (1, 1), id="low scores"),
        # a score on either side of the limit: the box counts on one side alone, and has a match
        pytest.param([(BOX, 0.101, 0)], [(BOX, 0.099, 0)], (1, 0), (1, 0), id="about the limit"),
        pytest.param([((50, 50, 20, 0, 0), 0.9, 0)], [((50, 50, 20, 0, 0), 0.9, 0)], (1, 1), (1, 1), id="no area"),
    ],
)
def test_matches(one, two, boxes, matched):
    found = parity(one, two)
    assert (found.boxes, found.matched, found.strict) == (boxes, matched, matched)


def test_differences_of_paired_boxes():
    found = parity([(BOX, 0.9, 0)], [(moved(2), 0.8, 0)], Tolerance(0.5, 0.2, 0.9))
    assert (found.matched, found.strict) == ((1, 1), (0, 0))
    assert found.score == pytest.approx(0.1)
    assert found.corner == pytest.approx(2)


def test_corners_may_start_anywhere():
    square = (50, 50, 20, 20)
    found = parity([((*square, 0.2), 0.9, 0)], [((*square, 0.2 - np.pi / 2), 0.9, 0)])
    assert found.matched == (1, 1)
    assert found.corner == pytest.approx(0, abs=1e-9)


def test_far_boxes_are_not_compared():
    found = parity([(BOX, 0.9, 0)], [(moved(30), 0.2, 0)])
    assert (found.score, found.corner) == (0, 0)


@pytest.mark.parametrize(
    ("boxes", "matched", "share", "passed"),
    [
        ((10, 5), (9, 5), 0.9, False),
        ((5, 10), (5, 9), 0.9, False),
        ((0, 0), (0, 0), 1.0, True),
        ((1, 0), (0, 0), 0, False),
    ],
)
def test_the_side_that_agrees_less_counts(boxes, matched, share, passed):
    found = Parity(1, STRICT, boxes, matched, matched, 0.0, 0.0)
    assert found.share == share
    assert found.passed == passed
