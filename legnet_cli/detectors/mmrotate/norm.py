"""Batch norm of maps with few channels in training, where PyTorch's CPU code goes through channels-last maps slowly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_FEW = 16  # channels from which PyTorch's own is as fast
_WIDTH = 256  # of the rows that pixels are put together into: whole vectors


class FewChannelNorm(nn.BatchNorm2d):
    """Batch norm that takes several pixels of a channels-last map as one of more channels; results are the same."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        fits = self.training and x.device.type == "cpu" and x.dtype == torch.float32
        if not fits or not x.is_contiguous(memory_format=torch.channels_last) or self.momentum is None:
            return super().forward(x)
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            count = x.numel() // x.shape[1]
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)
            self.num_batches_tracked += 1
        out: Tensor = y
        return out


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
        channels = len(weight)
        rows = _rows(x)
        times = rows.shape[1] // channels
        count = x.numel() // channels
        mean = _total(rows, channels) / count
        centred = rows - mean.repeat(times)
        variance = _total(centred.square(), channels) / count
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(centred, weight, scale)
        y = torch.empty_like(x)
        torch.addcmul(bias.repeat(times), centred, (weight * scale).repeat(times), out=_rows(y))
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # noqa: ANN401
        centred, weight, scale = ctx.saved_tensors
        channels = len(weight)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        rows = _rows(gradient)
        times, count = rows.shape[1] // channels, rows.numel() // channels
        bias_gradient = _total(rows, channels)
        weight_gradient = _total(rows * centred, channels) * scale
        factor = weight * scale
        slope = -factor * scale * weight_gradient / count
        out = torch.empty_like(gradient)
        torch.addcmul((-factor * bias_gradient / count).repeat(times), rows, factor.repeat(times), out=_rows(out))
        _rows(out).addcmul_(centred, slope.repeat(times))
        return out, weight_gradient, bias_gradient, None


def _rows(x: Tensor) -> Tensor:
    """A view of the pixels of a channels-last map, as many side by side as fill a row evenly."""
    pixels = x.numel() // x.shape[1]
    times = max(1, _WIDTH // x.shape[1])
    while pixels % times:
        times -= 1
    return x.permute(0, 2, 3, 1).view(-1, times * x.shape[1])


def _total(rows: Tensor, channels: int) -> Tensor:
    """Sum of each channel."""
    return rows.sum(0).view(-1, channels).sum(0)


def replace_batch_norms(model: nn.Module) -> None:
    """Replace, in place, the batch norms of few channels; their tensors stay the same ones."""
    for name, norm in list(model.named_modules()):
        if type(norm) is nn.BatchNorm2d and norm.num_features < _FEW and norm.affine and norm.track_running_stats:
            quick = FewChannelNorm(norm.num_features, norm.eps, norm.momentum).train(norm.training)
            quick.weight, quick.bias = norm.weight, norm.bias
            quick.running_mean, quick.running_var = norm.running_mean, norm.running_var
            quick.num_batches_tracked = norm.num_batches_tracked
            model.set_submodule(name, quick)
