"""Box arithmetic of Oriented R-CNN (arXiv 2108.05699), as mmrotate's: pure tensor functions.

Boxes are ``cx, cy, w, h, angle`` in pixels and radians, ``le90``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# log of the largest ratio between the sides of a box and of what it was decoded from
MAX_LOG_RATIO = abs(math.log(16 / 1000))


def anchor_boxes(
    index: Tensor, width: int, stride: int, scales: Sequence[float], ratios: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Centres and sizes, both (..., 2) float32 x, y, of the anchors numbered ``index``.

    Anchors are numbered line by line, all anchors of a pixel together (``ratios`` outside, ``scales`` inside), on a
    map of ``width`` pixels that are ``stride`` image pixels apart. Pixel (0, 0) lies at image position (0, 0).
    """
    scale = torch.tensor([s for _ in ratios for s in scales], device=index.device) * stride
    root = torch.tensor([r for r in ratios for _ in scales], device=index.device).sqrt()
    pixel = index // len(scale)
    centre = torch.stack([pixel % width, pixel // width], -1).float() * stride
    return centre, torch.stack([scale / root, scale * root], -1)[index % len(scale)]


def decode_midpoint_offsets(centre: Tensor, size: Tensor, offsets: Tensor) -> Tensor:
    """Oriented boxes (..., 5) from upright anchors and offsets (..., 6) ``dx, dy, dw, dh, da, db``.

    The first four place and size the upright box around the object; ``da`` and ``db`` in [-0.5, 0.5] tell where the
    object touches its upper and right side. The parallelogram through those points, its diagonals stretched to the
    longer one, is the rectangle.
    """
    centre = centre + size * offsets[..., 0:2]
    w, h = (size * offsets[..., 2:4].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()).unbind(-1)
    da, db = offsets[..., 4:6].clamp(-0.5, 0.5).unbind(-1)
    # top and right corner, from the centre; the other two are opposite
    top, right = torch.stack([da * w, -0.5 * h], -1), torch.stack([0.5 * w, db * h], -1)
    top_length, right_length = top.norm(dim=-1, keepdim=True), right.norm(dim=-1, keepdim=True)
    longest = torch.maximum(top_length, right_length)
    top, right = top * (longest / top_length), right * (longest / right_length)
    first, second = right - top, right + top
    first_length, second_length = first.norm(dim=-1), second.norm(dim=-1)
    along = torch.where((first_length > second_length)[..., None], first, -second)
    angle = le90(torch.atan2(along[..., 1], along[..., 0]))
    sides = torch.maximum(first_length, second_length), torch.minimum(first_length, second_length)
    return torch.stack([*centre.unbind(-1), *sides, angle], -1)


def decode_box_offsets(boxes: Tensor, offsets: Tensor, height: int, width: int) -> Tensor:
    """Move and resize boxes (..., 5) by offsets (..., 5) ``dx, dy, dw, dh, da``, given in the box's own axes.

    Centres are kept inside an image of ``height`` × ``width``.
    """
    cx, cy, w, h, angle = boxes.unbind(-1)
    dx, dy = offsets[..., 0] * w, offsets[..., 1] * h
    cos, sin = angle.cos(), angle.sin()
    cx = (cx + dx * cos - dy * sin).clamp(0, width - 1)
    cy = (cy + dx * sin + dy * cos).clamp(0, height - 1)
    ratio = offsets[..., 2:4].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    w, h = w * ratio[..., 0], h * ratio[..., 1]
    angle = angle + offsets[..., 4]
    angle = le90(torch.where(w > h, angle, angle + math.pi / 2))
    return torch.stack([cx, cy, torch.maximum(w, h), torch.minimum(w, h), angle], -1)


def le90(angle: Tensor) -> Tensor:
    """The same direction, as an angle in [-pi/2, pi/2)."""
    return (angle + math.pi / 2) % math.pi - math.pi / 2


def bounds(boxes: Tensor) -> Tensor:
    """Upright bounds (..., 4) ``x1, y1, x2, y2`` of boxes (..., 5)."""
    cx, cy, w, h, angle = boxes.unbind(-1)
    cos, sin = angle.cos().abs() / 2, angle.sin().abs() / 2
    dx, dy = w * cos + h * sin, w * sin + h * cos
    return torch.stack([cx - dx, cy - dy, cx + dx, cy + dy], -1)


def pyramid_level(boxes: Tensor, finest_scale: float, levels: int) -> Tensor:
    """Level (...) int64 that a box (..., 5) is pooled from: one up each time its size doubles from ``finest_scale``."""
    scale = (boxes[..., 2] * boxes[..., 3]).sqrt()
    return torch.log2(scale / finest_scale + 1e-6).floor().clamp(0, levels - 1).long()


def scale_offsets(offsets: Tensor, coder: Mapping[str, Any]) -> Tensor:
    """Offsets as trained, times the coder's deviations plus its means."""
    return offsets * offsets.new_tensor(coder["target_stds"]) + offsets.new_tensor(coder["target_means"])
