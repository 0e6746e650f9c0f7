"""Winograd's convolution equals the direct one up to rounding, at any size and place of the border."""

import numpy as np
import pytest
import torch
from torch import nn

from legnet_cli.detectors.fast.winograd import POINTS, SIDE, WinogradConv, transforms


@pytest.mark.parametrize("size", sorted(POINTS))
def test_transforms_correlate(size):
    a, g, b = transforms(size)
    rng = np.random.default_rng(0)
    window, kernel = rng.normal(size=SIDE + size - 1), rng.normal(size=size)
    np.testing.assert_allclose(a @ ((g @ kernel) * (b @ window)), np.correlate(window, kernel), rtol=1e-10)


@pytest.mark.parametrize("convolve", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("size", sorted(POINTS))
@pytest.mark.parametrize("shape", [(24, 24), (21, 50), (70, 23)])
def test_equals_the_direct_sum(shape, size, padding, bias, convolve):
    torch.manual_seed(0)
    conv = nn.Conv2d(128, 136, size, padding=padding, bias=bias).to(memory_format=torch.channels_last)
    conv.requires_grad_(False)
    x = torch.randn(2, 128, *shape).to(memory_format=torch.channels_last)
    want, got = conv.double()(x.double()), WinogradConv(conv.float(), convolve)(x)
    assert got.dtype == torch.float32
    assert got.stride(1) == 1
    torch.testing.assert_close(got.double(), want, rtol=0, atol=2e-5)
    alone = WinogradConv(conv, convolve)(x[1:])
    assert torch.equal(alone[0], got[1])


def test_small_maps_take_the_direct_way():
    conv = nn.Conv2d(128, 128, 3, padding=1).requires_grad_(False)
    x = torch.randn(1, 128, 19, 19)
    assert torch.equal(WinogradConv(conv)(x), conv(x))
