"""Convolutions by fewer multiplications, after Winograd (arXiv 1509.09308): for wide layers on a CPU in float32.

An output tile of 4 × 4 pixels takes 36 products of matrices in place of 144 for a 3×3 kernel, 25 in place of 64 for
2×2. Outputs differ from the direct sum by rounding alone, about twice what that itself makes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from legnet_cli.detectors.fast.strips import StripConv

SIDE = 4  # pixels of an output tile
# interpolation points by kernel size; unusual ones, for their smaller rounding
POINTS = {2: (0.5, -0.5, 1.5, -1.5), 3: (0.0, 0.75, -0.75, 1.5, -1.5)}
_AT_ONCE = 64  # tiles: what they become stays in the cache
_OUTPUTS = 32  # channels whose weights are transformed at a time
_LEAST_PIXELS = 400  # of an output for which it pays


class WinogradConv(StripConv):
    """A convolution of stride 1 that works on tiles, image by image and in strips of rows that the cache holds.

    Args:
        conv: the convolution, whose weight and bias it shares.
        convolve: multiply matrices as 1×1 convolutions, which take another library (oneDNN) than products.
    """

    def __init__(self, conv: nn.Conv2d, convolve: bool = False) -> None:
        size, pad = conv.kernel_size[0], conv.padding[0]
        assert isinstance(pad, int)
        bias = conv.bias is not None
        super().__init__(conv.in_channels, conv.out_channels, size, padding=pad, bias=bias, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        after, kernel, before = (torch.from_numpy(m) for m in transforms(size))
        few = torch.split(conv.weight, _OUTPUTS)  # in float64 all would take nine times the weights' memory
        parts = [torch.einsum("ai,bj,ocij->abco", kernel, kernel, part.double()).to(part.dtype) for part in few]
        products = torch.cat(parts, 3).flatten(0, 1)
        self.convolve = convolve
        products = products.transpose(1, 2)[..., None, None] if convolve else products
        self.register_buffer("products", products.contiguous(), persistent=False)
        self.register_buffer("before", torch.kron(before, before).to(conv.weight.dtype), persistent=False)
        self.register_buffer("after", torch.kron(after, after).to(conv.weight.dtype), persistent=False)
        self.products: Tensor
        self.before: Tensor
        self.after: Tensor

    @staticmethod
    def takes(conv: nn.Conv2d) -> bool:
        """Whether ``conv`` can be computed so."""
        plain = conv.stride == conv.dilation == (1, 1) and conv.groups == 1
        return plain and conv.kernel_size in ((2, 2), (3, 3))

    def forward(self, x: Tensor, above: int | None = None, below: int | None = None) -> Tensor:
        """As of :class:`StripConv`; outputs are channels-last."""
        pad, size = int(self.padding[0]), self.kernel_size[0]
        width = x.shape[3] + 2 * pad - size + 1
        if above is None or below is None:
            if (x.shape[2] + 2 * pad - size + 1) * width < _LEAST_PIXELS:
                return super().forward(x)
            above = below = pad
        height = x.shape[2] + above + below - size + 1
        rows, columns = -(-height // SIDE), -(-width // SIDE)
        right = columns * SIDE - width + pad
        out = x.new_empty(len(x), rows * SIDE, columns * SIDE, self.out_channels)
        # more where there are more weights, which each strip reads anew
        step = max(1, round(max(_AT_ONCE, self.out_channels // 8) / columns))
        for image, source in zip(out, x.permute(0, 2, 3, 1), strict=True):
            for first in range(0, rows, step):
                count = min(step, rows - first)
                top = first * SIDE - above
                bottom = top + count * SIDE + size - 1
                zeros = (0, 0, pad, right, max(-top, 0), max(bottom - len(source), 0))
                tiles = self._tiles(F.pad(source[max(top, 0) : bottom], zeros), count, columns)
                strip = image[first * SIDE : (first + count) * SIDE].view(count, SIDE, columns, SIDE, -1)
                strip.copy_(tiles.permute(2, 0, 3, 1, 4))
        return out[:, :height, :width].permute(0, 3, 1, 2)

    def _tiles(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """Outputs (SIDE, SIDE, rows, columns, out) of the tiles of a padded strip (H, W, C)."""
        reach, channels = SIDE + self.kernel_size[0] - 1, x.shape[2]
        down, across = x.stride(0), x.stride(1)
        shape = (reach, reach, rows, columns, channels)
        windows = x.as_strided(shape, (down, across, SIDE * down, SIDE * across, 1))
        spread = (self.before @ windows.reshape(reach**2, -1)).view(reach**2, -1, channels)
        products = self._multiply(spread)
        out = (self.after @ products.flatten(1)).view(SIDE, SIDE, rows, columns, -1)
        return out if self.bias is None else out.add_(self.bias)

    def _multiply(self, spread: Tensor) -> Tensor:
        """(n, tiles, C) by the n matrices of the kernel: (n, tiles, out)."""
        if not self.convolve:
            return torch.bmm(spread, self.products)
        pairs = zip(spread, self.products, strict=True)
        return torch.stack([F.conv2d(one.t()[None, :, :, None], kernel)[0, :, :, 0].t() for one, kernel in pairs])


def saving(size: int) -> float:
    """How many times fewer multiplications there are for a kernel of ``size`` × ``size`` than in the direct sum."""
    return SIDE**2 * size**2 / (SIDE + size - 1) ** 2 if size in POINTS else 1.0


def transforms(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Matrices A (m, t), G (t, size) and B (t, t): ``A @ ((G @ kernel) * (B @ window))`` correlates the two.

    A window has t = m + size - 1 values, m = :data:`SIDE` are the outputs. This is Toom and Cook's multiplication of
    polynomials by their values at :data:`POINTS` and infinity, transposed.
    """
    points = POINTS[size]
    reach = SIDE + size - 1
    powers = np.vander(points, max(SIDE, size), increasing=True)
    a = np.vstack([powers[:, :SIDE], np.eye(SIDE)[-1]]).T
    g = np.vstack([powers[:, :size], np.eye(size)[-1]])
    b = np.zeros((reach, reach))
    for i, point in enumerate(points):
        others = [other for other in points if other != point]
        b[i, :-1] = np.poly(others)[::-1] / np.prod(point - np.array(others))
    b[-1] = np.poly(points)[::-1]
    scale = np.abs(b).max(1, keepdims=True)  # rows of like size
    return a, g * scale, b / scale
