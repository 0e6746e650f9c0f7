"""LEGNet: a lightweight backbone guided by edges and Gaussian filters.

Paper: "LEGNet: A Lightweight Edge-Gaussian Network for Low-Quality Remote Sensing Image Object Detection",
ICCV Workshops 2025, arXiv 2503.14012. Written from the paper; parameter names are those of the authors' weight
files (which hold each ``LFEA.conv2d`` tensor a second time as ``LFEA.block``; here it exists once).
Differences: the Laplacian of Gaussian starts as a true zero-sum kernel, and edge strength has a finite gradient
on flat image regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from legnet_cli.backbones._layers import (
    EdgeGuidedAttention,
    Filter,
    Pair,
    Pairs,
    Pyramid,
    ResidualMlp,
    conv,
    fill_depthwise,
    gaussian_kernel,
    laplacian_of_gaussian_kernel,
    magnitude,
    scharr_kernel,
)


class ConvExtra(nn.Module):
    """Bottleneck through 64 channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            conv(channels, 64, 1),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            conv(64, 64, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            conv(64, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        out: Tensor = self.block(x)
        return out


class Gaussian(Filter):
    """Depthwise filter that starts as a Gaussian.

    With ``extra`` the filtered map is added to the input and passed through a bottleneck.
    """

    norm_after_conv: ClassVar[Pairs] = (("gaussian", "norm"),)

    def __init__(self, channels: int, size: int, sigma: float, extra: bool) -> None:
        super().__init__()
        self.size, self.sigma = size, sigma
        self.gaussian = conv(channels, channels, size, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.conv_extra = ConvExtra(channels) if extra else None

    def init_filters(self) -> None:
        """A Gaussian of the given size and sigma."""
        fill_depthwise(self.gaussian, gaussian_kernel(self.size, self.sigma))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        y = torch.relu_(self.norm(self.gaussian(x)))
        return y if self.conv_extra is None else self.conv_extra(x + y)


class Scharr(Filter):
    """Edge strength by learnable Scharr filters, added to the input and refined."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_x = conv(channels, channels, 3, groups=channels, bias=False)
        self.conv_y = conv(channels, channels, 3, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.conv_extra = ConvExtra(channels)

    def init_filters(self) -> None:
        """Scharr derivatives along x and y."""
        fill_depthwise(self.conv_x, scharr_kernel())
        fill_depthwise(self.conv_y, scharr_kernel().T)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        edges = torch.relu_(self.norm(magnitude(self.conv_x(x), self.conv_y(x))))
        out: Tensor = self.conv_extra(x + edges)
        return out


class DRFD(nn.Module):
    """Deep robust feature downsampling by 2."""

    norm_before_conv: ClassVar[Pairs] = (("norm_c", "fusion"), ("norm_m", "fusion"))
    free_order: ClassVar[Pair] = ("conv", "fusion")

    def __init__(self, channels: int) -> None:
        super().__init__()
        out = 2 * channels
        self.conv = conv(channels, out, 3, groups=channels)
        self.gaussian = Gaussian(out, 5, 0.5, extra=False)
        self.norm_g = nn.BatchNorm2d(out)
        self.max_m = nn.MaxPool2d(3, 2, 1)
        self.norm_m = nn.BatchNorm2d(out)
        self.conv_c = conv(out, out, 3, stride=2, groups=out)
        self.norm_c = nn.BatchNorm2d(out)
        self.fusion = conv(2 * out, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 2C, ceil(H/2), ceil(W/2))."""
        x = self.conv(x)
        x = self.norm_g(x + self.gaussian(x))
        pooled = self.norm_m(self.max_m(x))
        strided = self.norm_c(torch.relu_(self.conv_c(x)))
        out: Tensor = self.fusion(torch.cat([strided, pooled], 1))
        return out


class LoGFilter(Filter):
    """7×7 convolution, then a Laplacian of Gaussian added to it."""

    norm_after_conv: ClassVar[Pairs] = (("LoG", "norm1"),)

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.conv_init = conv(inp, out, 7)
        self.LoG = conv(out, out, 7, groups=out, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.norm2 = nn.BatchNorm2d(out)

    def init_filters(self) -> None:
        """A Laplacian of Gaussian, sigma 1."""
        fill_depthwise(self.LoG, laplacian_of_gaussian_kernel(7, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inp, H, W) to (B, out, H, W)."""
        x = self.conv_init(x)
        out: Tensor = self.norm2(x + torch.relu_(self.norm1(self.LoG(x))))
        return out


class LoGStem(nn.Module):
    """Laplacian-of-Gaussian and Gaussian filters at full and half size, then reduction."""

    def __init__(self, inp: int, dim: int) -> None:
        super().__init__()
        quarter, half = dim // 4, dim // 2
        self.LoG = LoGFilter(inp, quarter)
        self.Conv_D = nn.Sequential(
            conv(quarter, half, 3, groups=quarter), conv(half, half, 3, stride=2, groups=half), nn.BatchNorm2d(half)
        )
        self.gaussian = Gaussian(half, 9, 0.5, extra=True)
        self.norm = nn.BatchNorm2d(half)
        self.drfd = DRFD(half)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inp, H, W) to (B, dim, H/4, W/4), rounded up twice."""
        x = self.Conv_D(self.LoG(x))
        out: Tensor = self.drfd(self.norm(x + self.gaussian(x)))
        return out


class Block(ResidualMlp):
    """LEGNet block: Scharr edges guide stage 0, Gaussian-smoothed maps the others."""

    norm_before_conv: ClassVar[Pairs] = (("LFEA.norm", "mlp.0"),)

    def __init__(self, stage: int, channels: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__(channels, mlp_ratio, drop_path)
        self.LFEA = EdgeGuidedAttention(channels)
        if stage == 0:
            self.Scharr_edge = Scharr(channels)
        else:
            self.gaussian = Gaussian(channels, 5, 1.0, extra=True)
        self.guide = "Scharr_edge" if stage == 0 else "gaussian"

    def mix(self, x: Tensor) -> Tensor:
        """Aggregate x under its guide; shape kept."""
        out: Tensor = self.LFEA(x, getattr(self, self.guide)(x))
        return out


class LEGNet(Pyramid):
    """LEGNet backbone: (B, in_channels, H, W) to four maps of D, 2D, 4D, 8D channels at strides 4, 8, 16, 32.

    Sizes are rounded up; H and W are at least 32. ``stem_dim`` D is 16 for nano, 32 for tiny, 64 for small.

    Args:
        stem_dim: channels D of the first stage.
        depths: blocks in each of the four stages.
        mlp_ratio: hidden over outer channels in each block.
        drop_path: rate of stochastic depth at the last block, rising linearly from 0.
        in_channels: bands of the image.
    """

    def __init__(
        self,
        stem_dim: int = 32,
        depths: Sequence[int] = (1, 4, 4, 2),
        mlp_ratio: float = 2,
        drop_path: float = 0.1,
        in_channels: int = 3,
    ) -> None:
        super().__init__(
            LoGStem(in_channels, stem_dim),
            stem_dim,
            depths,
            drop_path,
            lambda stage, channels, rate: Block(stage, channels, mlp_ratio, rate),
            DRFD,
        )
