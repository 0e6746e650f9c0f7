"""Overlap of oriented boxes with quadrilaterals, and of these with each other: exact, pair by pair.

Truth is often drawn as four free corners, and DOTA's development kit measures overlap with that outline itself, not
with a box around it.
"""

from __future__ import annotations

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from torch import Tensor

from legnet_cli.ops.iou import Rectangles, mean_clamped

_CLIP_CHUNK = {"cpu": 1 << 13, "cuda": 1 << 21}  # pairs clipped at once: they stay in the caches of a CPU

_ROUNDING = 1e-5  # share of a box that its quad may lack


def quad_areas(quads: Tensor) -> Tensor:
    """Areas (n,) of (n, 4, 2) quadrilaterals whose sides do not cross."""
    x, y = (quads - quads[:, :1]).unbind(2)  # from a corner: far from the origin products would lose digits
    return ((x * y.roll(-1, 1) - y * x.roll(-1, 1)).sum(1) / 2).abs()


def fill_boxes(boxes: NDArray[np.float64], quads: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of (n, 4, 2) quads are the rectangles of their smallest boxes (n, 5), but for rounding: (n,)."""
    areas = quad_areas(torch.from_numpy(np.ascontiguousarray(quads))).numpy()
    return np.asarray(areas >= (1 - _ROUNDING) * boxes[:, 2] * boxes[:, 3])


def box_quad_iou(boxes: Rectangles, quads: Tensor, areas: Tensor) -> Tensor:
    """Intersection over union (k,) of aligned pairs of boxes and (k, 4, 2) quads of ``areas`` (k,), all float64."""
    size = _CLIP_CHUNK.get(quads.device.type, _CLIP_CHUNK["cpu"])
    parts = [quads.new_zeros(0)]
    for columns in zip(*(torch.split(column, size) for column in (*boxes, quads, areas)), strict=True):
        box, quad, area = Rectangles(*columns[:6]), columns[6], columns[7]
        shared = torch.minimum(_intersection(box, quad), torch.minimum(box.w * box.h, area))
        parts.append(shared / (box.w * box.h + area - shared).clamp(min=1e-100))
    return torch.cat(parts)


def quad_iou(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union (k,) of aligned pairs of (k, 4, 2) quadrilaterals, convex or not; 0 without area."""
    shapes = [shapely.polygons(quads) for quads in (one, two)]
    shapes = [np.where(shapely.is_valid(some), some, shapely.make_valid(some)) for some in shapes]
    shared = shapely.area(shapely.intersection(*shapes))
    union = shapely.area(shapes[0]) + shapely.area(shapes[1]) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros(len(one)), where=union > 0))


def _intersection(box: Rectangles, quads: Tensor) -> Tensor:
    """Areas of intersection (k,).

    In the frame of the box, an upright rectangle |x| <= W, |y| <= H, the area is the sum over the sides of the quad
    of the integral of y(x), clamped to [-H, H], along the part of the side within |x| <= W; its sign is the sense in
    which the corners go round.
    """
    dx, dy = (quads[..., 0] - box.cx[:, None]).T, (quads[..., 1] - box.cy[:, None]).T
    x, y = dx * box.cos + dy * box.sin, dy * box.cos - dx * box.sin
    half_w, half_h = box.w / 2, box.h / 2
    run, rise = x.roll(-1, 0) - x, y.roll(-1, 0) - y
    slope = torch.where(run == 0, 0.0, rise / run)
    begin, end = x.clamp(-half_w, half_w), (x + run).clamp(-half_w, half_w)
    y0, y1 = y + (begin - x) * slope, y + (end - x) * slope
    return ((end - begin) * mean_clamped(y0, y1, half_h)).sum(0).abs()
