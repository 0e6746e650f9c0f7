"""Rotated feature align of R3Det (arXiv 1908.05612): add to every pixel what lies under its refined box.

The values are those of mmcv's ``rotated_feature_align``, of which published weights expect one oddity: the first
column of a box, its x, is taken along the height of the map, and the second along its width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legnet_cli.ops.sampling import clamped_corners, cross, feature_rows, gather_rows, rows_to_features, scatter_rows_


@dataclass(frozen=True)
class AlignPlan:
    """Which rows each pixel of a map adds to itself: ``index`` (int64) and ``weight``, both (N * H * W, K)."""

    index: Tensor
    weight: Tensor

    def apply(self, features: Tensor) -> Tensor:
        """(N, C, H, W) features plus their samples, channels-last in memory."""
        rows = feature_rows(features)
        return rows_to_features(rows + gather_rows(rows, self.index, self.weight), features.shape)

    def transpose(self, grad: Tensor) -> Tensor:
        """Gradient of :meth:`apply`'s result to that of its features, (N, C, H, W)."""
        rows = feature_rows(grad)
        out = rows.to(torch.promote_types(rows.dtype, torch.float32), copy=True)
        return rows_to_features(scatter_rows_(out, rows, self.index, self.weight), grad.shape)


def align_plan(boxes: Tensor, shape: torch.Size, spatial_scale: float, points: int) -> AlignPlan:
    """Where each pixel samples its box.

    Args:
        boxes: (N * H * W, 5) or (N, H, W, 5) ``cx, cy, w, h, angle`` in image pixels and radians, one a pixel.
        shape: N, C, H, W of the features.
        spatial_scale: feature pixels to an image pixel, as 1 / stride.
        points: 1 samples the centre of the box, 5 its corners too.

    Raises:
        ValueError: when ``points`` is neither 1 nor 5.
    """
    if points not in (1, 5):
        raise ValueError(f"points must be 1 or 5, not {points}")
    n, _, height, width = shape
    boxes = boxes.reshape(-1, 5)
    boxes = boxes if boxes.dtype == torch.float64 else boxes.float()
    y, x, w, h = (boxes[:, :4] * spatial_scale).T[..., None]
    cos, sin = boxes[:, 4:].cos() / 2, boxes[:, 4:].sin() / 2
    # the centre, then the corners
    side_w, side_h = boxes.new_tensor([[0, 1, -1, -1, 1], [0, 1, 1, -1, -1]])[:, :points]
    x, y = x + w * cos * side_w - h * sin * side_h, y + w * sin * side_w + h * cos * side_h
    index, weight = cross(clamped_corners(y, height), clamped_corners(x, width), width)
    first_row = torch.arange(n, device=boxes.device).mul_(height * width).repeat_interleave(height * width)
    return AlignPlan(index.flatten(1) + first_row[:, None], weight.flatten(1))
