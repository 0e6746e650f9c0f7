"""The dense part can be traced and compiled: fixed shapes, and no value is read back, whatever the kernels."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from legnet_cli.detectors.fast.kernels import kernels_of
from legnet_cli.detectors.loader import build_detector
from legnet_cli.detectors.networks import random_checkpoint
from legnet_cli.detectors.weights.recipes import get_recipe

KERNELS = ["direct", "winograd", "winograd-conv", "product"]
LEVELS = [(1, 64, side, side) for side in (64, 32, 16, 8, 4)]


@pytest.fixture(scope="module")
def network():
    return build_detector(random_checkpoint(get_recipe("oriented-rcnn/legnet-nano")), torch.device("cpu")).network


def use(network, kernel):
    network.use_kernels({name: kernel for name, layer in network.choosable.items() if kernel in kernels_of(layer)})


@pytest.mark.parametrize("kernel", KERNELS)
def test_shapes_are_known_without_values(network, kernel):
    use(network, kernel)
    with torch.inference_mode(), FakeTensorMode(allow_non_fake_inputs=True):
        features, outputs = network.dense(network.prepare(torch.zeros(1, 250, 256, 3, dtype=torch.uint8)))
    assert [tuple(level.shape) for level in features] == LEVELS
    assert [tuple(offsets.shape) for _, offsets in outputs] == [(1, 18, *shape[2:]) for shape in LEVELS]


@pytest.mark.parametrize("kernel", ["direct", "winograd"])
def test_the_dense_part_is_one_graph(network, kernel):
    use(network, kernel)
    dense = torch.compile(network.dense, backend="eager", fullgraph=True)  # an error where the graph breaks
    x = network.prepare(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    with torch.no_grad():
        for one, other in zip(dense(x)[0], network.dense(x)[0], strict=True):
            torch.testing.assert_close(one, other)
