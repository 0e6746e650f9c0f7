"""Kernels of a layer equal it, and a choice of them is text."""

import pytest
import torch
from torch import nn

from legnet_cli.detectors import cpu
from legnet_cli.detectors.fast.kernels import (
    choice_to_text,
    kernels_of,
    make_kernel,
    text_to_choice,
    usual_choice,
)
from legnet_cli.errors import ConfigError

LAYERS = {
    "wide": nn.Conv2d(128, 128, 3, padding=1),
    "less": nn.Conv2d(64, 128, 3, padding=1),
    "phases": nn.Conv2d(128, 256, 2, padding=1, bias=False),
    "point": nn.Conv2d(64, 96, 1),
    "linear": nn.Linear(128, 64),
    "narrow": nn.Conv2d(32, 128, 3),
    "strided": nn.Conv2d(128, 128, 3, stride=2),
    "strided point": nn.Conv2d(128, 128, 1, stride=2),
    "grouped": nn.Conv2d(128, 128, 3, groups=2),
    "five": nn.Conv2d(128, 128, 5),
    "norm": nn.BatchNorm2d(128),
}
WINOGRAD = ("direct", "winograd", "winograd-conv")
INTEL, ZEN_4, ZEN_5, ZEN_2 = (
    f"vendor_id\t: {vendor}\ncpu family\t: {family}\nmodel name\t: some\n"
    for vendor, family in (("GenuineIntel", 6), ("AuthenticAMD", 25), ("AuthenticAMD", 26), ("AuthenticAMD", 23))
)


def test_layers_that_can_be_computed_in_several_ways():
    found = {name: kernels_of(layer) for name, layer in LAYERS.items() if len(kernels_of(layer)) > 1}
    assert found == {
        "wide": WINOGRAD,
        "less": WINOGRAD,
        "phases": WINOGRAD,
        "point": ("direct", "product"),
        "linear": ("direct", "convolution"),
    }


@pytest.mark.parametrize(
    ("name", "kernel"),
    [(name, kernel) for name, layer in LAYERS.items() for kernel in kernels_of(layer) if kernel != "direct"],
)
@torch.no_grad()
def test_kernels_equal_the_layer_and_share_its_tensors(name, kernel):
    torch.manual_seed(0)
    layer = LAYERS[name].to(memory_format=torch.channels_last)
    x = torch.randn(50, 128) if name == "linear" else torch.randn(2, layer.in_channels, 24, 25)
    made = make_kernel(layer, kernel)
    torch.testing.assert_close(made(x), layer(x), rtol=0, atol=2e-5)
    assert made.weight is layer.weight
    assert list(made.state_dict()) == list(layer.state_dict())
    assert isinstance(made, type(layer))  # so it is listed and counted as one


@pytest.mark.parametrize(
    ("facts", "choice"),
    [
        (INTEL, "phases=winograd,wide=winograd"),
        (ZEN_4, "phases=winograd,wide=winograd"),
        (ZEN_5, "linear=convolution"),
        (ZEN_2, "linear=convolution"),
        ("", "linear=convolution"),
    ],
)
def test_unmeasured_the_kind_of_cpu_decides(monkeypatch, facts, choice):
    monkeypatch.setattr(cpu, "_facts", lambda: facts)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    layers = {name: layer for name, layer in LAYERS.items() if len(kernels_of(layer)) > 1}
    assert choice_to_text(usual_choice(layers)) == choice
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert choice_to_text(usual_choice(layers)) == "linear=convolution"


@pytest.mark.parametrize("choice", [{}, {"wide": "winograd"}, {"wide": "winograd-conv", "linear": "convolution"}])
def test_text_stands_for_the_choice(choice):
    assert text_to_choice(choice_to_text(choice), LAYERS) == choice


def test_direct_layers_are_not_written_down():
    assert choice_to_text({"wide": "direct"}) == "direct"


@pytest.mark.parametrize("text", ["wide=fast", "other=winograd", "wide", "fast", "", "linear=winograd", "norm=direct,"])
def test_other_text_is_refused(text):
    with pytest.raises(ConfigError, match=r"--kernels .*: these weights have no such kernel: choose auto, default or"):
        text_to_choice(text, LAYERS)
