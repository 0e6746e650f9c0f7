"""Sigmoid focal loss (arXiv 1708.02002) and its gradient, element by element.

Written with log-sigmoid, so that large logits stay exact.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sigmoid_focal_loss(logits: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
    """Loss of every logit.

    Args:
        logits: (n, classes).
        target: (n,) int64 class indices; any other value, such as ``classes``, is background.
        gamma: how much easy samples count less.
        alpha: weight of the positive logits, 1 - alpha that of the others.

    Returns:
        (n, classes), in float32 or better.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    p = logits.sigmoid()
    positive = -alpha * (1 - p) ** gamma * F.logsigmoid(logits)
    negative = -(1 - alpha) * p**gamma * F.logsigmoid(-logits)
    return torch.where(_one_hot(logits, target), positive, negative)


def sigmoid_focal_loss_grad(logits: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
    """Derivative (n, classes) of :func:`sigmoid_focal_loss` by its logits."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    p = logits.sigmoid()
    positive = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * F.logsigmoid(logits))
    negative = -(1 - alpha) * p**gamma * (gamma * (1 - p) * F.logsigmoid(-logits) - p)
    return torch.where(_one_hot(logits, target), positive, negative)


def _one_hot(logits: Tensor, target: Tensor) -> Tensor:
    return target[:, None] == torch.arange(logits.shape[1], device=logits.device)
