"""Ways to compute a layer on a CPU in float32, and the choice of one for each layer of a network.

A choice is written as ``layer=kernel,layer=kernel``, in order of the layers' names and without those that are computed
directly, by PyTorch's own layer; it is ``direct`` if all are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from legnet_cli.detectors.cpu import fast_products
from legnet_cli.detectors.fast.winograd import WinogradConv
from legnet_cli.errors import ConfigError

Layer = nn.Conv2d | nn.Linear

DIRECT, WINOGRAD, WINOGRAD_CONV = "direct", "winograd", "winograd-conv"
PRODUCT, CONVOLUTION = "product", "convolution"
_AT_ONCE = 256  # outputs of a linear layer
_WIDE, _VERY_WIDE = 64, 128  # channels: where other kernels may win, and where Winograd's is known to


class ProductConv(nn.Conv2d):
    """A 1×1 convolution as a product of matrices."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 1, bias=conv.bias is not None, device="meta")
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, H, W), channels-last."""
        return F.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)


class ConvolvedLinear(nn.Linear):
    """A linear layer as a 1×1 convolution."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) to (n, outputs)."""
        image = x[None, None].permute(0, 3, 1, 2)  # a line of n pixels, channels-last
        few = torch.split(self.weight[:, :, None, None], _AT_ONCE)  # the library makes a copy of what it is given
        biases = [None] * len(few) if self.bias is None else torch.split(self.bias, _AT_ONCE)
        parts = [F.conv2d(image, *some)[0, :, 0].t() for some in zip(few, biases, strict=True)]
        return torch.cat(parts, 1)


_MAKERS: dict[str, Callable[[Any], nn.Module]] = {
    WINOGRAD: WinogradConv,
    WINOGRAD_CONV: partial(WinogradConv, convolve=True),
    PRODUCT: ProductConv,
    CONVOLUTION: ConvolvedLinear,
}


def kernels_of(layer: nn.Module) -> tuple[str, ...]:
    """How a layer can be computed; only directly, unless it is wide enough for others to be faster."""
    if not isinstance(layer, (nn.Conv2d, nn.Linear)) or min(layer.weight.shape[:2]) < _WIDE:
        return (DIRECT,)
    if isinstance(layer, nn.Linear):
        return DIRECT, CONVOLUTION
    if WinogradConv.takes(layer):
        return DIRECT, WINOGRAD, WINOGRAD_CONV
    pointwise = layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1
    return (DIRECT, PRODUCT) if pointwise else (DIRECT,)


def make_kernel(layer: Layer, kernel: str) -> nn.Module:
    """``layer`` computed by ``kernel``, with the same tensors; itself if that is the direct one."""
    return layer if kernel == DIRECT else _MAKERS[kernel](layer)


def usual_choice(layers: Mapping[str, Layer]) -> dict[str, str]:
    """The kernels of ``layers`` that are known to be fast on this kind of CPU, without measuring."""
    if not fast_products():
        return {name: CONVOLUTION for name, layer in layers.items() if CONVOLUTION in kernels_of(layer)}
    wide = {name for name, layer in layers.items() if min(layer.weight.shape[:2]) >= _VERY_WIDE}
    return {name: WINOGRAD for name in layers if name in wide and WINOGRAD in kernels_of(layers[name])}


def choice_to_text(choice: Mapping[str, str]) -> str:
    """A choice as it is written down."""
    pairs = [f"{name}={kernel}" for name, kernel in sorted(choice.items()) if kernel != DIRECT]
    return ",".join(pairs) or DIRECT


def text_to_choice(text: str, layers: Mapping[str, Layer]) -> dict[str, str]:
    """The choice that ``text`` stands for.

    Raises:
        ConfigError: it is none for ``layers``.
    """
    choice = {} if text == DIRECT else dict(part.partition("=")[::2] for part in text.split(","))
    for name, kernel in choice.items():
        if name not in layers or kernel not in kernels_of(layers[name]):
            given = f"{name}={kernel}".rstrip("=")
            raise ConfigError(f"--kernels {given}: these weights have no such kernel: choose auto, default or direct")
    return choice
