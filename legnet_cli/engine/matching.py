"""Which predicted box belongs to which true object, over all images of a dataset at once.

Overlap is that of the predicted box with the outline of the object, exact. A prediction is judged by the object of
its image and class that it overlaps most, taken or not, as PASCAL VOC and DOTA's development kit do; that choice does
not depend on the threshold, so one pass serves them all. Equal overlaps: the object that comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from legnet_cli.boxes import Array, polygons_to_boxes
from legnet_cli.ops.iou import Rectangles, intersection_bound, valid_boxes
from legnet_cli.ops.pairs import cross_pairs
from legnet_cli.ops.quads import box_quad_iou, quad_areas

LOWEST_IOU = 0.5  # overlaps below it never count, and are not computed

Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Truths:
    """The true objects of all images.

    Attributes:
        quads: (n, 4, 2) corners in pixels, whose sides do not cross.
        labels: (n,) class indices.
        images: (n,) image indices.
        ignored: (n,) neither counted nor, where predicted, punished.
        metres: (n,) length on the ground; NaN where unknown.
    """

    quads: Array
    labels: Labels
    images: Labels
    ignored: Mask
    metres: Array

    def __len__(self) -> int:
        return len(self.quads)


@dataclass(frozen=True)
class Predictions:
    """Predicted boxes of all images; attributes as of :class:`Truths` and of ``Detections``."""

    boxes: Array
    scores: NDArray[np.float32]
    labels: Labels
    images: Labels
    metres: Array

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, index: NDArray[np.int64] | Mask) -> Predictions:
        """The predictions an index array or mask selects."""
        return Predictions(
            self.boxes[index], self.scores[index], self.labels[index], self.images[index], self.metres[index]
        )

    def ranked(self) -> Predictions:
        """Class by class, best score first; equal scores by image, then by cx, cy, w, h and angle.

        The order, and so every metric, is the same however the predictions were stored.
        """
        keys = (*self.boxes.T[::-1], self.images, -self.scores.astype(np.float64), self.labels)
        return self.take(np.lexsort(keys))


@dataclass(frozen=True)
class Matches:
    """For each prediction the object it overlaps most, -1 for none over ``LOWEST_IOU``, and the overlap."""

    truth: Labels
    iou: Array


def match(predictions: Predictions, truths: Truths, classes: int) -> Matches:
    """Pair each prediction with the object of its image and class that it overlaps most.

    Args:
        predictions: n boxes.
        truths: m objects.
        classes: number of classes.
    """
    group1, group2 = predictions.images * classes + predictions.labels, truths.images * classes + truths.labels
    one, two, iou = overlaps(predictions.boxes, truths.quads, group1, group2)
    order = np.lexsort((two, -iou, one))
    found, first = np.unique(one[order], return_index=True)
    best = order[first]
    result = Matches(np.full(len(predictions), -1), np.zeros(len(predictions)))
    result.truth[found], result.iou[found] = two[best], iou[best]
    return result


def overlaps(boxes: Array, quads: Array, group1: Labels, group2: Labels) -> tuple[Labels, Labels, Array]:
    """All pairs of one group that overlap by ``LOWEST_IOU`` or more: index of the box, of the quad, IoU (k,) each."""
    names, dense = np.unique(np.concatenate([group1, group2]), return_inverse=True)
    around = torch.from_numpy(polygons_to_boxes(quads))
    rows = [valid_boxes(side).nonzero().squeeze(1) for side in (torch.from_numpy(boxes), around)]
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    if all(len(row) for row in rows):
        groups = [torch.from_numpy(dense[: len(boxes)])[rows[0]], torch.from_numpy(dense[len(boxes) :])[rows[1]]]
        one, two = Rectangles.of(torch.from_numpy(boxes)[rows[0]]), Rectangles.of(around[rows[1]])
        corners = torch.from_numpy(np.ascontiguousarray(quads))[rows[1]]
        areas = quad_areas(corners)
        for i, j in cross_pairs(one.bounds(), two.bounds(), *groups, len(names)):
            a, area = one.take(i), areas[j]
            # iou >= t needs an intersection of (both areas) * t / (1 + t)
            needed = (a.w * a.h + area) * (LOWEST_IOU / (1 + LOWEST_IOU) - 1e-9)
            near = (intersection_bound(a, two.take(j)) >= needed).nonzero().squeeze(1)
            i, j = i[near], j[near]
            iou = box_quad_iou(one.take(i), corners[j], areas[j])
            hit = iou >= LOWEST_IOU
            parts.append((rows[0][i[hit]], rows[1][j[hit]], iou[hit]))
    none = torch.zeros(0, dtype=torch.int64)
    columns = zip((none, none, torch.zeros(0, dtype=torch.float64)), *parts, strict=True)
    i, j, iou = (torch.cat(column).numpy() for column in columns)
    return i, j, iou


def confusion(predictions: Predictions, truths: Truths, score: float, classes: int) -> NDArray[np.int64]:
    """Counts (classes + 1, classes + 1) of true class by predicted class, the last of each being the background.

    Predictions from ``score`` up and objects of any class are paired one to one, the largest overlap first, if it
    is over 0.5; equal overlaps by score. What is paired with an ignored object is not counted.
    """
    chosen = np.flatnonzero(predictions.scores >= score)
    predictions = predictions.take(chosen)
    one, two, iou = overlaps(predictions.boxes, truths.quads, predictions.images, truths.images)
    one, two, iou = (column[iou > LOWEST_IOU] for column in (one, two, iou))
    order = np.lexsort((two, one, -predictions.scores[one].astype(np.float64), truths.ignored[two], -iou))
    partner, taken = np.full(len(predictions), -1), np.zeros(len(truths), bool)
    for i, j in zip(one[order].tolist(), two[order].tolist(), strict=True):
        if partner[i] < 0 and not taken[j]:
            partner[i], taken[j] = j, True
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    paired = partner >= 0
    counted = paired & ~truths.ignored[partner] if len(truths) else paired
    np.add.at(matrix, (truths.labels[partner[counted]], predictions.labels[counted]), 1)
    np.add.at(matrix, (classes, predictions.labels[~paired]), 1)
    np.add.at(matrix, (truths.labels[~taken & ~truths.ignored], classes), 1)
    return matrix
