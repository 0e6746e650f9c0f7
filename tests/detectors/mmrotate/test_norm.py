"""Batch norm of few channels in training."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from legnet_cli.detectors.mmrotate.norm import FewChannelNorm, replace_batch_norms


@pytest.mark.parametrize(("channels", "side"), [(4, 64), (8, 33), (15, 7)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_equals_pytorchs_in_double_precision(channels: int, side: int, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    quick = nn.Sequential(nn.BatchNorm2d(channels))
    nn.init.uniform_(quick[0].weight)
    nn.init.uniform_(quick[0].bias)
    exact = copy.deepcopy(quick).double()
    replace_batch_norms(quick)
    assert isinstance(quick[0], FewChannelNorm)
    for scale in (1.0, 3.0):  # twice, for the running statistics
        x = torch.randn(2, channels, side, side) * scale + 5 * torch.arange(channels).view(1, -1, 1, 1)
        gradient = torch.randn_like(x).to(memory_format=layout)
        results = []
        for model in (quick, exact):
            kind = next(model.parameters()).dtype
            given = x.to(kind).to(memory_format=layout).detach().requires_grad_(True)
            out = torch.relu_(model(given))
            out.backward(gradient.to(kind))
            results.append([out, given.grad, *(p.grad for p in model.parameters()), *model.buffers()])
        for mine, theirs in zip(*results, strict=True):
            torch.testing.assert_close(mine.double(), theirs.double(), rtol=2e-5, atol=2e-5)


def test_tensors_stay_and_wide_norms_too() -> None:
    model = nn.Sequential(nn.BatchNorm2d(8), nn.BatchNorm2d(16)).eval()
    before = model.state_dict(keep_vars=True)
    replace_batch_norms(model)
    after = model.state_dict(keep_vars=True)
    assert [name for name, tensor in before.items() if after[name] is not tensor] == []
    assert [type(norm) for norm in model] == [FewChannelNorm, nn.BatchNorm2d]
    assert not model[0].training


def test_in_evaluation_running_statistics_count() -> None:
    norm = FewChannelNorm(4).eval()
    x = torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last) + 3
    torch.testing.assert_close(norm(x), x / (1 + norm.eps) ** 0.5)
