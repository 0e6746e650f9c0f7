"""Fusion of views against hand-made truths, and its symmetries."""

from __future__ import annotations

import numpy as np
import pytest

from legnet_cli.boxes import Detections, boxes_to_polygons, to_le90
from legnet_cli.ops.fusion import fuse_views

ALL = np.array([4, 4])  # views that know each of two classes


def view(*rows):
    """Detections of rows ``cx, cy, w, h, degrees, score, label``."""
    table = np.array(rows, float).reshape(-1, 7)
    table[:, 4] = np.radians(table[:, 4])
    return Detections(to_le90(table[:, :5]), table[:, 5].astype(np.float32), table[:, 6].astype(np.int64))


def noisy_views(seed, count=4, objects=30):
    """Views of the same objects with noise, some missed, some false."""
    rng = np.random.default_rng(seed)
    spans = (20, 480), (20, 480), (12, 40), (8, 12), (-90, 90)
    truth = np.column_stack([rng.uniform(*span, objects) for span in spans])
    parts = []
    for _ in range(count):
        rows = truth + rng.normal(0, 0.5, truth.shape)
        rows = rows[rng.random(objects) < 0.8]
        scores = rng.uniform(0.1, 0.9, len(rows))
        parts.append(view(*np.column_stack([rows, scores, np.arange(len(rows)) % 2])))
    return parts


@pytest.mark.parametrize(
    ("boxes", "fused"),
    [
        # centres and sides weighted by score
        ([(10, 10, 20, 8, 0, 0.6, 0), (13, 10, 26, 8, 0, 0.3, 0)], (11, 10, 22, 8, 0)),
        # angles on both sides of the end of the range: -88 and 88 degrees are 4 apart, not 176
        ([(50, 50, 30, 8, 88, 0.5, 0), (50, 50, 30, 8, -88, 0.5, 0)], (50, 50, 30, 8, -90)),
        ([(50, 50, 30, 8, 89, 0.6, 0), (50, 50, 30, 8, -88, 0.3, 0)], (50, 50, 30, 8, 90)),
        # a near-square of which either side may be the longer one: the mean is upright, not a square on its tip
        ([(50, 50, 20.4, 20, 1, 0.5, 0), (50, 50, 20.4, 20, -89, 0.5, 0)], (50, 50, 20.2, 20.2, 1)),
        ([(50, 50, 21, 20, 4, 0.5, 0), (50, 50, 21, 20, 86, 0.5, 0)], (50, 50, 20.5, 20.5, 0)),
        # across the end of the range and across the sides at once
        ([(50, 50, 22, 20, 89, 0.5, 0), (50, 50, 21, 20, 3, 0.5, 0)], (50, 50, 21.0, 20.5, 91)),
    ],
)
def test_mean_box(boxes, fused):
    found = fuse_views([view(row) for row in boxes], np.array([2, 2]))

    assert len(found) == 1
    expected = view((*fused, 1, 0)).boxes
    assert outline(found.boxes) == pytest.approx(outline(expected), abs=2e-2)


def outline(boxes):
    """Corners in an order that does not depend on which side is called w."""
    return np.array([corners[np.lexsort(corners.round(3).T)] for corners in boxes_to_polygons(boxes)])


@pytest.mark.parametrize(
    ("how", "score"),
    [("wbf", (0.8 + 0.6 + 0.4) / 4), ("nms", 0.8)],
)
def test_scores_and_shares(how, score):
    box = (50, 50, 30, 10, 20)
    parts = [view((*box, 0.8, 0)), view((*box, 0.6, 0)), view((*box, 0.4, 0)), view()]

    found = fuse_views(parts, ALL, how)

    assert found.scores.tolist() == pytest.approx([score])
    assert found.views.tolist() == [0.75]


def test_views_that_do_not_know_a_class_do_not_count():
    box = (50, 50, 30, 10, 20)

    found = fuse_views([view((*box, 0.8, 0)), view((*box, 0.6, 0)), view(), view()], np.array([2, 4]))

    assert found.scores.tolist() == pytest.approx([0.7])
    assert found.views.tolist() == [1.0]


def test_classes_are_kept_apart_and_the_best_comes_first():
    box = (50, 50, 30, 10, 20)
    parts = [view((*box, 0.2, 0), (*box, 0.5, 1))] * 4

    found = fuse_views(parts, ALL)

    assert found.labels.tolist() == [1, 0]
    assert found.scores.tolist() == pytest.approx([0.5, 0.2])


def test_a_view_counts_once_and_what_a_seed_removes_is_dropped():
    # the second box of the first view, and the one that overlaps too little to be the same
    parts = [view((50, 50, 30, 10, 0, 0.8, 0), (52, 50, 30, 10, 0, 0.4, 0)), view((68, 50, 30, 10, 0, 0.4, 0))]

    found = fuse_views(parts, np.array([2, 2]))

    assert len(found) == 1
    assert found.views.tolist() == [0.5]
    assert found.boxes[0] == pytest.approx([50, 50, 30, 10, 0])


@pytest.mark.parametrize("how", ["wbf", "nms"])
@pytest.mark.parametrize("seed", range(4))
def test_order_of_views_does_not_matter(seed, how):
    parts = noisy_views(seed)
    shuffled = [parts[i] for i in np.random.default_rng(seed).permutation(len(parts))]

    one, two = fuse_views(parts, ALL, how), fuse_views(shuffled, ALL, how)

    for name in ("boxes", "scores", "labels", "views"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


@pytest.mark.parametrize("how", ["wbf", "nms"])
def test_equal_views_change_nothing(how):
    part = noisy_views(9, count=1)[0]
    part = fuse_views([part], np.array([1, 1]))  # without the overlaps of random boxes

    found = fuse_views([part] * 4, ALL, how)

    assert found.boxes == pytest.approx(part.boxes, abs=1e-9)
    assert found.scores == pytest.approx(part.scores)
    assert (found.views == 1).all()


@pytest.mark.parametrize("parts", [[], [view()], [view((np.nan, 1, 1, 1, 0, 0.5, 0)), view((5, 5, 0, 0, 0, 0.5, 0))]])
def test_nothing_sound(parts):
    found = fuse_views(parts, ALL)

    assert len(found) == 0
    assert found.views.shape == (0,)


def test_a_mean_is_nearer_the_truth_than_its_views():
    rng = np.random.default_rng(3)
    truth = np.array([[100, 100, 40, 16, 30], [300, 100, 18, 17, 0], [100, 300, 50, 14, -88]], float)
    parts = []
    for _ in range(8):
        rows = truth + rng.normal(0, 1, truth.shape)
        parts.append(view(*np.column_stack([rows, np.full(3, 0.5), np.zeros(3)])))

    found = fuse_views(parts, np.array([8, 8]))

    def error(boxes):
        boxes = boxes[np.lexsort(boxes.round(-2)[:, :2].T)]
        return np.abs(outline(boxes) - outline(view(*np.column_stack([truth, np.ones(3), np.zeros(3)])).boxes)).mean()

    assert error(found.boxes) < 0.6 * np.mean([error(part.boxes) for part in parts])
