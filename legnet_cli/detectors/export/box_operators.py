"""The box arithmetic of the detectors as ONNX operators: what ``fast.decoding`` and ``ops`` do in PyTorch.

Boxes are ``cx, cy, w, h, angle`` in pixels and radians, ``le90``. Sizes that depend on the image stay dynamic, and
no step holds a number for each pair of boxes: memory is bounded by blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from legnet_cli.detectors.export.onnx_builder import Value
from legnet_cli.detectors.fast.decoding import MAX_LOG_RATIO
from legnet_cli.ops.nms import reach_of

_TINY = 1e-30


def le90(angle: Value) -> Value:
    """The same direction, as an angle in [-pi/2, pi/2)."""
    return angle - ((angle + math.pi / 2) * (1 / math.pi)).op("Floor") * math.pi


def to_le90(boxes: Sequence[Value]) -> list[Value]:
    """Five columns of boxes whose ``angle`` turns the side called w, as the same rectangles in ``le90``."""
    cx, cy, w, h, angle = boxes
    angle = le90((w < h).where(angle + math.pi / 2, angle))
    return [cx, cy, w.op("Max", h), w.op("Min", h), angle]


def decode_midpoint_offsets(centre: Value, size: Value, offsets: Value) -> list[Value]:
    """Five columns (...) of boxes from anchors (..., 2), (..., 2) and offsets (..., 6)."""
    dx, dy, dw, dh, da, db = offsets.columns(-1, 6)
    (x, y), (anchor_w, anchor_h) = centre.columns(-1, 2), size.columns(-1, 2)
    cx, cy = x + anchor_w * dx, y + anchor_h * dy
    w = anchor_w * dw.clip(-MAX_LOG_RATIO, MAX_LOG_RATIO).op("Exp")
    h = anchor_h * dh.clip(-MAX_LOG_RATIO, MAX_LOG_RATIO).op("Exp")
    top_x, top_y = w * da.clip(-0.5, 0.5), h * -0.5
    right_x, right_y = w * 0.5, h * db.clip(-0.5, 0.5)
    top_length, right_length = length(top_x, top_y), length(right_x, right_y)
    longest = top_length.op("Max", right_length)
    stretch_top, stretch_right = longest / top_length, longest / right_length
    top_x, top_y = top_x * stretch_top, top_y * stretch_top
    right_x, right_y = right_x * stretch_right, right_y * stretch_right
    first_x, first_y, second_x, second_y = right_x - top_x, right_y - top_y, right_x + top_x, right_y + top_y
    first, second = length(first_x, first_y), length(second_x, second_y)
    along = first > second
    along_x, along_y = along.where(first_x, second_x), along.where(first_y, second_y)
    # a side has no sense of direction: the arc tangent of the slope is enough, and ONNX has no other
    steep = along_x.op("Abs") < _TINY
    slope = along_y / steep.where(along_x.op("Abs") + _TINY, along_x)
    return [cx, cy, first.op("Max", second), first.op("Min", second), le90(slope.op("Atan"))]


def length(x: Value, y: Value) -> Value:
    """Length of vectors."""
    return (x * x + y * y).op("Sqrt")


def decode_upright(centre: Value, size: Value, offsets: Value, height: Value, width: Value) -> list[Value]:
    """Columns x1, y1, x2, y2 (...) from anchors (..., 2), (..., 2) and offsets (..., 4), inside the image."""
    dx, dy, dw, dh = offsets.columns(-1, 4)
    (x, y), (anchor_w, anchor_h) = centre.columns(-1, 2), size.columns(-1, 2)
    cx, cy = x + anchor_w * dx, y + anchor_h * dy
    half_w = anchor_w * dw.clip(-MAX_LOG_RATIO, MAX_LOG_RATIO).op("Exp") * 0.5
    half_h = anchor_h * dh.clip(-MAX_LOG_RATIO, MAX_LOG_RATIO).op("Exp") * 0.5
    ends = [cx - half_w, cy - half_h, cx + half_w, cy + half_h]
    zero, limits = cx.graph.constant(0.0, "f"), [side.cast("f") for side in (width, height)]
    return [end.clip(zero, limits[axis % 2]) for axis, end in enumerate(ends)]


def decode_box_offsets(boxes: Sequence[Value], offsets: Sequence[Value]) -> list[Value]:
    """Boxes moved and resized by offsets in the box's own axes, all five columns (n,)."""
    (cx, cy, w, h, angle), (dx, dy, dw, dh, da) = boxes, offsets
    along, across, cos, sin = dx * w, dy * h, angle.op("Cos"), angle.op("Sin")
    cx, cy = cx + along * cos - across * sin, cy + along * sin + across * cos
    w = w * dw.clip(-MAX_LOG_RATIO, MAX_LOG_RATIO).op("Exp")
    h = h * dh.clip(-MAX_LOG_RATIO, MAX_LOG_RATIO).op("Exp")
    return to_le90([cx, cy, w, h, angle + da])


def clip_centres(boxes: Sequence[Value], height: Value, width: Value) -> list[Value]:
    """Five columns of boxes whose centres are kept inside ``height`` × ``width`` (1,)."""
    cx, cy, *rest = boxes
    zero = cx.graph.constant(0.0, "f")
    return [cx.clip(zero, width.cast("f") - 1.0), cy.clip(zero, height.cast("f") - 1.0), *rest]


def bounds(boxes: Sequence[Value]) -> list[Value]:
    """Upright bounds x1, y1, x2, y2 of five columns of boxes."""
    cx, cy, w, h, angle = boxes
    cos, sin = angle.op("Cos").op("Abs") * 0.5, angle.op("Sin").op("Abs") * 0.5
    dx, dy = w * cos + h * sin, w * sin + h * cos
    return [cx - dx, cy - dy, cx + dx, cy + dy]


def anchors(index: Value, width: Value, stride: int, scales: Sequence[float], ratios: Sequence[float]) -> list[Value]:
    """Centres and sizes (..., 2) of the anchors numbered ``index`` on a map ``width`` (1,) pixels wide."""
    sides = np.array([s * stride for _ in ratios for s in scales])
    roots = np.sqrt(np.array([r for r in ratios for _ in scales]))
    table = index.graph.constant(np.stack([sides / roots, sides * roots], 1), "f")
    pixel = index / len(sides)
    centre = index.graph.stack([pixel % width, pixel / width], -1).cast("f") * float(stride)
    return [centre, table.take(index % len(sides))]


def paired_iou(one: Sequence[Value], two: Sequence[Value]) -> Value:
    """Exact IoU (k,) of aligned pairs; columns are ``cx, cy, w, h, cos, sin``. As ``ops.iou.paired_iou``."""
    graph = one[0].graph
    cx, cy, w, h, cos_a, sin_a = one
    other_x, other_y, other_w, other_h, cos_b, sin_b = two
    dx, dy = other_x - cx, other_y - cy
    x, y = dx * cos_a + dy * sin_a, dy * cos_a - dx * sin_a
    cos, sin = cos_a * cos_b + sin_a * sin_b, cos_a * sin_b - sin_a * cos_b
    half_w, half_h = w * 0.5, h * 0.5
    w_climbs = cos * sin >= 0.0
    cos, sin = cos.op("Abs"), sin.op("Abs")
    climb, fall = w_climbs.where(other_w, other_h), w_climbs.where(other_h, other_w)
    near, far = w_climbs.where(cos, sin), w_climbs.where(sin, cos)
    up_x, up_y, down_x, down_y = climb * near, climb * far, fall * far, -(fall * near)
    left, level = x - (up_x + down_x) * 0.5, y - (up_y + down_y) * 0.5
    run = graph.stack([up_x, down_x, up_x, down_x], 0)
    rise = graph.stack([up_y, down_y, up_y, down_y], 0)
    start_x = graph.stack([left, left + up_x, left + down_x, left], 0)
    start_y = graph.stack([level, level + up_y, level + down_y, level], 0)
    begin, end = start_x.clip(-half_w, half_w), (start_x + run).clip(-half_w, half_w)
    step = rise / run.op("Max", _TINY)
    y0, y1 = start_y + (begin - start_x) * step, start_y + (end - start_x) * step
    upper1, upper2, lower1, lower2 = ((end - begin) * _mean_clamped(y0, y1, half_h)).columns(0, 4)
    shared = (upper1 + upper2 - lower1 - lower2).op("Max", 0.0)
    area, other_area = w * h, other_w * other_h
    shared = shared.op("Min", area.op("Min", other_area))
    return shared / (area + other_area - shared).op("Max", _TINY)


def _mean_clamped(y0: Value, y1: Value, limit: Value) -> Value:
    c0, c1 = y0.clip(-limit, limit), y1.clip(-limit, limit)
    within, beyond = c1 - c0, (y1 - c1) - (y0 - c0)
    change = within + beyond
    total = c1 * beyond + within * ((y0 - c0) + (c0 + c1) * 0.5)
    flat = change.equals(0.0)
    return flat.where(c0, total / flat.where(change.op("Abs") + 1.0, change))


class RotatedNms:
    """Greedy NMS of boxes ranked by falling score, in blocks as in ``ops.nms``.

    Args:
        boxes: five columns (n,).
        group: (n,) int64; boxes of different groups leave each other alone.
        threshold: a box is dropped if its IoU with a better one that is kept is greater.
        block: boxes resolved at once.
    """

    def __init__(self, boxes: Sequence[Value], group: Value, threshold: float, block: int = 512) -> None:
        self._graph, self._group, self._threshold, self._block = group.graph, group, threshold, block
        x1, y1, x2, y2 = bounds(boxes)
        reach = reach_of(threshold)
        self._bounds = [x1, y1, x1 + (x2 - x1) * reach, y1 + (y2 - y1) * reach]
        cx, cy, w, h, angle = boxes
        self._columns = self._graph.stack([cx, cy, w, h, angle.op("Cos"), angle.op("Sin")], 0)

    def keep(self) -> Value:
        """Indices (k,) of the kept boxes in their order."""
        graph = self._graph
        alive = positions(self._group)
        none = alive.slice([0], [0])
        _, kept = graph.loop([alive, none], self._turn, alive.op("Size"))
        return kept

    def _turn(self, _: Value, state: list[Value]) -> tuple[Value, list[Value], list[Value]]:
        """Resolve the best boxes that are left, then drop what they suppress."""
        graph = self._graph
        alive, kept = state
        block, rest = alive.slice([0], [self._block]), alive.slice([self._block], [np.iinfo(np.int64).max])
        better, worse = self._close(block, block, ordered=True)
        best = block.op("Compress", self._resolve(block, better, worse), axis=0)
        _, dropped = self._close(best, rest, ordered=False)
        left = ones(rest).op("ScatterElements", dropped, zeros(dropped), axis=0).cast("b")
        rest = rest.op("Compress", left, axis=0)
        return (rest.op("Size") > 0), [rest, graph.concat([kept, best], 0)], []

    def _close(self, one: Value, two: Value, *, ordered: bool) -> tuple[Value, Value]:
        """Positions (k,) in ``one`` and in ``two`` of the pairs that overlap too much, (first, later) if ordered."""
        ends_one = [column.take(one).unsqueeze(1) for column in self._bounds]
        ends_two = [column.take(two).unsqueeze(0) for column in self._bounds]
        meet = self._group.take(one).unsqueeze(1).equals(self._group.take(two).unsqueeze(0))
        for low, high in ((0, 2), (1, 3)):
            meet = meet & (ends_one[low] <= ends_two[high]) & (ends_two[low] <= ends_one[high])
        if ordered:
            meet = meet & (positions(one).unsqueeze(1) < positions(two).unsqueeze(0))
        i, j = meet.op("NonZero").columns(0, 2)
        first = self._columns.take(one.take(i), 1).columns(0, 6)
        second = self._columns.take(two.take(j), 1).columns(0, 6)
        close = paired_iou(first, second) > self._threshold
        return i.op("Compress", close, axis=0), j.op("Compress", close, axis=0)

    def _resolve(self, block: Value, better: Value, worse: Value) -> Value:
        """Which boxes (m,) of a block are kept: the fixed point of "no better box that is kept is too close"."""
        everyone = ones(block).cast("b")

        def turn(_: Value, state: list[Value]) -> tuple[Value, list[Value], list[Value]]:
            before = state[0]
            losers = worse.op("Compress", before.take(better), axis=0)
            after = ones(block).op("ScatterElements", losers, zeros(losers), axis=0)
            changed = (after.equals(before.cast("i"))).op("Not").cast("i").op("ReduceMax", keepdims=0) > 0
            return changed, [after.cast("b")], []

        return self._graph.loop([everyone], turn)[0]


def positions(like: Value) -> Value:
    """0, 1, … for each entry of (n,)."""
    zero, one = like.graph.constant(0, "i"), like.graph.constant(1, "i")
    return like.graph.op("Range", zero, like.op("Size"), one)


def ones(like: Value) -> Value:
    """1 for each entry of (n,), int64."""
    return like.graph.constant([1], "i").op("Expand", like.op("Shape"))


def zeros(like: Value) -> Value:
    """0 for each entry of (n,), int64."""
    return like.graph.constant([0], "i").op("Expand", like.op("Shape"))
