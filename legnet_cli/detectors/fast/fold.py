"""Exact rewriting of trained weights for faster inference: the same outputs, up to rounding, by less work.

In evaluation mode a batch norm is ``scale * x + shift`` per channel. After a convolution it scales the filters and
shifts the bias; before a 1×1 convolution it scales the filters' inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn


def fold_norms(model: nn.Module) -> None:
    """Replace by ``nn.Identity``, in place, the norms of ``model`` that a neighbouring convolution can take over.

    Neighbours in an ``nn.Sequential`` are found here; other pairs are those that a module names in its
    ``norm_after_conv`` and ``norm_before_conv`` (see ``legnet_cli.backbones._layers``).
    """
    for module in list(model.modules()):
        for conv, norm in _pairs(module, "norm_after_conv"):
            fold_after(_conv(module, conv), module, norm)
        first: dict[str, int] = {}  # norms that share a convolution read its inputs in the order they are named
        for norm, conv in _pairs(module, "norm_before_conv"):
            start = first.get(conv, 0)
            first[conv] = start + fold_before(module, norm, _conv(module, conv), start)


def _conv(owner: nn.Module, name: str) -> nn.Conv2d:
    return cast(nn.Conv2d, owner.get_submodule(name))


def _pairs(module: nn.Module, kind: str) -> Iterator[tuple[str, str]]:
    for base in type(module).__mro__:
        yield from base.__dict__.get(kind, ())
    if kind == "norm_after_conv" and isinstance(module, nn.Sequential):
        for (first, conv), (second, norm) in pairwise(module.named_children()):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                yield first, second


def _take(owner: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,), float64, of ``owner``'s norm, which becomes an identity."""
    norm = owner.get_submodule(name)
    owner.set_submodule(name, nn.Identity())
    values = (cast(Tensor, getattr(norm, k)).double() for k in ("weight", "bias", "running_mean", "running_var"))
    weight, bias, mean, var = values
    scale = weight / (var + cast(float, norm.eps)).sqrt()
    return scale, bias - mean * scale


def set_conv(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
    """Give ``conv`` new values in its own dtype; with ``bias`` it gains one if it had none."""
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
    conv.bias = None if bias is None else nn.Parameter(bias.detach().to(dtype), requires_grad=False)


def fold_after(conv: nn.Conv2d, owner: nn.Module, norm: str) -> None:
    """Move ``owner``'s norm into the convolution ``conv`` whose bare output it reads."""
    scale, shift = _take(owner, norm)
    bias = shift if conv.bias is None else shift + conv.bias.double() * scale
    set_conv(conv, conv.weight.double() * scale[:, None, None, None], bias)


def fold_before(owner: nn.Module, norm: str, conv: nn.Conv2d, first: int = 0) -> int:
    """Move ``owner``'s norm into the 1×1 ``conv`` that alone reads it; returns how many channels it has.

    They are input channels ``first`` and following of ``conv``.
    """
    scale, shift = _take(owner, norm)
    inputs = slice(first, first + len(scale))
    weight = conv.weight.detach().double()
    bias = weight[:, inputs, 0, 0] @ shift
    weight[:, inputs] *= scale[:, None, None]
    set_conv(conv, weight, bias if conv.bias is None else bias + conv.bias.double())
    return len(scale)


def scale_input(model: nn.Module, scale: Tensor) -> None:
    """Let the first convolution of ``model`` multiply each input channel by ``scale`` (C,)."""
    conv = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    set_conv(conv, conv.weight.double() * scale[:, None, None], conv.bias)


def regroup(model: nn.Module) -> None:
    """Replace, in place, depthwise convolutions with several filters a channel: a CPU has no fast path for those."""
    for owner in list(model.modules()):
        if names := getattr(owner, "free_order", None):
            split_filters(owner, *names)
        for name, conv in list(owner.named_children()):
            if isinstance(conv, nn.Conv2d) and 1 < conv.groups == conv.in_channels < conv.out_channels:
                owner.add_module(name, ungrouped(conv))


class Twice(nn.Module):
    """Its input beside itself."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 2C, H, W)."""
        return torch.cat([x, x], 1)


@torch.no_grad()
def split_filters(owner: nn.Module, conv: str, reader: str) -> None:
    """Run the depthwise 3×3 ``conv`` C → 2C of ``owner`` as one filter a channel on two copies of its input.

    That is three to six times faster on a CPU. The order of the 2C channels changes (all first filters, then all
    second ones), for everything up to the 1×1 ``reader``; see ``free_order`` in ``legnet_cli.backbones._layers``.
    """
    first, last = _conv(owner, conv), _conv(owner, reader)
    width = first.in_channels
    order = torch.arange(2 * width).view(width, 2).t().flatten()
    for name, module in owner.named_children():
        if name != reader:
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.ndim > 0:
                    tensor.data = tensor.data[order]  # not in place: the values may be somebody else's too
    # it may read several maps of 2C channels side by side
    maps = last.in_channels // (2 * width)
    last.weight.data = last.weight.data[:, torch.cat([order + 2 * width * i for i in range(maps)])]
    doubled = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
    set_conv(doubled, first.weight, first.bias)
    owner.add_module(conv, nn.Sequential(Twice(), doubled))


def ungrouped(conv: nn.Conv2d) -> nn.Conv2d:
    """A 3×3 depthwise convolution with several filters a channel as an ordinary one with zeros in between."""
    full = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1)
    source = torch.arange(conv.out_channels) // (conv.out_channels // conv.in_channels)
    reads = torch.nn.functional.one_hot(source, conv.in_channels)
    set_conv(full, reads[:, :, None, None] * conv.weight, conv.bias)
    return full
