"""Fusion of what several views of one image found, or several models: weighted boxes fusion of oriented boxes, or NMS.

Of each class the boxes that greedy NMS keeps are seeds. A box of another view that overlaps a seed enough is the same
object; of a view only the best counts. Solovyev et al., "Weighted boxes fusion" (Image and Vision Computing 107, 2021)
has the mean; here it is of oriented boxes, and of all boxes of an object at once, so that no order of views matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.boxes import Array, Detections, to_le90
from legnet_cli.ops.iou import candidate_pairs, rotated_iou, valid_boxes
from legnet_cli.ops.nms import nms_rotated

Fusion = Literal["wbf", "nms"]

SEED_IOU = 0.1  # over it two boxes of a class are one object, as in the NMS of all recipes
# from it on a box counts for its seed, chosen on validation images of HIT-UAV; the others that a seed removes go
MEMBER_IOU = 0.3
_QUARTER = np.pi / 2


def fuse_views(found: Sequence[Detections], expected: NDArray[np.int64], how: Fusion = "wbf") -> Detections:
    """One set of boxes from those of several views, best score first; ``views`` are the shares that found each.

    With ``wbf`` centre, sides and angle of an object are the means of its boxes, weighted by score, and its score is
    the mean over all views that could see it, zero where one did not find it: it falls where views disagree. With
    ``nms`` the best box of an object stays as it is. Equal scores rank by label, sides, angle and centre: first by
    what stays when the image is turned. The result does not depend on the order of ``found``. Boxes that are not
    finite or have no area are dropped.

    Args:
        found: boxes in pixels of the same image, which in each view overlap others of their class by little.
        expected: (classes,) how many of the views know a class.
        how: the rule.
    """
    view = np.repeat(np.arange(len(found)), [len(part) for part in found])
    boxes = Detections.concat(list(found))
    x, y, w, h, angle = boxes.boxes.T
    order = np.lexsort((x, y, angle, h, w, boxes.labels, -boxes.scores.astype(np.float64)))
    order = order[valid_boxes(torch.from_numpy(boxes.boxes)).numpy()[order]]
    boxes, view = boxes[order], view[order]
    geometry, scores, labels = (torch.from_numpy(part) for part in (boxes.boxes, boxes.scores, boxes.labels))
    seeds = boxes[nms_rotated(geometry, scores, SEED_IOU, labels).numpy()]
    owner = _owners(seeds, boxes)
    # of a view the best box of each object: the first, for they are sorted; in the order of boxes, not of views
    _, first = np.unique(owner * len(found) + view, return_index=True)
    first = np.sort(first[owner[first] >= 0])
    owner, members = owner[first], boxes[first]
    could = expected[seeds.labels]
    shares = (np.bincount(owner, minlength=len(seeds)) / could).astype(np.float32)
    if how == "nms":
        return Detections(seeds.boxes, seeds.scores, seeds.labels, views=shares)
    total = np.bincount(owner, members.scores, len(seeds))
    mean = _weighted_mean(seeds.boxes, members.boxes, owner, members.scores / total[owner])
    fused = Detections(mean, (total / could).astype(np.float32), seeds.labels, views=shares)
    return fused[np.argsort(-fused.scores, kind="stable")]


def _owners(seeds: Detections, boxes: Detections) -> NDArray[np.int64]:
    """For each of ``boxes`` the seed (n,) of its class that it overlaps most, ``MEMBER_IOU`` at least; -1 for none."""
    one, two = torch.from_numpy(seeds.boxes), torch.from_numpy(boxes.boxes)
    pairs = [np.zeros((3, 0))]
    for i, j in candidate_pairs(one, two):
        same = seeds.labels[i.numpy()] == boxes.labels[j.numpy()]
        i, j = i[same], j[same]
        ious = rotated_iou(one[i], two[j], aligned=True).numpy()
        close = ious >= MEMBER_IOU
        pairs.append(np.stack([i.numpy()[close], j.numpy()[close], ious[close]]))
    seed, box, iou = np.concatenate(pairs, 1)
    order = np.lexsort((-seed, iou))  # the last one that is put down stays: the closest, of equal ones the best seed
    owner = np.full(len(boxes), -1, np.int64)
    owner[box[order].astype(np.int64)] = seed[order].astype(np.int64)
    return owner


def _weighted_mean(seeds: Array, boxes: Array, owner: NDArray[np.int64], weights: Array) -> Array:
    """Boxes (k, 5) that are means of ``boxes`` (n, 5) around their ``seeds`` (k, 5); weights of a seed sum to 1.

    The same rectangle is ``w, h`` at an angle and ``h, w`` at a right angle to it: what lies within 45 degrees of the
    seed counts, so that near-squares are not averaged across their corners. Angles are averaged on the double circle.
    """
    near = seeds[owner]
    turn = boxes[:, 4] - near[:, 4]
    quarters = np.round(turn / _QUARTER)
    turn -= quarters * _QUARTER
    sides = np.where(quarters[:, None] % 2 == 0, boxes[:, 2:4], boxes[:, 3:1:-1])
    shift = np.concatenate([boxes[:, :2], sides], 1) - near[:, :4]
    columns = [*shift.T, np.sin(2 * turn), np.cos(2 * turn)]
    *shifts, sin, cos = (np.bincount(owner, weights * column, len(seeds)) for column in columns)
    return to_le90(seeds + np.stack([*shifts, np.arctan2(sin, cos) / 2], 1))
