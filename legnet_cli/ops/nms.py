"""Greedy non-maximum suppression of upright and of oriented boxes, in linear memory.

A box is suppressed by a better one that is itself kept. The boxes are taken in blocks of falling score: the pairs of
a block that overlap too much are found by a sweep (:mod:`legnet_cli.ops.pairs`), resolved among themselves, and
what is kept then suppresses all that follow. A block is as large as the number of pairs to try allows: spread boxes
are one block, dense clusters shrink from block to block. The outcome is that of the sequential loop, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from legnet_cli.ops.iou import Rectangles, finite_rows, intersection_bound, paired_iou
from legnet_cli.ops.pairs import Runs, cross_pairs, self_runs

# Pairs of entries to try in one block: a constant, and for each box that is left, so that blocks stay few.
_BLOCK_PAIRS = {"cpu": 1 << 18, "cuda": 1 << 22}
_BOX_PAIRS = 8
_MIN_BLOCK = 512
# Rounds of resolving all boxes at once before the rest, long chains of boxes, is resolved one by one.
_ROUNDS = 32
# Slack of the quick tests, far above rounding errors: a pair near the threshold is always computed in full.
_SLACK = 1e-6

# From aligned pairs (k,), (k,) of box indices, the better box first, those that overlap too much.
PairTest = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


@torch.no_grad()
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None, offset: int = 0) -> Tensor:
    """Greedy NMS of upright boxes.

    Args:
        boxes: (n, 4) x1, y1, x2, y2 in pixels.
        scores: (n,); of equal scores the first box goes first.
        iou_threshold: a box is dropped if its IoU with a better box that is kept is greater, in [0, 1].
        labels: (n,) integers; boxes of different labels leave each other alone.
        offset: added to widths and heights, 1 where x2, y2 are inclusive pixel numbers.

    Returns:
        (k,) int64 indices of the kept boxes by falling score. Boxes or scores that are not finite are dropped.

    Raises:
        ValueError: if ``iou_threshold`` is not in [0, 1].
    """
    order, group, groups = _ranking(boxes, scores, iou_threshold, labels)
    ends = boxes[order].double()
    ends[:, 2:] += offset
    x1, y1, x2, y2 = ends.unbind(1)
    area = (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)

    def too_close(i: Tensor, j: Tensor) -> tuple[Tensor, ...]:
        ends_i, ends_j = ends.index_select(0, i), ends.index_select(0, j)
        common = torch.minimum(ends_i[:, 2:], ends_j[:, 2:]) - torch.maximum(ends_i[:, :2], ends_j[:, :2])
        width, height = common.clamp_(min=0).unbind(1)
        shared = width * height
        union = area.index_select(0, i) + area.index_select(0, j) - shared
        return _where(shared / union > iou_threshold, i, j)

    # each box shares more than the threshold of its width and height: near ends are within the rest of each other
    reach = 1 - iou_threshold + _SLACK
    bounds = torch.stack([x1, y1, x1 + (x2 - x1) * reach, y1 + (y2 - y1) * reach], 1)
    return order[_greedy(bounds, area > 0, group, groups, too_close)]


@torch.no_grad()
def nms_rotated(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    labels: Tensor | None = None,
    mode: Literal["iou", "ios"] = "iou",
    clockwise: bool = True,
) -> Tensor:
    """Greedy NMS of oriented boxes.

    Args:
        boxes: (n, 5) ``cx, cy, w, h, angle``, pixels and radians.
        scores: (n,); of equal scores the first box goes first.
        iou_threshold: a box is dropped if its overlap with a better box that is kept is greater, in [0, 1].
        labels: (n,) integers; boxes of different labels leave each other alone.
        mode: intersection over ``iou`` the union, ``ios`` the smaller area.
        clockwise: sense of positive angles on a screen with y down.

    Returns:
        (k,) int64 indices of the kept boxes by falling score. Boxes or scores that are not finite are dropped.

    Raises:
        ValueError: if ``iou_threshold`` is not in [0, 1], or for another mode.
    """
    if mode not in ("iou", "ios"):
        raise ValueError(f"mode must be iou or ios, not {mode!r}")
    order, group, groups = _ranking(boxes, scores, iou_threshold, labels)
    ranked = Rectangles.of(boxes[order], clockwise)
    area = ranked.w * ranked.h
    low = iou_threshold * (1 - _SLACK)

    def too_close(i: Tensor, j: Tensor) -> tuple[Tensor, ...]:
        area_i, area_j = area.index_select(0, i), area.index_select(0, j)
        small = torch.minimum(area_i, area_j)
        if mode == "iou":  # the area that must be shared at least, and the most that can be
            needed = (area_i + area_j) * (low / (1 + low))
            i, j, needed = _where(small >= needed, i, j, needed)
        else:
            needed = small * low
        a, b = ranked.take(i), ranked.take(j)
        i, j, *columns = _where(intersection_bound(a, b) >= needed, i, j, *a, *b)
        a, b = Rectangles(*columns[:6]), Rectangles(*columns[6:])
        return _where(paired_iou(a, b, mode) > iou_threshold, i, j)

    x1, y1, x2, y2 = ranked.bounds().unbind(1)
    reach = reach_of(iou_threshold) if mode == "iou" else 1.0
    bounds = torch.stack([x1, y1, x1 + (x2 - x1) * reach, y1 + (y2 - y1) * reach], 1)
    return order[_greedy(bounds, area > 0, group, groups, too_close)]


def _where(mask: Tensor, *columns: Tensor) -> tuple[Tensor, ...]:
    """The values of ``columns`` where ``mask`` is true."""
    found = mask.nonzero().squeeze(1)
    return tuple(column.index_select(0, found) for column in columns)


def reach_of(threshold: float) -> float:
    """How far the near ends of two boxes can be apart along an axis, in widths of the nearer box's bounds.

    More than the threshold of each box's area lies beyond the other's near end. The cross sections of a rectangle
    along an axis are between a flat profile (upright) and a triangle (a square on its tip).
    """
    return max(1 - threshold, math.sqrt((1 - threshold) / 2)) + _SLACK


def _ranking(boxes: Tensor, scores: Tensor, threshold: float, labels: Tensor | None) -> tuple[Tensor, Tensor, int]:
    """Finite boxes by falling score (n,), their groups (n,) numbered from 0, and how many groups there are."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"iou_threshold must be in [0, 1], not {threshold}")
    sound = (finite_rows(boxes) & scores.isfinite()).nonzero().squeeze(1)
    order = sound[scores[sound].sort(descending=True, stable=True)[1]]
    if labels is None:
        return order, torch.zeros_like(order), 1
    values, group = torch.unique(labels[order], return_inverse=True)
    return order, group, len(values)


def _greedy(bounds: Tensor, solid: Tensor, group: Tensor, groups: int, too_close: PairTest) -> Tensor:
    """Which boxes are kept (n,), of boxes in order of falling score.

    Args:
        bounds: (n, 4) x1, y1, x2, y2; only boxes whose bounds touch can be too close.
        solid: (n,) whether a box has an area; one that has none is kept and suppresses nothing.
        group: (n,) boxes of different groups are never too close.
        groups: number of groups.
        too_close: the pairs, of those given, that overlap too much.
    """
    keep = torch.ones_like(solid)
    alive = solid.nonzero().squeeze(1)
    while len(alive):
        size, runs = _first_block(bounds, group, groups, alive)
        block, rest = alive[:size], alive[size:]
        close = [too_close(block[torch.minimum(i, j)], block[torch.maximum(i, j)]) for i, j in runs.pairs()]
        if close:
            first, second = (torch.cat(column) for column in zip(*close, strict=True))
            _resolve(keep, first, second)
        if not len(rest):
            break
        best = block[keep[block]]
        for i, j in cross_pairs(bounds[best], bounds[rest], group[best], group[rest], groups):
            i, j = _where(keep[rest[j]], best[i], rest[j])
            keep[too_close(i, j)[1]] = False
        alive = rest[keep[rest]]
    return keep


def _first_block(bounds: Tensor, group: Tensor, groups: int, alive: Tensor) -> tuple[int, Runs]:
    """How many of the best boxes to resolve at once, and the pairs of these whose bounds touch."""
    size = len(alive)
    limit = _BLOCK_PAIRS.get(bounds.device.type, _BLOCK_PAIRS["cpu"]) + _BOX_PAIRS * size
    while True:
        block = alive[:size]
        runs = self_runs(bounds[block], group[block], groups)
        if runs.total <= limit or size <= _MIN_BLOCK:
            return size, runs
        size = max(_MIN_BLOCK, int(0.9 * size * math.sqrt(limit / runs.total)))


def _resolve(keep: Tensor, i: Tensor, j: Tensor) -> None:
    """Clear in ``keep`` (n,) the boxes that lose: each i of the pairs (k,), (k,) suppresses its j > i if i is kept."""
    for _ in range(_ROUNDS):
        if not len(i):
            return
        contested = torch.zeros_like(keep)
        contested[j] = True
        won = ~contested[i]
        keep[j[won]] = False
        i, j = _where(~won & keep[i] & keep[j], i, j)
    order = i.argsort()
    flags = keep.tolist()
    for first, second in zip(i[order].tolist(), j[order].tolist(), strict=True):
        if flags[first]:
            flags[second] = False
    keep.copy_(torch.tensor(flags))
