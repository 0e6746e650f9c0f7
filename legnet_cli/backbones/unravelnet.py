"""UnravelNet: a backbone that splits its channels between point, local, medium-range and edge-guided attention.

Paper: ISPRS Journal of Photogrammetry and Remote Sensing 231, 2026, doi 10.1016/j.isprsjprs.2025.11.002.
Written from the paper; parameter names are those of the authors' weight files (which hold each ``BGA.conv2d``
tensor a second time as ``BGA.block``; here it exists once).
Differences: works on maps of any shape, not only on square ones (there the outputs are equal), and edge strength
has a finite gradient on flat image regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from legnet_cli.backbones._layers import (
    EdgeGuidedAttention,
    Filter,
    Pair,
    Pairs,
    Pyramid,
    ResidualMlp,
    add_product,
    conv,
    fill_depthwise,
    magnitude,
    scharr_kernel,
)


class PointAttention(nn.Module):
    """``x + x * sigmoid(mlp(x))`` per pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p_conv = nn.Sequential(
            conv(channels, 4 * channels, 1, bias=False),
            nn.BatchNorm2d(4 * channels),
            nn.ReLU(inplace=True),
            conv(4 * channels, channels, 1, bias=False),
        )
        self.fused = True

    def make_exportable(self) -> Pairs:
        """As of ``Exportable``."""
        self.fused = False
        return ()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return add_product(x, x, torch.sigmoid(self.p_conv(x)), self.fused)


class LocalAttention(nn.Module):
    """3×3 convolution, norm, ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv(channels, channels, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        out: Tensor = self.conv(x)
        return out


class BlurPool(Filter):
    """Anti-aliased subsampling by 3 with a fixed binomial filter."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", torch.empty(channels, 1, 4, 4))

    def init_filters(self) -> None:
        """The binomial filter [1, 3, 3, 1] along both axes."""
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.filt.copy_(torch.outer(line, line).expand_as(self.filt))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, ceil(H/3), ceil(W/3))."""
        # a reflection by two pixels needs three
        mode = "reflect" if min(x.shape[2:]) > 2 else "replicate"
        return F.conv2d(F.pad(x, (1, 2, 1, 2), mode), self.filt, stride=3, groups=x.shape[1])


def _shear_rows(kernel: Tensor) -> Tensor:
    """Shift row i of a (C, 1, R, W) kernel right by R - 1 - i, on zeros: (C, 1, R, W + R - 1)."""
    c, _, rows, width = kernel.shape
    # rows one pixel longer than the pitch they are read back with slip by one pixel each
    padded = F.pad(kernel.flip(2), (0, rows)).flatten(2)[..., :-rows]
    return padded.view(c, 1, rows, width + rows - 1).flip(2)


class MediumRangeAttention(nn.Module):
    """Gate from long strips in four directions on a 3× smaller map.

    The two diagonal strips are the published ones: a straight strip on the map sheared by one pixel a row (or a
    column), sheared back. On an unbounded map that is a convolution with the strip itself sheared, and zeros pad
    both alike; so all four add up to one kernel, which also fits maps that are not square.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.max_m1 = nn.MaxPool2d(3, 1, 1)
        self.max_m2 = BlurPool(channels)
        self.H_att1 = nn.Conv2d(channels, channels, (size, 3), groups=channels, bias=False)
        self.V_att1 = nn.Conv2d(channels, channels, (3, size), groups=channels, bias=False)
        self.H_att2 = nn.Conv2d(channels, channels, (size, 3), groups=channels, bias=False)
        self.V_att2 = nn.Conv2d(channels, channels, (3, size), groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.strips: nn.Conv2d | None = None

    def kernel(self) -> Tensor:
        """The four strips as one depthwise kernel, (C, 1, size + 2, size + 2)."""
        side = self.H_att1.weight.shape[2] - 1
        half = side // 2
        strips = F.pad(self.H_att1.weight, (half, half, 1, 1)) + F.pad(self.V_att1.weight, (1, 1, half, half))
        sheared_h = _shear_rows(self.H_att2.weight)
        sheared_v = _shear_rows(self.V_att2.weight.transpose(2, 3)).transpose(2, 3)
        return strips + F.pad(sheared_h, (0, 0, 1, 1)) + F.pad(sheared_v, (1, 1, 0, 0))

    @torch.no_grad()
    def make_exportable(self) -> Pairs:
        """As of ``Exportable``: the kernel is summed up once, and the norm can be folded into it."""
        kernel = self.kernel()
        channels, side = len(kernel), kernel.shape[-1]
        self.strips = nn.Conv2d(channels, channels, side, padding=side // 2, groups=channels, bias=False)
        self.strips.to(kernel.dtype).weight.copy_(kernel)
        del self.H_att1, self.V_att1, self.H_att2, self.V_att2
        return (("strips", "norm"),)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        y = self.max_m2(self.max_m1(x))
        if self.strips is None:
            kernel = self.kernel()
            y = F.conv2d(y, kernel, padding=kernel.shape[-1] // 2, groups=x.shape[1])
        else:
            y = self.strips(y)
        gate = torch.sigmoid(self.norm(y))
        return x * F.interpolate(gate, size=x.shape[2:], mode="nearest")


class Refine(nn.Module):
    """Base of the two guides: ``block(x + relu(norm(filtered(x))))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            conv(channels, 64, 1),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            conv(64, 256, 3, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(inplace=True),
            conv(256, 256, 3, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(inplace=True),
            conv(256, channels, 1),
            nn.BatchNorm2d(channels),
        )
        self.norm = nn.BatchNorm2d(channels)

    def filtered(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape: what guides."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        out: Tensor = self.block(x + torch.relu_(self.norm(self.filtered(x))))
        return out


class Edge(Refine, Filter):
    """Edge strength by learnable Scharr filters."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.conv_x = conv(channels, channels, 3, groups=channels, bias=False)
        self.conv_y = conv(channels, channels, 3, groups=channels, bias=False)

    def init_filters(self) -> None:
        """Scharr derivatives along x and y."""
        fill_depthwise(self.conv_x, scharr_kernel())
        fill_depthwise(self.conv_y, scharr_kernel().T)

    def filtered(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return magnitude(self.conv_x(x), self.conv_y(x))


class Gaussian(Refine, Filter):
    """Learnable 3×3 smoothing filter."""

    norm_after_conv: ClassVar[Pairs] = (("conv_o", "norm"),)

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.conv_o = conv(channels, channels, 3, groups=channels, bias=False)

    def init_filters(self) -> None:
        """The published, slightly skew kernel."""
        fill_depthwise(self.conv_o, torch.tensor([[1.0, 0.3, 0.2], [0.3, 2.0, 0.5], [0.2, 0.5, 3.0]]))

    def filtered(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        out: Tensor = self.conv_o(x)
        return out


class Block(ResidualMlp):
    """UnravelNet block: each quarter of the channels takes its own way."""

    def __init__(self, stage: int, channels: int, att_kernel: int, drop_path: float) -> None:
        super().__init__(channels, 2, drop_path)
        quarter = channels // 4
        self.PA = PointAttention(quarter)
        self.LA = LocalAttention(quarter)
        self.MRA = MediumRangeAttention(quarter, att_kernel)
        self.BGA = EdgeGuidedAttention(quarter)
        if stage == 0:
            self.edge = Edge(quarter)
        else:
            self.gaussian = Gaussian(quarter)
        self.guide = "edge" if stage == 0 else "gaussian"

    def mix(self, x: Tensor) -> Tensor:
        """Attend by quarters; shape kept."""
        x1, x2, x3, x4 = x.chunk(4, 1)
        return torch.cat([self.PA(x1), self.LA(x2), self.MRA(x3), self.BGA(x4, getattr(self, self.guide)(x4))], 1)


class PatchStem(nn.Module):
    """Non-overlapping 4×4 patches."""

    norm_after_conv: ClassVar[Pairs] = (("proj", "norm"),)

    def __init__(self, inp: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inp, dim, 4, stride=4, bias=False)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inp, H, W) to (B, dim, H // 4, W // 4)."""
        out: Tensor = self.norm(self.proj(x))
        return out


class DRFD(nn.Module):
    """Deep robust feature downsampling by 2, without the Gaussian of LEGNet."""

    norm_before_conv: ClassVar[Pairs] = (("norm_c", "fusion"), ("norm_m", "fusion"))
    free_order: ClassVar[Pair] = ("conv", "fusion")

    def __init__(self, channels: int) -> None:
        super().__init__()
        out = 2 * channels
        self.conv = conv(channels, out, 3, groups=channels)
        self.max_m = nn.MaxPool2d(3, 2, 1)
        self.norm_m = nn.BatchNorm2d(out)
        self.conv_c = conv(out, out, 3, stride=2, groups=out)
        self.norm_c = nn.BatchNorm2d(out)
        self.fusion = conv(2 * out, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 2C, ceil(H/2), ceil(W/2))."""
        x = self.conv(x)
        pooled = self.norm_m(self.max_m(x))
        strided = self.norm_c(torch.relu_(self.conv_c(x)))
        out: Tensor = self.fusion(torch.cat([strided, pooled], 1))
        return out


class UnravelNet(Pyramid):
    """UnravelNet backbone: (B, 3, H, W) to four maps of D, 2D, 4D, 8D channels at strides 4, 8, 16, 32.

    H and W are at least 32; the first reduction rounds down, the others up. ``stem_dim`` D is 32 for tiny, 64 for
    small.

    Args:
        stem_dim: channels D of the first stage, a multiple of 4.
        depths: blocks in each of the four stages.
        att_kernel: length of the strips of medium-range attention, odd.
        drop_path: rate of stochastic depth at the last block, rising linearly from 0.
    """

    coarsest_stride: ClassVar[int] = 3 * 32  # the last stage's medium-range attention

    def __init__(
        self,
        stem_dim: int = 32,
        depths: Sequence[int] = (1, 4, 4, 2),
        att_kernel: int = 11,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__(
            PatchStem(3, stem_dim),
            stem_dim,
            depths,
            drop_path,
            lambda stage, channels, rate: Block(stage, channels, att_kernel, rate),
            DRFD,
        )
