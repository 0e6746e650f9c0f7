"""Which predicted box belongs to which true object, over all images of a dataset at once.

IoU is that of the predicted box and the outline of the object, exact. A prediction is matched with the object of its
image and class of the highest IoU, matched before or not, as PASCAL VOC and DOTA's development kit do; that choice does
not depend on the threshold, so one pass serves them all. Of equal IoU the object that comes first is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.ops.iou import Rectangles, valid_boxes
from legnet_cli.ops.quads import box_quad_iou, quad_areas

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
    """Predicted boxes of all images; for the attributes see :class:`Truths` and ``Detections``."""

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
        main = -self.scores, self.labels
        order = np.lexsort(main)
        same = np.logical_and.reduce([key[order[1:]] == key[order[:-1]] for key in main])
        tied = np.append(same, False) | np.append(False, same)
        if tied.any():  # few, as a rule: the other keys are sorted for these alone
            rows = order[tied]
            keys = (*self.boxes[rows].T[::-1], self.images[rows], *(key[rows] for key in main))
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
    one, two, iou = iou_pairs(predictions.boxes, truths.quads, group1, group2)
    order = np.lexsort((two, -iou, one))
    found, first = np.unique(one[order], return_index=True)
    best = order[first]
    result = Matches(np.full(len(predictions), -1), np.zeros(len(predictions)))
    result.truth[found], result.iou[found] = two[best], iou[best]
    return result


def iou_pairs(boxes: Array, quads: Array, group1: Labels, group2: Labels) -> tuple[Labels, Labels, Array]:
    """All pairs of one group with an IoU of ``LOWEST_IOU`` or more: index of the box, of the quad, IoU (k,) each.

    A line through its centre halves a box. So a convex shape that has half of the box or more in it, as an IoU of 0.5
    needs, has the centre in it too: only boxes whose centre lies within the bounds of a quad come into question.
    """
    corners = torch.from_numpy(np.ascontiguousarray(quads, np.float64))
    quad_area, box_area = quad_areas(corners).numpy(), boxes[:, 2] * boxes[:, 3]
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for i, j in _centres_within(boxes, quads, group1, group2):
        alike = np.minimum(box_area[i], quad_area[j]) >= (LOWEST_IOU - 1e-9) * np.maximum(box_area[i], quad_area[j])
        i, j = i[alike], j[alike]
        pairs = Rectangles.of(torch.from_numpy(boxes[i])), corners[torch.from_numpy(j)]
        iou = box_quad_iou(*pairs, torch.from_numpy(quad_area[j])).numpy()
        hit = iou >= LOWEST_IOU
        parts.append((i[hit], j[hit], iou[hit]))
    one, two, iou = (np.concatenate(column) for column in zip(*parts, strict=True))
    return one, two, iou


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
    one, two, iou = iou_pairs(predictions.boxes, truths.quads, predictions.images, truths.images)
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
