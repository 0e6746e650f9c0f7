import itertools
import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from legnet_cli.ops import deform_conv as module
from legnet_cli.ops.deform_conv import ConvGeometry, deform_conv, deform_conv_grad_inputs, deform_conv_grad_weight

# kernel, geometry
CASES = {
    "plain": ((3, 3), ConvGeometry(padding=(1, 1))),
    "stride": ((3, 2), ConvGeometry(stride=(2, 1), padding=(1, 0))),
    "dilation": ((2, 3), ConvGeometry(padding=(1, 2), dilation=(1, 2))),
    "groups": ((3, 3), ConvGeometry(padding=(1, 1), groups=2)),
    "offset groups": ((2, 2), ConvGeometry(deform_groups=4)),
    "both": ((1, 3), ConvGeometry(stride=(1, 2), groups=2, deform_groups=2)),
}


def problem(kernel, geometry, spread=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    features, weight = random(2, 4, 6, 7), random(6, 4 // geometry.groups, *kernel)
    rows, columns = F.conv2d(
        features, weight, None, geometry.stride, geometry.padding, geometry.dilation, geometry.groups
    ).shape[2:]
    taps = kernel[0] * kernel[1] * geometry.deform_groups
    return features, random(2, 2 * taps, rows, columns) * spread, weight, random(2, taps, rows, columns).sigmoid()


def reference(features, offset, weight, mask, geometry):
    """Tap by tap, straight from the definition."""
    n, channels, height, width = features.shape
    taps, group_size = weight.shape[2] * weight.shape[3], channels // geometry.deform_groups
    out = torch.zeros(n, len(weight), *offset.shape[2:], dtype=features.dtype)
    for image, o, i, j in itertools.product(*map(range, out.shape)):
        for c, (ki, kj) in itertools.product(range(weight.shape[1]), itertools.product(*map(range, weight.shape[2:]))):
            channel = o // (len(weight) // geometry.groups) * weight.shape[1] + c
            tap = channel // group_size * taps + ki * weight.shape[3] + kj
            y = i * geometry.stride[0] - geometry.padding[0] + ki * geometry.dilation[0] + offset[image, 2 * tap, i, j]
            x = j * geometry.stride[1] - geometry.padding[1] + kj * geometry.dilation[1]
            x = x + offset[image, 2 * tap + 1, i, j]
            for row, column in itertools.product(*((math.floor(v), math.floor(v) + 1) for v in (y, x))):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - abs(y - row)) * (1 - abs(x - column))
                    factor = 1 if mask is None else mask[image, tap, i, j]
                    value = features[image, channel, row, column]
                    out[image, o, i, j] += weight[o, c, ki, kj] * factor * share * value
    return out


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("case", ["stride", "offset groups", "both"])
def test_values(case, modulated):
    kernel, geometry = CASES[case]
    features, offset, weight, mask = problem(kernel, geometry)
    features, offset, mask = features[:1, :, :4], offset[:1, :, :2], mask[:1, :, :2]
    mask = mask if modulated else None
    torch.testing.assert_close(
        deform_conv(features, offset, weight, mask, geometry), reference(features, offset, weight, mask, geometry)
    )


@pytest.mark.parametrize("case", CASES)
def test_without_offsets_it_is_a_convolution(case):
    kernel, geometry = CASES[case]
    features, offset, weight, mask = problem(kernel, geometry, spread=0)
    plain = F.conv2d(features, weight, None, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
    torch.testing.assert_close(deform_conv(features, offset, weight, None, geometry), plain)
    torch.testing.assert_close(deform_conv(features, offset, weight, torch.ones_like(mask), geometry), plain)


class Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, geometry, *tensors):
        ctx.geometry = geometry
        ctx.save_for_backward(*tensors)
        return deform_conv(*tensors, geometry)

    @staticmethod
    def backward(ctx, grad):
        features, offset, mask = [*deform_conv_grad_inputs(grad, *ctx.saved_tensors, ctx.geometry), None][:3]
        return None, features, offset, deform_conv_grad_weight(grad, *ctx.saved_tensors, ctx.geometry), mask


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_gradients(case, modulated):
    kernel, geometry = CASES[case]
    *tensors, mask = problem(kernel, geometry)
    tensors = [tensor.requires_grad_() for tensor in tensors]
    mask = mask.requires_grad_() if modulated else None
    assert torch.autograd.gradcheck(
        lambda *args: Differentiable.apply(geometry, *args), (*tensors, mask), fast_mode=True
    )


def test_work_in_parts_gives_the_same(monkeypatch):
    kernel, geometry = CASES["both"]
    arguments = problem(kernel, geometry)
    grad = torch.ones_like(deform_conv(*arguments, geometry))

    def results():
        inputs = deform_conv_grad_inputs(grad, *arguments, geometry)
        return deform_conv(*arguments, geometry), *inputs, deform_conv_grad_weight(grad, *arguments, geometry)

    whole = results()
    monkeypatch.setattr(module, "_CPU_COLUMNS", 1)
    torch.testing.assert_close(results(), whole)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_offsets_that_are_not_finite_count_as_zeros(value):
    kernel, geometry = CASES["plain"]
    features, offset, weight, _ = problem(kernel, geometry)
    offset[:] = value
    assert not deform_conv(features, offset, weight, None, geometry).any()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 0.03), (torch.bfloat16, 0.2)])
def test_float_types(dtype, tolerance):
    kernel, geometry = CASES["plain"]
    features, offset, weight, _ = problem(kernel, geometry)
    offset = offset.to(dtype)
    expected = deform_conv(features, offset.double(), weight, None, geometry)
    found = deform_conv(features.to(dtype), offset, weight.to(dtype), None, geometry)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)


def test_every_tensor_is_made_on_the_device_of_the_features():
    kernel, geometry = CASES["both"]
    with FakeTensorMode():  # checks devices without having them
        arguments = *(torch.empty_like(tensor, device="cuda") for tensor in problem(kernel, geometry)), geometry
        out = deform_conv(*arguments)
        assert out.device.type == "cuda"
        assert deform_conv_grad_weight(out, *arguments).device.type == "cuda"
