"""Layers computed strip by strip give what they give at once, and none of them sees a wide map whole."""

import pytest
import torch
from torch import nn

from legnet_cli.detectors.fast.kernels import kernels_of
from legnet_cli.detectors.fast.oriented_rcnn import OrientedRCNN
from legnet_cli.detectors.fast.strips import ROWS, StripConv, Strips
from legnet_cli.detectors.fast.winograd import WinogradConv
from legnet_cli.detectors.networks import network_config, random_checkpoint
from legnet_cli.detectors.weights.recipes import get_recipe


def maps(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("rows", [8, 20, 64])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kernel", [lambda conv: conv, WinogradConv], ids=["direct", "winograd"])
def test_strips_of_a_convolution_are_its_rows(kernel, size, padding, rows):
    torch.manual_seed(0)
    conv = StripConv(64, 72, size, padding=padding).to(memory_format=torch.channels_last).requires_grad_(False)
    x, made = maps(2, 64, 51, 40), kernel(conv)
    strips = list(made.strips(x, rows))
    assert [first for first, _ in strips] == list(range(0, 51 + 2 * padding + 1 - size, rows))
    torch.testing.assert_close(torch.cat([strip for _, strip in strips], 2), made(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("height", [ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 30])
def test_layers_in_a_row_see_over_the_seams(height):
    torch.manual_seed(0)
    layers = nn.Conv2d(8, 16, 1), nn.ReLU(inplace=True), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 8, 1)
    x = maps(1, 8, height, 20)
    with torch.inference_mode():
        torch.testing.assert_close(Strips(*layers)(x), nn.Sequential(*layers)(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel", ["direct", "winograd", "product"])
def test_the_dense_part_gives_the_same_and_takes_less(kernel):
    made = random_checkpoint(get_recipe("oriented-rcnn/legnet-nano"))
    whole, parts = (OrientedRCNN(network_config(made.card), made.state, device="cpu") for _ in range(2))
    parts.work_in_strips()
    for network in (whole, parts):
        network.use_kernels({n: kernel for n, layer in network.choosable.items() if kernel in kernels_of(layer)})
    images = torch.randint(0, 256, (2, 300, 130, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    rows = []
    for layer in (parts.rpn_head.rpn_conv, parts.backbone.Stem.gaussian.conv_extra.block[3], parts.rpn_head.both):
        layer.register_forward_hook(lambda _, inputs, output: rows.append(output.shape[2]))
    with torch.inference_mode():
        (features, outputs), (others, alike) = (n.dense(n.prepare(images)) for n in (whole, parts))
    assert max(rows) <= ROWS + 2
    for one, other in zip([*features, *sum(outputs, ())], [*others, *sum(alike, ())], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(one.abs().max()))
