"""IoU of oriented boxes from exact areas of intersection, pair by pair or all against all; of upright ones besides.

Boxes are (n, 5) ``cx, cy, w, h, angle`` in pixels and radians, of any angle. All sums run in float64, also for
half-precision input, so that coordinates of 1e5 pixels and boxes of a tenth of a pixel keep their digits. A box with
a value that is not finite, or a side that is not positive, has area 0 and overlaps nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from legnet_cli.ops.pairs import cross_pairs, self_runs

Mode = Literal["iou", "iof", "ios"]

# Pairs clipped at once: the intermediate values then stay in the caches of a CPU.
_CLIP_CHUNK = {"cpu": 1 << 13, "cuda": 1 << 19}
_NOISE = 1e-10  # share of the smaller box under which an intersection is rounding error
_HUGE = 1e100  # numbers above are taken for infinite


class Rectangles(NamedTuple):
    """Columns of oriented boxes, all (n,) float64; every side is 0 where the box is not valid."""

    cx: Tensor
    cy: Tensor
    w: Tensor
    h: Tensor
    cos: Tensor
    sin: Tensor

    @staticmethod
    def of(boxes: Tensor, clockwise: bool = True) -> Rectangles:
        """Columns of (n, 5) boxes; ``clockwise`` tells the sense of their angles on a screen with y down."""
        sound = valid_boxes(boxes)
        cx, cy, w, h, angle = boxes.double().where(sound[:, None], 0.0).unbind(1)
        sin = angle.sin() if clockwise else -angle.sin()
        return Rectangles(cx, cy, w, h, angle.cos(), sin)

    def take(self, index: Tensor) -> Rectangles:
        """The boxes an index array selects."""
        return Rectangles(*(column.index_select(0, index) for column in self))

    def bounds(self) -> Tensor:
        """Axis-aligned bounds (n, 4): x1, y1, x2, y2."""
        x = ((self.w * self.cos).abs() + (self.h * self.sin).abs()) / 2
        y = ((self.w * self.sin).abs() + (self.h * self.cos).abs()) / 2
        return torch.stack([self.cx - x, self.cy - y, self.cx + x, self.cy + y], 1)


def finite_rows(boxes: Tensor) -> Tensor:
    """Which rows of (n, k) boxes hold numbers that can be squared and summed: (n,) bool."""
    return (boxes.double().abs() < _HUGE).all(1)


def valid_boxes(boxes: Tensor) -> Tensor:
    """Which of (n, 5) boxes are finite with positive sides: (n,) bool."""
    return finite_rows(boxes) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)


def local_frame(a: Rectangles, b: Rectangles) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre x, y and cosine, sine of each ``b`` in the frame in which its partner ``a`` is upright at the origin."""
    dx, dy = b.cx - a.cx, b.cy - a.cy
    x, y = dx * a.cos + dy * a.sin, dy * a.cos - dx * a.sin
    return x, y, a.cos * b.cos + a.sin * b.sin, a.cos * b.sin - a.sin * b.cos


def intersection_bound(a: Rectangles, b: Rectangles) -> Tensor:
    """Upper bound (k,) of the areas of intersection of aligned pairs: upright in the frame of ``a``, b's bounds."""
    x, y, cos, sin = (value.abs() for value in local_frame(a, b))
    overlap_x = torch.minimum((a.w + b.w * cos + b.h * sin) / 2 - x, a.w)
    overlap_y = torch.minimum((a.h + b.w * sin + b.h * cos) / 2 - y, a.h)
    return overlap_x.clamp(min=0) * overlap_y.clamp(min=0)


def intersection(a: Rectangles, b: Rectangles) -> Tensor:
    """Exact areas of intersection (k,) of aligned pairs.

    In the frame of ``a``, an upright rectangle |x| <= W, |y| <= H, the area is the integral over |x| <= W of the
    height of ``b`` within |y| <= H: for each side of ``b``, of y(x) clamped to [-H, H], counted up for the two
    upper sides and down for the lower. Nothing is sorted or compared, so identical, touching and nested boxes need
    no care.
    """
    x, y, cos, sin = local_frame(a, b)
    half_w, half_h = a.w / 2, a.h / 2
    # from the leftmost corner one side climbs and one falls: which is w depends on the quadrant of the angle
    w_climbs = cos * sin >= 0
    cos, sin = cos.abs(), sin.abs()
    climb, fall = torch.where(w_climbs, b.w, b.h), torch.where(w_climbs, b.h, b.w)
    near, far = torch.where(w_climbs, cos, sin), torch.where(w_climbs, sin, cos)
    up_x, up_y, down_x, down_y = climb * near, climb * far, fall * far, -fall * near
    left, level = x - (up_x + down_x) / 2, y - (up_y + down_y) / 2
    # sides: upper climbing, upper falling, lower climbing, lower falling
    run = torch.stack([up_x, down_x, up_x, down_x])
    rise = torch.stack([up_y, down_y, up_y, down_y])
    start_x = torch.stack([left, left + up_x, left + down_x, left])
    start_y = torch.stack([level, level + up_y, level + down_y, level])
    begin, end = start_x.clamp(-half_w, half_w), (start_x + run).clamp(-half_w, half_w)
    step = rise / run.clamp(min=1e-30)
    y0, y1 = start_y + (begin - start_x) * step, start_y + (end - start_x) * step
    area = (end - begin) * mean_clamped(y0, y1, half_h)
    return (area[0] + area[1] - area[2] - area[3]).clamp(min=0)


def mean_clamped(y0: Tensor, y1: Tensor, limit: Tensor) -> Tensor:
    """Mean of y clamped to [-limit, limit] as it goes evenly from y0 to y1, without loss of digits."""
    c0, c1 = y0.clamp(-limit, limit), y1.clamp(-limit, limit)
    within, beyond = c1 - c0, (y1 - c1) - (y0 - c0)
    change = within + beyond
    total = c1 * beyond + within * ((y0 - c0) + (c0 + c1) / 2)
    return torch.where(change == 0, c0, total / change)


def paired_iou(a: Rectangles, b: Rectangles, mode: Mode) -> Tensor:
    """IoU (k,) float64 of aligned pairs; ``mode`` as in :func:`rotated_iou`."""
    if mode not in ("iou", "iof", "ios"):
        raise ValueError(f"mode must be iou, iof or ios, not {mode!r}")
    size = _CLIP_CHUNK.get(a.w.device.type, _CLIP_CHUNK["cpu"])
    parts = []
    for columns in zip(*(torch.split(column, size) for column in (*a, *b)), strict=True):
        parts.append(paired_iou_at_once(Rectangles(*columns[:6]), Rectangles(*columns[6:]), mode))
    return torch.cat(parts)


def paired_iou_at_once(one: Rectangles, two: Rectangles, mode: Mode = "iou") -> Tensor:
    """:func:`paired_iou` without chunks."""
    area1, area2 = one.w * one.h, two.w * two.h
    small = torch.minimum(area1, area2)
    shared = torch.minimum(intersection(one, two), small)
    whole = {"iou": area1 + area2 - shared, "iof": area1, "ios": small}[mode]
    return torch.where(shared > _NOISE * small, shared / whole, 0.0)


def candidate_pairs(
    boxes1: Tensor, boxes2: Tensor | None = None, *, clockwise: bool = True
) -> Iterator[tuple[Tensor, Tensor]]:
    """Index pairs i, j of oriented boxes whose axis-aligned bounds touch, in chunks (k,), (k,) int64.

    Args:
        boxes1: (n, 5).
        boxes2: (m, 5); where None, the unordered pairs i != j within ``boxes1``.
        clockwise: sense of positive angles on the screen.

    Boxes that are not valid are in no pair. Memory is linear in n + m, however many pairs there are.
    """
    sets = [boxes1] if boxes2 is None else [boxes1, boxes2]
    rows = [valid_boxes(boxes).nonzero().squeeze(1) for boxes in sets]
    if not all(len(row) for row in rows):
        return
    bounds = [Rectangles.of(boxes[row], clockwise).bounds() for boxes, row in zip(sets, rows, strict=True)]
    group = [torch.zeros_like(row) for row in rows]
    if boxes2 is None:
        chunks = self_runs(bounds[0], group[0], 1).pairs()
    else:
        chunks = cross_pairs(bounds[0], bounds[1], group[0], group[1], 1)
    for i, j in chunks:
        yield rows[0][i], rows[-1][j]


@torch.no_grad()
def rotated_iou(
    boxes1: Tensor, boxes2: Tensor, *, aligned: bool = False, mode: Mode = "iou", clockwise: bool = True
) -> Tensor:
    """Overlap of oriented boxes, in the dtype and on the device of ``boxes1``, without gradient.

    Args:
        boxes1: (n, 5) ``cx, cy, w, h, angle``, pixels and radians.
        boxes2: (m, 5); with ``aligned``, (n, 5).
        aligned: pair row with row instead of all with all.
        mode: intersection over ``iou`` the union, ``iof`` the area of ``boxes1``, ``ios`` the smaller area.
        clockwise: sense of positive angles on a screen with y down.

    Returns:
        (n, m), or (n,) with ``aligned``, in [0, 1]; 0 for boxes that are not finite or have no area.
    """
    a, b = Rectangles.of(boxes1, clockwise), Rectangles.of(boxes2, clockwise)
    if aligned:
        if len(boxes1) != len(boxes2):
            raise ValueError(f"aligned boxes must be as many on both sides, not {len(boxes1)} and {len(boxes2)}")
        return paired_iou(a, b, mode).to(boxes1.dtype)
    matrix = boxes1.new_zeros(len(boxes1), len(boxes2))
    for i, j in candidate_pairs(boxes1, boxes2, clockwise=clockwise):
        matrix[i, j] = paired_iou(a.take(i), b.take(j), mode).to(matrix.dtype)
    return matrix


def upright_iou(boxes: Tensor, others: Tensor, eps: float = 1e-6) -> Tensor:
    """IoU (n, m) of upright boxes (n, 4) and (m, 4) ``x1, y1, x2, y2``, equal to mmdet's to the last bit.

    Row by row, so that what is worked on stays in the cache: several times faster for objects against all anchors.
    Unions below ``eps`` count as that much.
    """
    x1, y1, x2, y2 = others.t().contiguous().unbind()
    areas = (x2 - x1) * (y2 - y1)
    out = boxes.new_empty(len(boxes), len(others))
    width, height = torch.empty_like(areas), torch.empty_like(areas)
    edge = torch.empty_like(areas)
    for row, box in zip(out, boxes.unbind(), strict=True):
        left, top, right, bottom = box.unbind()
        torch.sub(torch.minimum(x2, right, out=width), torch.maximum(x1, left, out=edge), out=width).clamp_(min=0)
        torch.sub(torch.minimum(y2, bottom, out=height), torch.maximum(y1, top, out=edge), out=height).clamp_(min=0)
        overlap = width.mul_(height)
        union = torch.add(areas, (right - left) * (bottom - top), out=height).sub_(overlap).clamp_(min=eps)
        torch.div(overlap, union, out=row)
    return out
