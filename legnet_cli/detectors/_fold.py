"""Merging of batch norms into the convolutions beside them, for inference.

In evaluation mode a batch norm is ``scale * x + shift`` per channel. After a convolution it scales the filters and
shifts the bias; before a 1×1 convolution it scales the filters' inputs. Both are exact up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def fold_norms(model: nn.Module) -> None:
    """Replace by ``nn.Identity``, in place, the norms of ``model`` that a neighbouring convolution can take over.

    Neighbours in an ``nn.Sequential`` are found here; other pairs are those that a module names in its
    ``norm_after_conv`` and ``norm_before_conv`` (see :mod:`legnet_cli.backbones._layers`).
    """
    for module in list(model.modules()):
        for conv, norm in _pairs(module, "norm_after_conv"):
            fold_after(module.get_submodule(conv), module, norm)
        first: dict[str, int] = {}  # norms that share a convolution read its inputs in the order they are named
        for norm, conv in _pairs(module, "norm_before_conv"):
            start = first.get(conv, 0)
            first[conv] = start + fold_before(module, norm, module.get_submodule(conv), start)


def _pairs(module: nn.Module, kind: str) -> Iterator[tuple[str, str]]:
    for base in type(module).__mro__:
        yield from base.__dict__.get(kind, ())
    if kind == "norm_after_conv" and isinstance(module, nn.Sequential):
        names = list(module._modules)
        for first, second in zip(names, names[1:], strict=False):
            if isinstance(module[int(first)], nn.Conv2d) and isinstance(module[int(second)], nn.BatchNorm2d):
                yield first, second


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """``scale``, ``shift`` (C,) in float64 that stand for ``norm`` in evaluation mode."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _take(owner: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    """Scale and shift of the norm called ``name``, which becomes an identity."""
    norm = owner.get_submodule(name)
    owner.set_submodule(name, nn.Identity())
    return scale_and_shift(norm)


@torch.no_grad()
def set_conv(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    """Give ``conv`` new values in its own dtype; it gains a bias if it had none."""
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)


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
    weight = conv.weight.double()
    bias = weight[:, inputs, 0, 0] @ shift
    weight[:, inputs] *= scale[:, None, None]
    set_conv(conv, weight, bias if conv.bias is None else bias + conv.bias.double())
    return len(scale)


def scale_input(model: nn.Module, scale: Tensor) -> None:
    """Let the first convolution of ``model`` multiply each input channel by ``scale`` (C,)."""
    conv = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    set_conv(conv, conv.weight.double() * scale.to(conv.weight.device)[:, None, None], bias)


class Twice(nn.Module):
    """Its input beside itself: (B, C, H, W) to (B, 2C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate."""
        return torch.cat([x, x], 1)


@torch.no_grad()
def split_multiplier(down: nn.Module) -> None:
    """Run the depthwise convolution C → 2C of a DRFD module, in place, on two copies of its input.

    With one filter a channel it takes a fast path, several times faster on a CPU. The order of the 2C channels
    changes (all first filters, then all second ones), for everything up to the 1×1 ``fusion``.
    """
    width = down.conv.in_channels
    order = torch.arange(2 * width).view(width, 2).t().flatten()
    for name, module in down.named_children():
        if name != "fusion":
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.ndim > 0:
                    tensor.copy_(tensor[order])
    down.fusion.weight.copy_(down.fusion.weight[:, torch.cat([order, 2 * width + order])])
    doubled = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
    set_conv(doubled, down.conv.weight, down.conv.bias)
    down.conv = nn.Sequential(Twice(), doubled)


@torch.no_grad()
def densify(conv: nn.Conv2d) -> nn.Conv2d:
    """A grouped convolution as one with zeros between groups: faster where groups are many and channels few."""
    out, width = conv.out_channels, conv.in_channels
    dense = nn.Conv2d(width, out, conv.kernel_size, conv.stride, conv.padding)
    weight = torch.zeros_like(dense.weight)
    per_group = conv.weight.shape[1]
    for i in range(out):
        start = i // (out // conv.groups) * per_group
        weight[i, start : start + per_group] = conv.weight[i]
    set_conv(dense, weight, conv.bias)
    return dense
