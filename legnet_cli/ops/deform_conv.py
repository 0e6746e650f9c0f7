"""Deformable convolution, plain (arXiv 1703.06211) and modulated (arXiv 1811.11168).

Every tap of the kernel reads its pixel at an offset of its own, bilinearly, with zeros outside the map. The values
are those of mmcv's ``deform_conv2d`` and ``modulated_deform_conv2d``. Output pixels are worked on in chunks, so that
memory stays bounded whatever the size of the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from legnet_cli.ops.sampling import cross, feature_rows, gather_rows, padded_corners, rows_to_features, scatter_rows_

# numbers in the column matrix of a chunk: 64 MB of float32 on a CPU, 1 GB elsewhere
_CPU_COLUMNS, _DEVICE_COLUMNS = 1 << 24, 1 << 28


@dataclass(frozen=True)
class ConvGeometry:
    """Stride, padding and dilation along y and x, and in how many groups of channels weights and offsets come."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    deform_groups: int = 1


class _Samples(NamedTuple):
    """The four pixels and weights of each sample of a chunk, and the weights' derivatives; all (p * K * G, 4)."""

    pixel: Tensor
    weight: Tensor
    slope_y: Tensor
    slope_x: Tensor


class _Problem:
    """One call's tensors laid out as rows: pixels by channels."""

    def __init__(
        self, features: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: ConvGeometry
    ) -> None:
        self.shape, self.geometry = features.shape, geometry
        self.kernel = (weight.shape[2], weight.shape[3])
        self.taps = self.kernel[0] * self.kernel[1]
        self.groups = geometry.deform_groups
        self.out_size = (offset.shape[2], offset.shape[3])
        self.pixels = len(offset) * offset.shape[2] * offset.shape[3]
        # (N * H * W * G, C / G): each group of channels with its own row
        self.rows = feature_rows(features).view(-1, features.shape[1] // self.groups)
        # (pixels, G, K, 2) -> (pixels, K, G, 2), in at least float32
        at_least = torch.promote_types(offset.dtype, torch.float32)
        self.offset = feature_rows(offset).view(-1, self.groups, self.taps, 2).transpose(1, 2).to(at_least)
        self.mask = None if mask is None else feature_rows(mask).view(-1, self.groups, self.taps).transpose(1, 2)
        # (groups, K * C / groups, O / groups)
        by_group = weight.view(geometry.groups, -1, *weight.shape[1:])
        self.matrix = by_group.permute(0, 3, 4, 2, 1).flatten(1, 3)

    def chunks(self) -> Iterator[slice]:
        limit = _CPU_COLUMNS if self.rows.device.type == "cpu" else _DEVICE_COLUMNS
        step = max(1, limit // (self.taps * self.shape[1]))
        for start in range(0, self.pixels, step):
            yield slice(start, min(start + step, self.pixels))

    def sample(self, chunk: slice) -> _Samples:
        """Samples of p output pixels, K taps and G offset groups, in that order."""
        _, _, height, width = self.shape
        pixel = torch.arange(chunk.start, chunk.stop, device=self.rows.device)
        line = pixel // self.out_size[1]
        tap = torch.arange(self.taps, device=pixel.device)
        (sy, sx), (py, px), (dy, dx) = self.geometry.stride, self.geometry.padding, self.geometry.dilation
        base_y = (line % self.out_size[0] * sy - py)[:, None] + tap // self.kernel[1] * dy
        base_x = (pixel % self.out_size[1] * sx - px)[:, None] + tap % self.kernel[1] * dx
        offset = self.offset[chunk]
        y, slope_y = padded_corners(base_y[..., None] + offset[..., 0], height)
        x, slope_x = padded_corners(base_x[..., None] + offset[..., 1], width)
        index, weight = cross(y, x, width)
        index += (line // self.out_size[0] * (height * width))[:, None, None, None]
        index = index * self.groups + torch.arange(self.groups, device=pixel.device)[:, None]
        slopes = (cross(slope_y, x, width)[1], cross(y, slope_x, width)[1])
        return _Samples(*(tensor.view(-1, 4) for tensor in (index, weight, *slopes)))

    def masked(self, values: Tensor, chunk: slice) -> Tensor:
        """Values (p * K * G, C / G) times the mask, if there is one."""
        return values if self.mask is None else values * self.mask[chunk].reshape(-1, 1)

    def by_group(self, grad: Tensor) -> Tensor:
        """Gradient (N, O, H', W') as (groups, pixels, O / groups)."""
        return feature_rows(grad).view(self.pixels, self.geometry.groups, -1).transpose(0, 1)

    def columns(self, values: Tensor) -> Tensor:
        """Values (p * K * G, C / G) as (groups, p, K * C / groups), to multiply with ``matrix``."""
        by_group = values.view(-1, self.taps, self.geometry.groups, self.shape[1] // self.geometry.groups)
        return by_group.permute(2, 0, 1, 3).flatten(2)

    def values(self, columns: Tensor) -> Tensor:
        """Inverse of :meth:`columns`."""
        by_group = columns.view(*columns.shape[:2], self.taps, -1)
        return by_group.permute(1, 2, 0, 3).reshape(-1, self.rows.shape[1])


def deform_conv(
    features: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: ConvGeometry
) -> Tensor:
    """Deformable convolution, modulated when there is a ``mask``; without a gradient, for which see the others.

    Args:
        features: (N, C, H, W).
        offset: (N, 2 * G * K, H', W') pixels, for each of G offset groups and K = kh * kw taps first dy, then dx.
        weight: (O, C / groups, kh, kw).
        mask: (N, G * K, H', W') factors of the samples, or None.
        geometry: stride, padding, dilation and groups, which make H' and W' of H and W as in any convolution.

    Returns:
        (N, O, H', W'), channels-last in memory.
    """
    problem = _Problem(features, offset, weight, mask, geometry)
    out = features.new_empty(problem.pixels, len(weight))
    for chunk in problem.chunks():
        samples = problem.sample(chunk)
        values = problem.masked(gather_rows(problem.rows, samples.pixel, samples.weight), chunk)
        out[chunk] = torch.bmm(problem.columns(values), problem.matrix).transpose(0, 1).flatten(1)
    return rows_to_features(out, torch.Size((len(offset), len(weight), *problem.out_size)))


def deform_conv_grad_inputs(
    grad: Tensor, features: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: ConvGeometry
) -> list[Tensor]:
    """Gradients of ``features``, ``offset`` and any ``mask`` from that of :func:`deform_conv`'s result."""
    problem = _Problem(features, offset, weight, mask, geometry)
    grads = problem.by_group(grad)
    to_rows = torch.zeros_like(problem.rows, dtype=torch.promote_types(features.dtype, torch.float32))
    to_offset = torch.empty_like(problem.offset)
    to_mask = None if problem.mask is None else torch.empty_like(problem.mask)
    for chunk in problem.chunks():
        samples = problem.sample(chunk)
        to_values = problem.values(torch.bmm(grads[:, chunk], problem.matrix.transpose(1, 2)))
        if to_mask is not None:
            values = gather_rows(problem.rows, samples.pixel, samples.weight)
            to_mask[chunk] = (to_values * values).sum(1).view_as(to_mask[chunk])
        to_values = problem.masked(to_values, chunk)
        for axis, slope in enumerate((samples.slope_y, samples.slope_x)):
            change = gather_rows(problem.rows, samples.pixel, slope)
            to_offset[chunk][..., axis] = (to_values * change).sum(1).view(to_offset[chunk].shape[:-1])
        scatter_rows_(to_rows, to_values, samples.pixel, samples.weight)
    gradients = [
        rows_to_features(to_rows.view(-1, features.shape[1]), features.shape),
        rows_to_features(to_offset.transpose(1, 2).flatten(1), offset.shape),
    ]
    if mask is not None and to_mask is not None:
        gradients.append(rows_to_features(to_mask.transpose(1, 2).flatten(1), mask.shape))
    return gradients


def deform_conv_grad_weight(
    grad: Tensor, features: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: ConvGeometry
) -> Tensor:
    """Gradient of ``weight``, of which only the shape matters, from that of :func:`deform_conv`'s result."""
    problem = _Problem(features, offset, weight, mask, geometry)
    grads = problem.by_group(grad)
    out = torch.zeros_like(problem.matrix, dtype=torch.promote_types(features.dtype, torch.float32))
    for chunk in problem.chunks():
        samples = problem.sample(chunk)
        values = problem.masked(gather_rows(problem.rows, samples.pixel, samples.weight), chunk)
        out += torch.bmm(problem.columns(values).transpose(1, 2), grads[:, chunk])
    groups, (height, width) = geometry.groups, problem.kernel
    return out.view(groups, height, width, weight.shape[1], -1).permute(0, 4, 3, 1, 2).reshape(weight.shape)
