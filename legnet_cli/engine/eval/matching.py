"""Which predicted box belongs to which true object, over all images of a dataset at once.

IoU is that of the outlines as drawn, of any four corners, exact. A prediction is matched with the object of its
image and class of the highest IoU, matched before or not, as PASCAL VOC and DOTA's development kit do; that choice does
not depend on the threshold, so one pass serves them all. Of equal IoU the object that comes first is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.boxes import Array, boxes_to_polygons
from legnet_cli.ops.iou import Rectangles, valid_boxes
from legnet_cli.ops.pairs import cross_pairs
from legnet_cli.ops.quads import box_quad_iou, fill_boxes, quad_areas, quad_iou

LOWEST_IOU = 0.5  # pairs below it never count, and are left out

_CHUNK = 1 << 18  # pairs looked at together
_SLACK = 1e-6  # pixels: rounding of a centre on the bounds

Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Truths:
    """The true objects of all images.

    Attributes:
        quads: (n, 4, 2) corners in pixels, whose sides do not cross.
        labels: (n,) class indices.
        images: (n,) image indices.
        ignored: (n,) not counted; a prediction of one is neither right nor wrong.
        metres: (n,) length on the ground; NaN where unknown.
        cut: (n,) ignored only because every tile that shows them cuts them; None where there are no tiles.
    """

    quads: Array
    labels: Labels
    images: Labels
    ignored: Mask
    metres: Array
    cut: Mask | None = None

    def __len__(self) -> int:
        return len(self.quads)

    def take(self, index: NDArray[np.int64] | Mask) -> Truths:
        """The objects an index array or mask selects."""
        cut = None if self.cut is None else self.cut[index]
        columns = self.quads[index], self.labels[index], self.images[index], self.ignored[index], self.metres[index]
        return Truths(*columns, cut)


@dataclass(frozen=True)
class Predictions:
    """Predictions of all images; for the attributes see :class:`Truths` and ``Detections``."""

    boxes: Array
    scores: NDArray[np.float32]
    labels: Labels
    images: Labels
    metres: Array
    quads: Array | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, index: NDArray[np.int64] | Mask) -> Predictions:
        """The predictions an index array or mask selects."""
        quads = None if self.quads is None else self.quads[index]
        columns = self.boxes[index], self.scores[index], self.labels[index], self.images[index], self.metres[index]
        return Predictions(*columns, quads)

    @property
    def outlines(self) -> Array:
        """Corners (n, 4, 2)."""
        return boxes_to_polygons(self.boxes) if self.quads is None else self.quads

    def ranked(self) -> Predictions:
        """Class by class, best score first; equal scores by image, then by cx, cy, w, h, angle and corners.

        The order, and so every metric, is the same however the predictions were stored.
        """
        main = -self.scores, self.labels
        order = np.lexsort(main)
        same = np.logical_and.reduce([key[order[1:]] == key[order[:-1]] for key in main])
        tied = np.append(same, False) | np.append(False, same)
        if tied.any():  # few, as a rule: the other keys are sorted for these alone
            rows = order[tied]
            places = self.boxes if self.quads is None else np.hstack([self.boxes, self.quads.reshape(-1, 8)])
            keys = (*places[rows].T[::-1], self.images[rows], *(key[rows] for key in main))
            order[tied] = rows[np.lexsort(keys)]
        return self.take(order)


@dataclass(frozen=True)
class Matches:
    """For each prediction the object of the highest IoU, -1 for none from ``LOWEST_IOU`` up, and that IoU."""

    truth: Labels
    iou: Array


def match(predictions: Predictions, truths: Truths, classes: int) -> Matches:
    """Pair each prediction with the object of its image and class that has the highest IoU.

    Args:
        predictions: n boxes.
        truths: m objects.
        classes: number of classes.
    """
    group1, group2 = predictions.images * classes + predictions.labels, truths.images * classes + truths.labels
    one, two, iou = iou_pairs(predictions.boxes, truths.quads, group1, group2, predictions.quads)
    order = np.lexsort((two, -iou, one))
    found, first = np.unique(one[order], return_index=True)
    best = order[first]
    result = Matches(np.full(len(predictions), -1), np.zeros(len(predictions)))
    result.truth[found], result.iou[found] = two[best], iou[best]
    return result


def iou_pairs(
    boxes: Array, quads: Array, group1: Labels, group2: Labels, outlines: Array | None = None
) -> tuple[Labels, Labels, Array]:
    """All pairs of one group with an IoU of ``LOWEST_IOU`` or more: index of the box, of the quad, IoU (k,) each.

    A line through its centre halves a box. So a convex shape that has half of the box or more in it, as an IoU of 0.5
    needs, has the centre in it too: only boxes whose centre lies within the bounds of a quad come into question.
    Where ``outlines`` (n, 4, 2) are no rectangles, they are compared in place of the boxes.
    """
    corners = torch.from_numpy(np.ascontiguousarray(quads, np.float64))
    areas = boxes[:, 2] * boxes[:, 3], quad_areas(corners).numpy()
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]

    def keep(i: Labels, j: Labels, iou: Array) -> None:
        hit = iou >= LOWEST_IOU
        parts.append((i[hit], j[hit], iou[hit]))

    free = np.zeros(len(boxes), np.bool_) if outlines is None else ~fill_boxes(boxes, outlines)
    for i, j in _centres_within(np.where(free[:, None], np.nan, boxes), quads, group1, group2):
        i, j = _alike(i, j, *areas)
        pairs = Rectangles.of(torch.from_numpy(boxes[i])), corners[torch.from_numpy(j)]
        keep(i, j, box_quad_iou(*pairs, torch.from_numpy(areas[1][j])).numpy())
    if outlines is not None and free.any():
        own = quad_areas(torch.from_numpy(np.ascontiguousarray(outlines))).numpy()
        for i, j in _bounds_meet(outlines, np.flatnonzero(free), quads, group1, group2):
            i, j = _alike(i, j, own, areas[1])
            keep(i, j, quad_iou(outlines[i], quads[j]))
    one, two, iou = (np.concatenate(column) for column in zip(*parts, strict=True))
    return one, two, iou


def _alike(i: Labels, j: Labels, one: Array, two: Array) -> tuple[Labels, Labels]:
    """Of pairs i, j those whose areas, of ``one`` and ``two``, allow for the lowest IoU."""
    alike = np.minimum(one[i], two[j]) >= (LOWEST_IOU - 1e-9) * np.maximum(one[i], two[j])
    return i[alike], j[alike]


def _bounds_meet(
    outlines: Array, rows: Labels, quads: Array, group1: Labels, group2: Labels
) -> Iterator[tuple[Labels, Labels]]:
    """Chunks (k,), (k,) of some ``rows`` of the outlines and quads of one group whose bounds meet."""
    if len(quads) == 0:
        return
    names, dense = np.unique(np.concatenate([group1[rows], group2]), return_inverse=True)
    one, two = (torch.from_numpy(np.hstack([some.min(1), some.max(1)])) for some in (outlines[rows], quads))
    group = torch.from_numpy(dense)
    for i, j in cross_pairs(one, two, group[: len(rows)], group[len(rows) :], len(names)):
        yield rows[i.numpy()], j.numpy()


def _centres_within(boxes: Array, quads: Array, group1: Labels, group2: Labels) -> Iterator[tuple[Labels, Labels]]:
    """Chunks (k,), (k,) of boxes and quads of one group, the centre of the box within the bounds of the quad."""
    sound = np.flatnonzero(valid_boxes(torch.from_numpy(boxes)).numpy())
    if len(sound) == 0 or len(quads) == 0:
        return
    low, high = quads.min(1) - _SLACK, quads.max(1) + _SLACK
    left = min(float(boxes[sound, 0].min()), float(low[:, 0].min()))
    span = max(float(boxes[sound, 0].max()), float(high[:, 0].max())) - left + 1
    # groups side by side along one axis; sorted, the boxes within a quad's width are one run
    names, dense = np.unique(np.concatenate([group1[sound], group2]), return_inverse=True)
    start = dense * span - left
    key = start[: len(sound)] + boxes[sound, 0]
    order = np.argsort(key, kind="stable")
    key, sound = key[order], sound[order]
    slack = 1e-9 * span * len(names)  # rounding of the keys
    first = np.searchsorted(key, start[len(order) :] + low[:, 0] - slack)
    counts = np.searchsorted(key, start[len(order) :] + high[:, 0] + slack, side="right") - first
    chunk = (np.cumsum(counts) - counts) // _CHUNK
    for quad in np.split(np.arange(len(quads)), np.flatnonzero(np.diff(chunk)) + 1):
        many = counts[quad]
        j = np.repeat(quad, many)
        i = sound[np.arange(len(j)) + np.repeat(first[quad] - (np.cumsum(many) - many), many)]
        inside = (low[j, 1] <= boxes[i, 1]) & (boxes[i, 1] <= high[j, 1])
        # a run may reach into the next group by the slack
        inside &= group1[i] == group2[j]
        yield i[inside], j[inside]


def confusion(predictions: Predictions, truths: Truths, score: float, classes: int) -> NDArray[np.int64]:
    """Counts (classes + 1, classes + 1) of true class by predicted class, the last of each being the background.

    Predictions from ``score`` up and objects of any class are paired one to one, the highest IoU first, if it is
    over 0.5; those of equal IoU by score. What is paired with an ignored object is not counted.
    """
    chosen = np.flatnonzero(predictions.scores >= score)
    predictions = predictions.take(chosen)
    groups = predictions.images, truths.images
    one, two, iou = iou_pairs(predictions.boxes, truths.quads, *groups, predictions.quads)
    one, two, iou = one[iou > LOWEST_IOU], two[iou > LOWEST_IOU], iou[iou > LOWEST_IOU]
    order = np.lexsort((two, one, -predictions.scores[one].astype(np.float64), truths.ignored[two], -iou))
    partner, taken = np.full(len(predictions), -1), np.zeros(len(truths), bool)
    for i, j in zip(one[order].tolist(), two[order].tolist(), strict=True):
        if partner[i] < 0 and not taken[j]:
            partner[i], taken[j] = j, True
    paired = partner >= 0
    counted = paired & ~truths.ignored[partner] if len(truths) else paired
    pairs = [
        (truths.labels[partner[counted]], predictions.labels[counted]),
        (np.full(np.count_nonzero(~paired), classes), predictions.labels[~paired]),
    ]
    missed = truths.labels[~taken & ~truths.ignored]
    pairs.append((missed, np.full(len(missed), classes)))
    cells = np.concatenate([true * (classes + 1) + predicted for true, predicted in pairs])
    return np.bincount(cells, minlength=(classes + 1) ** 2).reshape(classes + 1, classes + 1)
