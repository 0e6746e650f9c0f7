"""Parts that LEGNet and UnravelNet share: filters, edge-guided aggregation, stochastic depth, the pyramid itself.

Attribute names of modules that hold weights are those of the published weight files.

A module may say how it can be rewritten for inference once training is over:

* ``norm_after_conv``: pairs ``(conv, norm)`` where ``norm`` is applied to the bare output of ``conv``;
* ``norm_before_conv``: pairs ``(norm, conv)`` where nothing but the 1×1 ``conv`` reads the output of ``norm``;
  several norms of one ``conv`` are named in the order in which their outputs are concatenated;
* ``free_order``: a pair ``(conv, reader)`` of a depthwise ``conv`` with two filters a channel and the 1×1 ``reader``
  of what comes of it, all other children in between working channel by channel;
* a method as of :class:`Exportable`.

Norms in an ``nn.Sequential`` right after a convolution need not be named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Pair = tuple[str, str]
Pairs = tuple[Pair, ...]


@runtime_checkable
class Exportable(Protocol):
    """A module with a form that model exporters know better, of the same outputs."""

    def make_exportable(self) -> Pairs:
        """Take that form, in place; returns pairs ``(conv, norm)`` that fold in it besides ``norm_after_conv``."""


def conv(inp: int, out: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = True) -> nn.Conv2d:
    """Convolution padded to keep the size of its input, up to the stride."""
    return nn.Conv2d(inp, out, kernel, stride, kernel // 2, groups=groups, bias=bias)


def fill_depthwise(module: nn.Conv2d, kernel: Tensor) -> None:
    """Set every filter of a depthwise convolution to the same (kh, kw) ``kernel``."""
    with torch.no_grad():
        module.weight.copy_(kernel.expand_as(module.weight))


def gaussian_kernel(size: int, sigma: float) -> Tensor:
    """Gaussian, (size, size), that sums to one."""
    line = torch.arange(size) - (size - 1) / 2
    line = torch.exp(-line.square() / (2 * sigma**2))
    kernel = torch.outer(line, line)
    return kernel / kernel.sum()


def laplacian_of_gaussian_kernel(size: int, sigma: float) -> Tensor:
    """Laplacian of Gaussian times ``sigma²`` (scale-normalised), (size, size), that sums to zero.

    Cutting it at the border leaves a small sum; that is spread evenly, so that flat regions answer with zero.
    """
    line = torch.arange(size) - (size - 1) / 2
    r2 = line.square()[:, None] + line.square()
    kernel = (r2 - 2 * sigma**2) / (2 * math.pi * sigma**4) * torch.exp(-r2 / (2 * sigma**2))
    return kernel - kernel.mean()


def scharr_kernel() -> Tensor:
    """Scharr derivative along x, (3, 3); its transpose is the one along y."""
    return torch.tensor([[-3.0, 0.0, 3.0], [-10.0, 0.0, 10.0], [-3.0, 0.0, 3.0]])


def magnitude(gx: Tensor, gy: Tensor) -> Tensor:
    """``sqrt(gx² + gy²)`` with a zero gradient where both vanish; in float32, for squares overflow float16."""
    square: Tensor = gx.float().square() + gy.float().square()
    return square.clamp_min(1e-12).sqrt().to(gx.dtype)


def add_product(x: Tensor, a: Tensor, b: Tensor, fused: bool) -> Tensor:
    """``x + a * b``; fused it is faster, but PyTorch's ONNX exporter computes that in float32 at any precision."""
    return torch.addcmul(x, a, b) if fused else x + a * b


def drop_path(x: Tensor, rate: float) -> Tensor:
    """Stochastic depth: zero whole samples of (B, C, H, W) with probability ``rate``, scale the others up."""
    keep = torch.rand(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device) >= rate
    return x * keep / (1 - rate)


class Filter(nn.Module):
    """Base of modules whose convolutions start as classical filters."""

    def init_filters(self) -> None:
        """Set them."""
        raise NotImplementedError


class EdgeGuidedAttention(nn.Module):
    """Feature aggregation guided by an edge or Gaussian map: LEGNet's LFEA, UnravelNet's BGA.

    The channel weights are those of ECA (arXiv 1910.03151): a 1-D convolution over the pooled channels, its
    kernel grown with ``log2 C``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = int(abs(math.log2(channels) + 1) / 2)
        size += 1 - size % 2
        self.conv2d = nn.Sequential(
            conv(channels, channels, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.conv1d = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.fused = True

    def make_exportable(self) -> Pairs:
        """As of :class:`Exportable`."""
        self.fused = False
        return ()

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """Two maps of (B, C, H, W) to one."""
        y = self.conv2d(add_product(x, x, guide, self.fused))
        pooled = y.mean((2, 3)).unsqueeze(1)
        weight = torch.sigmoid(self.conv1d(pooled)).transpose(1, 2).unsqueeze(-1)
        out: Tensor = self.norm(add_product(x, y, weight, self.fused))
        return out


class ResidualMlp(nn.Module):
    """Base of both networks' blocks: ``x + norm(drop_path(mlp(mix(x))))``."""

    norm_after_conv: ClassVar[Pairs] = (("mlp.3", "norm"),)

    def __init__(self, channels: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.drop_path = drop_path
        self.mlp = nn.Sequential(
            conv(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            conv(hidden, channels, 1, bias=False),
        )
        self.norm = nn.BatchNorm2d(channels)

    def mix(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape; what sets the two networks apart."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        y = self.mlp(self.mix(x))
        if self.training and self.drop_path > 0:
            y = drop_path(y, self.drop_path)
        out: Tensor = x + self.norm(y)
        return out


class Stage(nn.Module):
    """Blocks in a row."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        out: Tensor = self.blocks(x)
        return out


class Pyramid(nn.Module):
    """Stem, four stages with a 2× reduction between them, one norm for each of the four outputs.

    Args:
        stem: (B, in_channels, H, W) to (B, D, H/4, W/4).
        stem_dim: D; stages have D, 2D, 4D and 8D channels.
        depths: blocks of each stage.
        drop_path: rate of stochastic depth at the last block; it rises linearly from 0.
        block: ``block(stage, channels, drop_path)`` makes a block.
        down: ``down(channels)`` makes a (B, C, H, W) to (B, 2C, H/2, W/2) module.

    Attributes:
        coarsest_stride: image pixels to a pixel of the smallest map inside, in each direction.
    """

    coarsest_stride: ClassVar[int] = 32

    def __init__(
        self,
        stem: nn.Module,
        stem_dim: int,
        depths: Sequence[int],
        drop_path: float,
        block: Callable[[int, int, float], nn.Module],
        down: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").tolist()
        self.out_channels = tuple(stem_dim * 2**i for i in range(len(depths)))
        self.Stem = stem
        stages: list[nn.Module] = []
        for i, (depth, width) in enumerate(zip(depths, self.out_channels, strict=True)):
            start = sum(depths[:i])
            stages.append(Stage([block(i, width, rate) for rate in rates[start : start + depth]]))
            if i + 1 < len(depths):
                stages.append(down(width))
            self.add_module(f"norm{2 * i}", nn.BatchNorm2d(width))
        self.stages = nn.Sequential(*stages)
        if not any(weights.is_meta for weights in self.parameters()):  # else they come from elsewhere
            self.init_weights()

    def init_weights(self) -> None:
        """Draw new weights: normal with deviation 0.02, identity norms, classical filters where a module has them."""
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, Filter):
                module.init_filters()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, in_channels, H, W), H and W at least 32, to four maps of ``out_channels`` at strides 4, 8, 16, 32."""
        x = self.Stem(x)
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i % 2 == 0:
                maps.append(getattr(self, f"norm{i}")(x))
        return tuple(maps)
