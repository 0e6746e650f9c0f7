"""Where a network runs and in what numbers."""

from __future__ import annotations

from typing import Literal

import torch

from legnet_cli.detectors.engines import OPENVINO, TORCH
from legnet_cli.errors import ConfigError, DependencyError

NetworkPrecision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: dict[NetworkPrecision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str, engine: str = TORCH) -> torch.device:
    """The device called ``name``; ``auto`` is CUDA where there is one and the engine runs on it, else the CPU.

    Raises:
        ConfigError: if there is no such kind of device.
        DependencyError: if this PyTorch does not see it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() and engine != OPENVINO else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"--device {name}: choose auto, cpu, cuda, cuda:N or mps")
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[device.type]
    if present == 0:
        kind = {"cuda": "CUDA GPU", "mps": "Apple GPU"}[device.type]
        raise DependencyError(f"--device {name}: this PyTorch sees no {kind}; use --device cpu or run legnet doctor")
    if (device.index or 0) >= present:
        raise DependencyError(f"--device {name}: this PyTorch sees {present}, counted from 0; run legnet doctor")
    return device


def choose_precision(name: str, device: torch.device) -> NetworkPrecision:
    """fp32, bf16 or fp16 for ``name``, which may be ``auto``.

    ``auto`` is fp32 everywhere: it keeps every box of the reference implementation. Halves are the user's choice: on
    the reference's test networks bf16 kept 35 to 82 % of the boxes within 0.95 IoU and 0.01 in score, although boxes
    are decoded in float32 at any precision. On GPUs with TF32, convolutions use it in fp32 (PyTorch's default).

    Raises:
        ConfigError: if there is no such precision, or not on ``device``.
    """
    if name == "auto":
        return "fp32"
    chosen = next((known for known in PRECISIONS if known == name), None)
    if chosen is None:
        raise ConfigError(f"--precision {name}: choose auto, {', '.join(PRECISIONS)}")
    if chosen == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 needs a GPU: use bf16 or fp32 on the CPU")
    return chosen
