"""How closely two detectors agree, box by box: PyTorch and the file exported from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.boxes import Array, Detections, boxes_to_polygons
from legnet_cli.engine.predict import TileDetector
from legnet_cli.ops.iou import rotated_iou

CONFIDENT = 0.1  # boxes over this score are compared
_SAME_OBJECT = 0.5  # IoU over which two boxes are compared in score and corners

_LEAST = np.array([-np.inf, -np.inf, 1.0, 1.0, -np.inf])  # of a box's columns


@dataclass(frozen=True)
class Tolerance:
    """How closely two detectors must agree.

    Attributes:
        iou, score: two boxes of a class match if their IoU is over ``iou`` and their scores differ by less than
            ``score``.
        share: of the boxes that must match one of the other side.
    """

    iou: float
    score: float
    share: float


# all but near ties, which rounding lets fall either way: a box for another, in the last NMS or among the proposals
STRICT = Tolerance(0.95, 0.01, 0.99)
TOLERANCES = {"fp32": STRICT, "fp16": Tolerance(0.9, 0.05, 0.95), "int8": Tolerance(0.5, 0.2, 0.9)}


@dataclass(frozen=True)
class Parity:
    """Agreement of two detectors on the same tiles; boxes are those that score over ``CONFIDENT``.

    Attributes:
        tiles: images compared.
        tolerance: what was asked for.
        boxes: how many, of the one and the other.
        matched: how many of these match one within ``tolerance``.
        strict: how many do within ``STRICT``.
        score: largest difference in score between a box and the one of its class with the highest IoU.
        corner: largest distance between their corners, pixels.
    """

    tiles: int
    tolerance: Tolerance
    boxes: tuple[int, int]
    matched: tuple[int, int]
    strict: tuple[int, int]
    score: float
    corner: float

    @property
    def share(self) -> float:
        """Share of boxes that match, on the side where it is lower; 1 where there are no boxes."""
        return min(m / n if n else 1.0 for m, n in zip(self.matched, self.boxes, strict=True))

    @property
    def passed(self) -> bool:
        """Whether enough boxes match."""
        return self.share >= self.tolerance.share


def measure_parity(
    reference: TileDetector, other: TileDetector, tiles: Sequence[NDArray[np.uint8]], tolerance: Tolerance
) -> Parity:
    """Run both detectors on each of the RGB tiles (H, W, 3)."""
    counts = np.zeros((3, 2), np.int64)
    worst = np.zeros(2)
    for tile in tiles:
        both = reference.detect(tile[None])[0], other.detect(tile[None])[0]
        for side, (one, two) in enumerate((both, both[::-1])):
            sure = one[one.scores > CONFIDENT]
            iou, gap = _nearness(sure, two)
            counts[0, side] += len(sure)
            for row, limits in enumerate((tolerance, STRICT), 1):
                counts[row, side] += ((iou > limits.iou) & (gap < limits.score)).any(1).sum()
            worst = np.maximum(worst, _differences(sure, two, iou))
    boxes, matched, strict = ((int(one), int(two)) for one, two in counts)
    return Parity(len(tiles), tolerance, boxes, matched, strict, float(worst[0]), float(worst[1]))


def _nearness(one: Detections, two: Detections) -> tuple[Array, Array]:
    """IoU, 0 between classes, and differences in score of all boxes of ``one`` and ``two``, both (n, m).

    Sides under a pixel are taken for one: the IoU of a box without area is 0, even with itself.
    """
    sides = [torch.from_numpy(np.maximum(found.boxes, _LEAST)) for found in (one, two)]
    iou = rotated_iou(*sides).numpy()
    gap = np.abs(one.scores[:, None].astype(np.float64) - two.scores)
    return np.where(one.labels[:, None] == two.labels, iou, 0.0), gap


def _differences(one: Detections, two: Detections, iou: Array) -> Array:
    """Largest difference in score and distance of corners between boxes of ``one`` and their best partners."""
    if iou.size == 0:
        return np.zeros(2)
    partner = iou.argmax(1)
    paired = iou.max(1) > _SAME_OBJECT
    if not paired.any():
        return np.zeros(2)
    left, right = one[paired], two[partner[paired]]
    ours, theirs = boxes_to_polygons(left.boxes), boxes_to_polygons(right.boxes)
    # the same rectangle may start at another of its corners
    turns = [np.linalg.norm(ours - np.roll(theirs, turn, 1), axis=2).max(1) for turn in range(4)]
    scores = np.abs(left.scores.astype(np.float64) - right.scores)
    return np.array([scores.max(), np.min(turns, 0).max()])
