"""RoI align over upright and rotated boxes.

Each bin of a box is the mean of a grid of bilinear samples (Mask R-CNN's RoIAlign, arXiv 1703.06870; rotated as in
Detectron2). The values are those of mmcv's ``RoIAlign`` and ``RoIAlignRotated``; all samples of all boxes become
weighted sums of feature rows, see :mod:`legnet_cli.ops.sampling`.

Boxes that are not finite give zeros. Gradients flow to the features, not to the boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from legnet_cli.ops.sampling import (
    clamped_corners,
    cross,
    feature_rows,
    gather_rows,
    rows_to_features,
    scatter_rows_,
)

# weighted rows worked on at a time: on a CPU about what the cache holds, elsewhere a few hundred MB
_CPU_ENTRIES, _DEVICE_ENTRIES = 1 << 18, 1 << 24
# adaptive samples a bin and axis: only boxes far larger than any map would get more
_MOST_SAMPLES = 128


@dataclass(frozen=True)
class RoiPlan:
    """Where ``n`` boxes sample the rows of one or more feature maps.

    Attributes:
        boxes: (n, 5) float ``cx, cy, w, h, angle`` in pixels of their map, pixel centres at whole numbers,
            angle in radians counter-clockwise.
        first_row: (n, 1) int64, row of pixel (0, 0) of each box's map.
        height, width: size of each box's map; (n, 1) int64, or a number for all.
        output_size: bins along h and along w.
        sampling_ratio: samples a bin and axis; 0 takes one for each pixel or part of one.
    """

    boxes: Tensor
    first_row: Tensor
    height: Tensor | int
    width: Tensor | int
    output_size: tuple[int, int]
    sampling_ratio: int

    def pool(self, rows: Tensor) -> Tensor:
        """Average rows (R, C) over every bin: (n, bins_h * bins_w, C), bins line by line."""
        bins = self.output_size[0] * self.output_size[1]
        out = rows.new_zeros(len(self.boxes), bins, rows.shape[1])
        for which, grid in self._blocks():
            index, weight = self._entries(which, grid)
            out[which] = gather_rows(rows, index, weight).view(-1, bins, rows.shape[1])
        return out

    def unpool(self, grad: Tensor, size: int) -> Tensor:
        """Transpose of :meth:`pool`: gradient (n, bins, C) of its result to the gradient (size, C) of its rows."""
        out = grad.new_zeros(size, grad.shape[2], dtype=torch.promote_types(grad.dtype, torch.float32))
        for which, grid in self._blocks():
            scatter_rows_(out, grad[which].flatten(0, 1).contiguous(), *self._entries(which, grid))
        return out.to(grad.dtype)

    def _blocks(self) -> Iterator[tuple[slice | Tensor, tuple[int, int]]]:
        """Boxes with one sampling grid, a bounded number at a time."""
        groups: list[tuple[slice | Tensor, tuple[int, int]]] = [(slice(None), (self.sampling_ratio,) * 2)]
        if self.sampling_ratio <= 0:
            groups = self._adaptive_groups()
        bins = self.output_size[0] * self.output_size[1]
        limit = _CPU_ENTRIES if self.boxes.device.type == "cpu" else _DEVICE_ENTRIES
        for which, grid in groups:
            step = max(1, limit // (4 * bins * grid[0] * grid[1]))
            if isinstance(which, slice):
                for start in range(0, len(self.boxes), step):
                    yield slice(start, start + step), grid
            else:
                for start in range(0, len(which), step):
                    yield which[start : start + step], grid

    def _adaptive_groups(self) -> list[tuple[slice | Tensor, tuple[int, int]]]:
        """Box numbers by sampling grid."""
        bins = self.boxes.new_tensor([self.output_size[1], self.output_size[0]])
        grids = (self.boxes[:, 2:4] / bins).ceil().nan_to_num(0, 0, 0).clamp(0, _MOST_SAMPLES).long()
        code = grids[:, 1] * (_MOST_SAMPLES + 1) + grids[:, 0]
        pairs = ((value, divmod(value, _MOST_SAMPLES + 1)) for value in cast(list[int], torch.unique(code).tolist()))
        return [((code == value).nonzero()[:, 0], pair) for value, pair in pairs if min(pair) > 0]

    def _entries(self, which: slice | Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Row numbers and weights (m * bins, 4 * samples) of the boxes ``which``."""
        cx, cy, w, h, angle = self.boxes[which].T[..., None]
        unit_y, unit_x = unit_samples(self.output_size, grid, self.boxes)
        # written out rather than as a matrix product, which autocast and TF32 would round
        cos, sin = angle.cos(), angle.sin()
        y = torch.addcmul(cy, h * cos, unit_y).addcmul_(w * sin, unit_x, value=-1)
        x = torch.addcmul(cx, h * sin, unit_y).addcmul_(w * cos, unit_x)
        height = self.height[which] if isinstance(self.height, Tensor) else self.height
        width = self.width[which] if isinstance(self.width, Tensor) else self.width
        index, weight = cross(clamped_corners(y, height), clamped_corners(x, width), width)
        samples = grid[0] * grid[1]
        index += self.first_row[which, :, None]
        return index.view(-1, 4 * samples), weight.mul_(1 / samples).view(-1, 4 * samples)


def unit_samples(bins: tuple[int, int], grid: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Sample positions y, x in the unit box around 0, each (bins * samples,), bin by bin."""

    def axis(count: int) -> Tensor:
        return (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) / count - 0.5

    y = axis(bins[0] * grid[0]).view(bins[0], 1, grid[0], 1)
    x = axis(bins[1] * grid[1]).view(1, bins[1], 1, grid[1])
    shape = (bins[0], bins[1], grid[0], grid[1])
    return y.expand(shape).flatten(), x.expand(shape).flatten()


class _Pool(torch.autograd.Function):
    """:meth:`RoiPlan.pool` with its gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, plan: RoiPlan) -> Tensor:  # noqa: ANN401
        ctx.plan, ctx.size = plan, len(rows)
        return plan.pool(rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return ctx.plan.unpool(grad, ctx.size), None


def _pool(rows: Tensor, plan: RoiPlan) -> Tensor:
    return cast(Tensor, _Pool.apply(rows, plan))


def _to_pixels(rois: Tensor, scale: Tensor | float, aligned: bool) -> tuple[Tensor, Tensor]:
    """First two coordinates and sizes of boxes on their map, in at least float32."""
    rois = rois if rois.dtype == torch.float64 else rois.float()
    first = rois[:, 1:3] * scale - (0.5 if aligned else 0.0)
    size = rois[:, 3:5] * scale
    return first, size


def rotated_plan(
    rois: Tensor,
    height: Tensor | int,
    width: Tensor | int,
    first_row: Tensor,
    scale: Tensor | float,
    output_size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> RoiPlan:
    """Plan for rotated boxes (n, 6) ``image, cx, cy, w, h, angle``; see :func:`roi_align_rotated`, :class:`RoiPlan`."""
    centre, size = _to_pixels(rois, scale, aligned)
    if not aligned:
        size = size.clamp(min=1)
    angle = rois[:, 5:6].to(size.dtype)
    boxes = torch.cat([centre, size, -angle if clockwise else angle], 1)
    return RoiPlan(boxes, first_row, height, width, output_size, sampling_ratio)


def upright_plan(
    rois: Tensor,
    height: int,
    width: int,
    scale: float,
    output_size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
) -> RoiPlan:
    """Plan for upright boxes (n, 5) ``image, x1, y1, x2, y2``; see :func:`roi_align`, :class:`RoiPlan`."""
    low, high = _to_pixels(rois, scale, aligned)
    size = high - (rois[:, 1:3].to(high.dtype) * scale)
    if not aligned:
        size = size.clamp(min=1)
    boxes = torch.cat([low + size / 2, size, torch.zeros_like(size[:, :1])], 1)
    return RoiPlan(boxes, first_rows(rois, height, width), height, width, output_size, sampling_ratio)


def first_rows(rois: Tensor, height: int, width: int) -> Tensor:
    """Row (n, 1) of pixel (0, 0) of the image each box names in its first column."""
    return rois[:, :1].long() * (height * width)


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """Average-pool upright boxes.

    Args:
        features: (N, C, H, W); channels-last spares a copy.
        rois: (n, 5) ``image, x1, y1, x2, y2`` in image pixels.
        output_size: bins along y and x.
        spatial_scale: feature pixels to an image pixel, as 1 / stride.
        sampling_ratio: samples a bin and axis; 0 takes one for each feature pixel or part of one.
        aligned: shift by half a pixel, so that sampling is exact; False is the older form, with boxes of
            at least one pixel.

    Returns:
        (n, C, bins_y, bins_x), channels-last in memory.
    """
    _, _, height, width = features.shape
    plan = upright_plan(rois, height, width, spatial_scale, output_size, sampling_ratio, aligned)
    return _bins_to_maps(_pool(feature_rows(features), plan), output_size)


def roi_align_rotated(
    features: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
    clockwise: bool = False,
) -> Tensor:
    """Average-pool rotated boxes.

    Args:
        features: (N, C, H, W); channels-last spares a copy.
        rois: (n, 6) ``image, cx, cy, w, h, angle``, image pixels and radians.
        output_size: bins along h and w.
        spatial_scale: feature pixels to an image pixel, as 1 / stride.
        sampling_ratio: samples a bin and axis; 0 takes one for each feature pixel or part of one.
        aligned: as for :func:`roi_align`.
        clockwise: whether positive angles turn clockwise on the screen.

    Returns:
        (n, C, bins_h, bins_w), channels-last in memory.
    """
    _, _, height, width = features.shape
    start = first_rows(rois, height, width)
    plan = rotated_plan(rois, height, width, start, spatial_scale, output_size, sampling_ratio, aligned, clockwise)
    return _bins_to_maps(_pool(feature_rows(features), plan), output_size)


def _bins_to_maps(pooled: Tensor, output_size: tuple[int, int]) -> Tensor:
    n, _, channels = pooled.shape
    return rows_to_features(pooled.flatten(0, 1), torch.Size((n, channels, *output_size)))
