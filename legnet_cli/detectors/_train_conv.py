"""Quicker gradients of convolutions on a CPU.

oneDNN's gradient of a 3×3 convolution's weights is two to three times faster from maps that are contiguous channel by
channel than from channels-last ones, which everything else is faster with.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_CHANNELS = 16  # from here on it pays


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own context
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        how: tuple[list[int], list[int], list[int]],
    ) -> Tensor:
        stride, padding, dilation = how
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.has_bias = how, bias is not None
        return F.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.how
        rest = (stride, padding, dilation, False, [0, 0], 1)
        backward = torch.ops.aten.convolution_backward
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dx = backward(grad, x, weight, None, *rest, [True, False, False])[0]
        if ctx.needs_input_grad[1]:
            kernel = weight.contiguous()
            _, dw, _ = backward(grad.contiguous(), x.contiguous(), kernel, None, *rest, [False, True, False])
            dw = torch.empty_like(weight).copy_(dw)  # optimizers want the gradient laid out as the weight
        if ctx.has_bias and ctx.needs_input_grad[2]:
            db = grad.sum((0, 2, 3))
        return dx, dw, db, None


def quicken(model: nn.Module) -> None:
    """Give the convolutions of ``model`` that gain from it the quicker gradient; for float32 on a CPU."""
    for module in model.modules():
        if not isinstance(module, nn.Conv2d) or module.groups > 1 or max(module.kernel_size) == 1:
            continue
        if min(module.in_channels, module.out_channels) >= _CHANNELS and module.padding_mode == "zeros":
            module.forward = _forward(module)  # type: ignore[method-assign]


def _forward(module: nn.Conv2d) -> Any:  # noqa: ANN401
    how = list(module.stride), list(module.padding), list(module.dilation)

    def forward(x: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu") or not module.weight.requires_grad:
            return nn.Conv2d.forward(module, x)
        out: Tensor = _Conv.apply(x, module.weight, module.bias, how)
        return out

    return forward
