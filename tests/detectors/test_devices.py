"""Devices and precisions by name."""

import pytest
import torch

from legnet_cli.detectors.devices import choose_device, choose_precision
from legnet_cli.errors import ConfigError, DependencyError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "gpus", "result"),
    [
        ("auto", 0, "cpu"),
        ("auto", 1, "cuda"),
        ("cpu", 0, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
        ("cuda", 0, "--device cuda: this PyTorch sees no CUDA GPU; use --device cpu or run legnet doctor"),
        ("cuda:2", 2, "--device cuda:2: this PyTorch sees 2, counted from 0"),
        ("mps", 0, "--device mps: this PyTorch sees no Apple GPU"),
        ("gpu", 0, "--device gpu: choose auto, cpu, cuda, cuda:N or mps"),
        ("meta", 0, "--device meta: choose auto, cpu, cuda, cuda:N or mps"),
        ("", 0, "--device : choose auto"),
    ],
)
def test_devices(monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, result: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    if not result.startswith("--"):
        assert str(choose_device(name)) == result
        return
    with pytest.raises(ConfigError if "choose" in result else DependencyError) as caught:
        choose_device(name)
    assert str(caught.value).startswith(result)


@pytest.mark.parametrize(
    ("name", "device", "result"),
    [
        ("auto", "cpu", "fp32"),
        ("auto", "cuda", "fp32"),
        ("auto", "mps", "fp32"),
        ("bf16", "cpu", "bf16"),
        ("fp16", "cuda", "fp16"),
    ],
)
def test_precisions(name: str, device: str, result: str) -> None:
    assert choose_precision(name, torch.device(device)) == result


@pytest.mark.parametrize(("name", "message"), [("fp16", "needs a GPU"), ("int8", "choose auto, fp32, bf16, fp16")])
def test_precisions_that_do_not_go(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_precision(name, CPU)


def test_without_a_device_of_choice_openvino_is_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto", "openvino") == CPU
