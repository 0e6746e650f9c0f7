"""Bilinear sampling as weighted sums of feature rows: what RoI align, feature align and deformable convolution share.

A feature map (N, C, H, W) is seen as rows: (N * H * W, C), one row a pixel. A bilinear sample is a sum of four
weighted rows, and an average of samples a longer sum. ``embedding_bag`` computes such sums without storing the
terms, on any device and in any float type, with every weight worked out once for all channels.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

Corners: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""Along one axis: the lower and the upper neighbour (int64, inside the axis), and the weight of each."""


def feature_rows(features: Tensor) -> Tensor:
    """(N, C, H, W) as contiguous rows (N * H * W, C); no copy when the tensor is channels-last."""
    return features.permute(0, 2, 3, 1).contiguous().flatten(0, 2)


def rows_to_features(rows: Tensor, shape: torch.Size) -> Tensor:
    """Rows (N * H * W, C) as a channels-last view of ``shape`` (N, C, H, W); inverse of :func:`feature_rows`."""
    n, c, h, w = shape
    return rows.view(n, h, w, c).permute(0, 3, 1, 2)


def clamped_corners(t: Tensor, size: Tensor | int) -> Corners:
    """Neighbours of coordinates along one axis of ``size`` pixels, as RoI align takes them.

    A coordinate in [-1, size] is moved into [0, size - 1]; any other, NaN included, has no weight.

    Args:
        t: coordinates in pixels, pixel centres at whole numbers; any shape.
        size: length of the axis, a number or a tensor that broadcasts to ``t``.

    Returns:
        Tensors of ``t``'s shape.
    """
    inside = (t >= -1) & (t <= size)
    t = torch.where(inside, t, 0.0).clamp_(min=0)
    last = size - 1
    t = torch.minimum(t, last) if isinstance(last, Tensor) else t.clamp_(max=last)
    low = t.long()  # truncation is floor here
    high = torch.minimum(low + 1, last) if isinstance(last, Tensor) else (low + 1).clamp_(max=last)
    upper = t - low
    return low, high, (1 - upper).mul_(inside), upper.mul_(inside)


def padded_corners(t: Tensor, size: int) -> tuple[Corners, Corners]:
    """Neighbours of coordinates along one axis as a zero-padded convolution takes them.

    Like :func:`clamped_corners`, but pixels outside the axis count as zeros.

    Returns:
        The neighbours with their weights, and with the derivatives of those weights by ``t``.
    """
    inside = (t > -1) & (t < size)
    t = torch.where(inside, t, 0.0)
    low = t.floor()
    upper = t - low
    has_low, has_high = inside & (low >= 0), inside & (low < size - 1)
    low = low.long()
    pair = low.clamp(min=0), (low + 1).clamp_(max=size - 1)
    return (*pair, (1 - upper) * has_low, upper * has_high), (*pair, -has_low.to(t.dtype), has_high.to(t.dtype))


def cross(y: Corners, x: Corners, width: Tensor | int) -> tuple[Tensor, Tensor]:
    """Join the neighbours of two axes to four pixels.

    Args:
        y, x: what the ``*_corners`` functions return, of one shape (...).
        width: pixels in a line of the map, a number or a tensor that broadcasts.

    Returns:
        Pixel numbers ``row * width + column`` (int64) and weights, both (..., 4).
    """
    y_low, y_high, y_lower, y_upper = y
    x_low, x_high, x_lower, x_upper = x
    low, high = y_low * width, y_high * width
    index = torch.stack([low + x_low, low + x_high, high + x_low, high + x_high], -1)
    weight = torch.stack([y_lower * x_lower, y_lower * x_upper, y_upper * x_lower, y_upper * x_upper], -1)
    return index, weight


def gather_rows(rows: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of rows: ``out[b] = sum_k weight[b, k] * rows[index[b, k]]``.

    Args:
        rows: (R, C), contiguous.
        index: (B, K) int64 row numbers.
        weight: (B, K); cast to the type of ``rows``.

    Returns:
        (B, C) in the type of ``rows``; summed in float32 or better.
    """
    if index.numel() == 0:
        return rows.new_zeros(index.shape[0], rows.shape[1])
    return F.embedding_bag(index, rows, mode="sum", per_sample_weights=weight.to(rows.dtype))


def scatter_rows_(out: Tensor, grad: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Add the transpose of :func:`gather_rows` to ``out``: ``out[index[b, k]] += weight[b, k] * grad[b]``.

    Sorting the entries by row makes each row one sum in a fixed order: no atomics, the same bits every time.

    Args:
        out: (R, C), changed in place.
        grad: (B, C), contiguous.
        index: (B, K) int64 row numbers.
        weight: (B, K); cast to the type of ``grad``.

    Returns:
        ``out``.
    """
    if index.numel() == 0:
        return out
    # int32 sorts in half the time; no map has 2^31 pixels
    ordered, order = torch.sort(index.flatten().int(), stable=True)
    touched, count = torch.unique_consecutive(ordered, return_counts=True)
    sums = F.embedding_bag(
        order // index.shape[1],
        grad,
        count.cumsum(0) - count,
        mode="sum",
        per_sample_weights=weight.flatten()[order].to(grad.dtype),
    )
    out[touched.long()] += sums
    return out
