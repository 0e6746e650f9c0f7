"""IoU of oriented boxes with gradients, for the losses that maximise it, and the vertex sort mmcv's version needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from legnet_cli.ops.iou import Rectangles, intersection, local_frame, valid_boxes

# Relative tolerance, far above float64 rounding, within which two sides are taken to be parallel or to coincide.
_PARALLEL = 1e-9


def diff_rotated_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of aligned pairs of oriented boxes, differentiable in both.

    Args:
        boxes1: (..., 5) ``cx, cy, w, h, angle``, pixels and radians.
        boxes2: (..., 5), the same shape.

    Returns:
        (...) in [0, 1], in the dtype of ``boxes1``. Boxes that are not finite or have no area give 0 and no gradient.
        Gradients are finite everywhere; where the IoU has a kink (sides that coincide) they are a subgradient, 0 for
        identical boxes.
    """
    if boxes1.shape != boxes2.shape:
        raise ValueError(f"boxes must have one shape on both sides, not {[*boxes1.shape]} and {[*boxes2.shape]}")
    one, two = boxes1.reshape(-1, 5).double(), boxes2.reshape(-1, 5).double()
    sound = (valid_boxes(one) & valid_boxes(two))[:, None]
    one, two = torch.where(sound, one, 0.0), torch.where(sound, two, 0.0)
    shared: Tensor = _Intersection.apply(one, two)
    union = one[:, 2] * one[:, 3] + two[:, 2] * two[:, 3] - shared
    iou = shared / union.clamp(min=torch.finfo(union.dtype).tiny)
    return iou.to(boxes1.dtype).reshape(boxes1.shape[:-1])


class _Intersection(torch.autograd.Function):
    """Area of intersection (k,) of (k, 5) float64 boxes; its gradient is the length of side that each box lends it."""

    @staticmethod
    def forward(ctx: Any, boxes1: Tensor, boxes2: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(boxes1, boxes2)
        return intersection(Rectangles.of(boxes1), Rectangles.of(boxes2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        one, two = (Rectangles.of(boxes) for boxes in ctx.saved_tensors)
        return grad[:, None] * _gradient(one, two), grad[:, None] * _gradient(two, one)


def _gradient(box: Rectangles, other: Rectangles) -> Tensor:
    """Gradient (k, 5) of the area of intersection in ``box``.

    A stretch of a side of ``box`` that runs inside ``other`` bounds the intersection: moved outwards, it adds its
    length times the way moved.
    """
    begin, end, weight = _inner_sides(box, other)
    length = (end - begin).clamp(min=0) * weight
    right, left, bottom, top = length
    # turning moves a point of a side outwards by its distance along the side from the middle
    lever = length * (end + begin) / 2
    turn = lever[1] - lever[0] + lever[2] - lever[3]
    along, across = right - left, bottom - top
    move_x, move_y = along * box.cos - across * box.sin, along * box.sin + across * box.cos
    return torch.stack([move_x, move_y, (right + left) / 2, (bottom + top) / 2, turn], 1)


def _inner_sides(box: Rectangles, other: Rectangles) -> tuple[Tensor, Tensor, Tensor]:
    """The stretches of the sides of ``box`` inside ``other``: begin and end (4, k) from the middle, weight (4, k).

    Sides are right, left (along the axis of w), bottom, top (along that of h). The weight is 1, a half where the
    side lies on one of the other's, and 0 where it runs beside it.
    """
    x, y, cos, sin = local_frame(box, other)
    half_w, half_h = box.w / 2, box.h / 2
    at_x = torch.stack([half_w - x, -half_w - x, -x, -x])
    at_y = torch.stack([-y, -y, half_h - y, -half_h - y])
    zero = torch.zeros_like(x)
    reach = torch.stack([half_h, half_h, half_w, half_w])
    begin, end, weight = -reach, reach, torch.ones_like(reach)
    # along a side the other's coordinates are middle + slope * way: first that of its w, then that of its h
    first = at_x * cos + at_y * sin, torch.stack([sin, sin, cos, cos]), other.w / 2
    second = at_y * cos - at_x * sin, torch.stack([cos, cos, zero - sin, zero - sin]), other.h / 2
    for middle, slope, limit in (first, second):
        parallel = slope.abs() < _PARALLEL
        steep = torch.where(parallel, 1.0, slope)
        near, far = (-limit - middle) / steep, (limit - middle) / steep
        begin = torch.where(parallel, begin, torch.maximum(begin, torch.minimum(near, far)))
        end = torch.where(parallel, end, torch.minimum(end, torch.maximum(near, far)))
        beyond = middle.abs() - limit
        aside = torch.where(beyond.abs() <= _PARALLEL * (limit + reach), 0.5, (beyond < 0).double())
        weight = torch.where(parallel, weight * aside, weight)
    return begin, end, weight


def sort_vertices(vertices: Tensor, mask: Tensor, num_valid: Tensor) -> Tensor:
    """Order of the corners of convex polygons, as mmcv's differentiable IoU asks of its kernel.

    Args:
        vertices: (B, N, 24, 2) relative to each polygon's middle: the corners of two boxes, then 16 crossings.
        mask: (B, N, 24) which of these are corners of the polygon; corners may repeat.
        num_valid: (B, N) how many they are.

    Returns:
        (B, N, 9) int64: up to eight corners in the sense of growing angle, the first of them again, then an unused
        crossing (mmcv's are 0, 0) as filling. Fewer than three corners are all filling.
    """
    angle = torch.atan2(vertices[..., 1], vertices[..., 0]).masked_fill(~mask, torch.inf)
    order = angle.argsort(-1)
    count = num_valid.long().unsqueeze(-1)
    rank = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    # of more than eight corners some repeat: keep those furthest from the one before
    points = vertices.gather(-2, order.unsqueeze(-1).expand(*order.shape, 2))
    before = points.gather(-2, ((rank - 1) % count.clamp(min=1)).unsqueeze(-1).expand(*order.shape, 2))
    gap = (points - before).square().sum(-1).masked_fill(rank >= count, -1.0)
    chosen = gap.topk(8, -1)[1].sort(-1)[0]
    kept = count.clamp(max=8)
    corners = order.gather(-1, chosen)
    filling = mask[..., 8:].long().argmin(-1, keepdim=True) + 8
    closed = torch.cat([corners, filling], -1)
    place = torch.arange(9, device=order.device).expand_as(closed)
    closed = torch.where(place == kept, corners[..., :1], closed)
    return torch.where((place <= kept) & (count >= 3), closed, filling)
