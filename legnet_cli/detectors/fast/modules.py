"""Layers of Oriented R-CNN (arXiv 2108.05699) for inference, under the names of mmrotate's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from legnet_cli.backbones._layers import Pairs
from legnet_cli.detectors.fast.fold import set_conv
from legnet_cli.detectors.fast.strips import ROWS, StripConv


class _Conv(nn.Module):
    """A convolution called ``conv``, as in mmcv's ConvModule."""

    def __init__(self, inp: int, out: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inp, out, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inp, H, W) to (B, out, H, W)."""
        out: Tensor = self.conv(x)
        return out


class MergedLevel(nn.Module):
    """``fpn_conv(lateral_conv(x) + upsampled(top))`` at half the cost, for an ``x`` with few channels.

    Convolution being linear, the two 1×1 and 3×3 convolutions that ``x`` passes become one from its few channels.
    And a 3×3 window on a map upsampled by two covers only 2×2 of its pixels, which ones and with what weights
    depends on the position's parity: four 2×2 convolutions of the small map. The lateral bias moves to ``top``,
    so that the border, where zeros are padded after it, stays exact.
    """

    def __init__(self, lateral: nn.Conv2d, output: nn.Conv2d) -> None:
        super().__init__()
        weight = output.weight.double()
        out, width = weight.shape[:2]
        assert lateral.bias is not None
        self.bias = nn.Parameter(lateral.bias.view(1, -1, 1, 1), requires_grad=False)
        self.mixed = nn.Conv2d(lateral.in_channels, out, 3, padding=1)
        set_conv(self.mixed, torch.einsum("okij,kc->ocij", weight, lateral.weight[:, :, 0, 0].double()), output.bias)
        # rows (or columns) of the small map that even and odd positions see: two each, sums of the three taps
        taps = weight.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
        phases = torch.einsum("rai,sbj,okij->rsokab", taps, taps, weight)
        self.phases = StripConv(width, 4 * out, 2, padding=1, bias=False)
        self.phases.weight = nn.Parameter(phases.flatten(0, 2).to(output.weight.dtype), requires_grad=False)
        self.strided, self.in_strips = True, False

    def make_exportable(self) -> Pairs:
        """As of ``Exportable``: no strided writes, which exporters turn into scattered ones."""
        self.strided = False
        return ()

    def forward(self, x: Tensor, top: Tensor) -> Tensor:
        """(B, C, 2H, 2W) and the next coarser sum (B, K, H, W) to a level (B, K, 2H, 2W)."""
        height, width = top.shape[2:]
        out: Tensor = self.mixed(x)
        if self.in_strips:
            for first, strip in self.phases.strips(top + self.bias, ROWS // 2):  # they are four times as wide
                self._add_strip(out, first, strip.chunk(4, 1))
                del strip  # before the next one is made
            return out
        phases = self.phases(top + self.bias).chunk(4, 1)
        parts = [phase[:, :, i // 2 : i // 2 + height, i % 2 : i % 2 + width] for i, phase in enumerate(phases)]
        if not self.strided:
            return out + F.pixel_shuffle(torch.stack(parts, 2).flatten(1, 2), 2)
        for i, part in enumerate(parts):
            out[:, :, i // 2 :: 2, i % 2 :: 2] += part
        return out

    @staticmethod
    def _add_strip(out: Tensor, first: int, phases: Sequence[Tensor]) -> None:
        """Add rows of all phases, from row ``first`` of theirs on, to ``out``."""
        height, width = out.shape[2] // 2, out.shape[3] // 2
        for i, phase in enumerate(phases):
            down, right = divmod(i, 2)
            top, bottom = max(first, down), min(first + phase.shape[2], height + down)
            part = phase[:, :, top - first : bottom - first, right : right + width]
            out[:, :, 2 * top - down : 2 * bottom - down : 2, right::2] += part


class FPN(nn.Module):
    """Feature pyramid with extra levels by subsampling the last one.

    :meth:`merge_levels` fills ``merged``; clearing that undoes it.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, num_outs: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(_Conv(c, out_channels, 1) for c in in_channels)
        self.fpn_convs = nn.ModuleList(_Conv(out_channels, out_channels, 3) for _ in in_channels)
        self.extra = num_outs - len(in_channels)
        self.merged = nn.ModuleDict()

    def merge_levels(self) -> None:
        """Replace the two convolutions of a level by a :class:`MergedLevel` where that is less work."""
        for i, (lateral, output) in enumerate(self.levels()[:-1]):
            # products a pixel: 9 c k + 4 k k against 9 k k + c k; the margin pays for the additions
            if lateral.in_channels < 0.4 * output.in_channels:
                self.merged[str(i)] = MergedLevel(lateral, output)

    def levels(self) -> list[tuple[nn.Conv2d, nn.Conv2d]]:
        """Lateral and output convolution of each level, finest first."""
        pairs = zip(self.lateral_convs, self.fpn_convs, strict=True)
        return [(cast(_Conv, lateral).conv, cast(_Conv, output).conv) for lateral, output in pairs]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of (B, C_l, H_l, W_l), each twice the size of the next, to ``num_outs`` maps of ``out_channels``."""
        outs: list[Tensor] = []
        top: Tensor | None = None
        for i in range(len(maps) - 1, -1, -1):
            merged = str(i) in self.merged
            if merged:
                outs.append(self.merged[str(i)](maps[i], top))
                if i == 0:
                    break
            lateral = self.lateral_convs[i](maps[i])
            top = lateral if top is None else lateral.add_(F.interpolate(top, size=lateral.shape[2:]))
            if not merged:
                outs.append(self.fpn_convs[i](top))
        outs.reverse()
        for _ in range(self.extra):
            outs.append(outs[-1][:, :, ::2, ::2])
        return outs


class RPNHead(nn.Module):
    """Region proposal network: objectness and six offsets for each anchor of each pixel."""

    def __init__(self, in_channels: int, feat_channels: int, anchors: int) -> None:
        super().__init__()
        self.rpn_conv = StripConv(in_channels, feat_channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(feat_channels, anchors, 1)
        self.rpn_reg = nn.Conv2d(feat_channels, 6 * anchors, 1)
        self.both: nn.Conv2d | None = None
        self.in_strips = False

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) to logits (B, A, H, W) and offsets (B, 6A, H, W)."""
        if self.both is None:
            x = torch.relu_(self.rpn_conv(x))
            return self.rpn_cls(x), self.rpn_reg(x)
        if self.in_strips and x.shape[2] > ROWS:
            both = torch.cat([self.both(torch.relu_(strip)) for _, strip in self.rpn_conv.strips(x)], 2)
        else:
            both = self.both(torch.relu_(self.rpn_conv(x)))
        logits, offsets, _ = torch.split(both, self.sizes, 1)
        return logits, offsets

    def merge_outputs(self) -> None:
        """Compute logits and offsets by one convolution, which reads its large input once."""
        parts = self.rpn_cls, self.rpn_reg
        weight = torch.cat([part.weight for part in parts])
        bias = torch.cat([part.bias for part in parts if part.bias is not None])
        spare = -len(weight) % 16  # whole vectors of outputs are faster than their rest
        self.both = nn.Conv2d(weight.shape[1], len(weight) + spare, 1)
        set_conv(self.both, F.pad(weight, (0, 0, 0, 0, 0, 0, 0, spare)), F.pad(bias, (0, spare)))
        self.sizes = [len(self.rpn_cls.weight), len(self.rpn_reg.weight), spare]


class BoxHead(nn.Module):
    """Two shared layers, then class logits and five offsets for each box."""

    def __init__(self, inputs: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.shared_fcs = nn.ModuleList([nn.Linear(inputs, width), nn.Linear(width, width)])
        self.fc_cls = nn.Linear(width, num_classes + 1)
        self.fc_reg = nn.Linear(width, 5)

    def read_channels_last(self, channels: int) -> None:
        """See :func:`read_channels_last`."""
        read_channels_last(cast(nn.Linear, self.shared_fcs[0]), channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, inputs) to float32 logits (n, num_classes + 1), background last, and offsets (n, 5)."""
        for layer in self.shared_fcs:
            x = torch.relu_(layer(x))
        x = x.float()
        return self.fc_cls(x), self.fc_reg(x)


def read_channels_last(first: nn.Linear, channels: int) -> None:
    """Reorder the weights for inputs flattened from (bins, channels) instead of (channels, bins)."""
    weight = first.weight.view(len(first.weight), channels, -1).transpose(1, 2).flatten(1)
    first.weight = nn.Parameter(weight, requires_grad=False)


class RoIHead(nn.Module):
    """Holds the box head under mmrotate's name."""

    def __init__(self, bbox_head: BoxHead) -> None:
        super().__init__()
        self.bbox_head = bbox_head


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Convolutions and linear layers of ``model`` by name."""
    kinds = nn.Conv1d, nn.Conv2d, nn.Linear
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}
