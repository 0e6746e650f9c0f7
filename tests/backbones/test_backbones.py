"""Both backbones: names and shapes, reference outputs, odd sizes, training."""

import math

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F

from legnet_cli.backbones._layers import laplacian_of_gaussian_kernel
from legnet_cli.backbones.legnet import LEGNet
from legnet_cli.backbones.unravelnet import MediumRangeAttention, UnravelNet

REFERENCES = [
    pytest.param(LEGNet, reference.LEGNET, id="legnet-tiny"),
    pytest.param(UnravelNet, reference.UNRAVELNET, id="unravelnet-tiny"),
]
MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])


@pytest.mark.parametrize(
    ("cls", "stem_dim", "count"),
    [
        pytest.param(LEGNet, 16, 1_311_561, id="legnet-nano"),
        pytest.param(LEGNet, 32, 3_655_029, id="legnet-tiny"),
        pytest.param(LEGNet, 64, 12_776_389, id="legnet-small"),
        pytest.param(UnravelNet, 32, 9_679_161, id="unravelnet-tiny"),
        pytest.param(UnravelNet, 64, 13_986_581, id="unravelnet-small"),
    ],
)
def test_parameter_count(cls, stem_dim, count):
    assert sum(p.numel() for p in cls(stem_dim).parameters()) == count


@pytest.mark.parametrize(("cls", "name"), REFERENCES)
def test_names_shapes_and_features_are_the_published_ones(cls, name):
    golden = reference.golden(name)
    state = reference.golden_state({k: s for k, s in golden["shapes"].items() if k.startswith("backbone.")})
    model = cls().eval()
    model.load_state_dict({name.removeprefix("backbone."): tensor for name, tensor in state.items()})
    image = (torch.from_numpy(reference.image()[:512, :512]).float() - MEAN) / STD
    with torch.inference_mode():
        maps = model(image.permute(2, 0, 1)[None])
    for got, want in zip(maps, golden["features"], strict=True):
        assert list(got.shape) == want["shape"]
        index = np.random.Generator(np.random.PCG64(1)).integers(0, got.numel(), 64)
        np.testing.assert_allclose(got.flatten()[torch.from_numpy(index)], want["sample"], rtol=1e-3, atol=1e-5)
        assert float(got.std()) == pytest.approx(want["std"], rel=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 100), (97, 32)])
@pytest.mark.parametrize(("cls", "first"), [(LEGNet, lambda n: (n + 3) // 4), (UnravelNet, lambda n: n // 4)])
def test_any_size_from_32(cls, first, size):
    with torch.inference_mode():
        maps = cls(16, (1, 1, 1, 1)).eval()(torch.randn(2, 3, *size))
    height, width = map(first, size)
    for channels, got in zip((16, 32, 64, 128), maps, strict=True):
        assert got.shape == (2, channels, height, width)
        assert got.isfinite().all()
        height, width = math.ceil(height / 2), math.ceil(width / 2)


@pytest.mark.parametrize("image", ["flat", "noise"])
@pytest.mark.parametrize("cls", [LEGNet, UnravelNet])
def test_gradients_are_finite(cls, image):
    torch.manual_seed(0)
    model = cls(16, (1, 1, 1, 1), drop_path=0.5).train()
    x = torch.zeros(4, 3, 64, 64) if image == "flat" else torch.randn(4, 3, 64, 64)
    sum(m.square().mean() for m in model(x)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("cls", [LEGNet, UnravelNet])
def test_fresh_weights_keep_the_scale_of_the_signal(cls):
    torch.manual_seed(0)
    with torch.no_grad():
        maps = cls(16).train()(torch.randn(2, 3, 128, 128))
    for got in maps:
        assert 0.5 < float(got.std()) < 2


def test_laplacian_of_gaussian_is_blind_to_flat_and_finds_blobs():
    kernel = laplacian_of_gaussian_kernel(7, 1.0)
    assert float(kernel.sum()) == pytest.approx(0, abs=1e-6)
    assert float(kernel[3, 3]) == pytest.approx(-1 / math.pi, rel=0.01)
    assert torch.equal(kernel, kernel.T)


@pytest.mark.parametrize("cls", [LEGNet, UnravelNet])
def test_exports_and_runs_channels_last(cls):
    torch.manual_seed(0)
    model, x = cls(16, (1, 1, 1, 1)).eval(), torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        want = model(x)
        exported = torch.export.export(model, (x,)).module()(x)
        last = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    for a, b, c in zip(want, exported, last, strict=True):
        torch.testing.assert_close(b, a)
        torch.testing.assert_close(c, a, rtol=0, atol=1e-4 * float(a.abs().max()))


def test_diagonal_strips_equal_shearing_the_map():
    """The published form: shear a square map, convolve with a straight strip, shear back, crop."""
    torch.manual_seed(0)
    n, module = 16, MediumRangeAttention(4, 11)
    x = torch.randn(2, 4, n, n)

    def sheared(m, strip):
        wide = torch.zeros(2, 4, n, 2 * n - 1)
        for i in range(n):
            wide[:, :, i, i : i + n] = m[:, :, i]
        y = F.conv2d(wide, strip, padding=(5, 1), groups=4)
        return torch.stack([y[:, :, i, i : i + n] for i in range(n)], 2)

    with torch.no_grad():
        want = F.conv2d(x, module.H_att1.weight, padding=(5, 1), groups=4)
        want += F.conv2d(x, module.V_att1.weight, padding=(1, 5), groups=4)
        want += sheared(x, module.H_att2.weight)
        want += sheared(x.transpose(2, 3), module.V_att2.weight.transpose(2, 3)).transpose(2, 3)
        got = F.conv2d(x, module.kernel(), padding=6, groups=4)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
