"""Which runtime searches: PyTorch, or ONNX Runtime or OpenVINO on a copy of the weights exported once and kept."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import torch

from legnet_cli.detectors.measured import read_measured
from legnet_cli.detectors.metadata import is_exported
from legnet_cli.detectors.runtimes import require
from legnet_cli.detectors.weights.fetch import cache_dir
from legnet_cli.errors import ConfigError, DependencyError

AUTO, TORCH, ONNXRUNTIME, OPENVINO = ENGINES = ("auto", "torch", "onnxruntime", "openvino")
_FOR_WEIGHTS = (ONNXRUNTIME, OPENVINO)  # on an exported copy
_READERS = {".onnx": (ONNXRUNTIME, OPENVINO), ".xml": (OPENVINO,), ".pt2": (TORCH,)}


def check_engine(engine: str, weights: str, *, precision: str, compile: bool, device: torch.device) -> None:
    """Refuse, before any work is done, an engine that cannot run ``weights`` in the way that is asked for.

    Args:
        engine: what was asked for.
        weights: as the user names them.
        precision, compile, device: what else was asked for; the device is a CPU where that was left open.

    Raises:
        ConfigError: naming what goes together.
        DependencyError: if its package is absent.
    """
    if engine not in ENGINES:
        raise ConfigError(f"--engine {engine}: choose {', '.join(ENGINES)}")
    if engine == AUTO:
        return
    suffix = Path(weights).suffix.lower()
    if is_exported(weights) and engine not in _READERS[suffix]:
        raise ConfigError(
            f"--engine {engine}: {weights} is run by {' or '.join(_READERS[suffix])}: "
            "leave the flag out, or give the weights it was made from"
        )
    if engine == TORCH:
        return
    if compile or precision not in ("auto", "fp32"):
        flag = "--compile" if compile else f"--precision {precision}"
        raise ConfigError(f"--engine {engine}: runs weights in fp32 as they are: leave out {flag}")
    if engine == OPENVINO and device.type != "cpu":
        raise ConfigError(f"--engine openvino: runs on the CPU here, not on {device}: add --device cpu")
    for package in ("onnx", "onnxruntime", engine):
        require(package)


def measured_engine(network: str, tile: int) -> str:
    """The engine that was found to be the fastest for the weights of a network key on this CPU, if it is there."""
    known = read_measured(network, tile, torch.get_num_threads()).get("engine")
    engine = next((name for name in _FOR_WEIGHTS if name == known), TORCH)
    packages = () if engine == TORCH else ("onnx", "onnxruntime", engine)  # an export takes the first two
    return engine if all(importlib.util.find_spec(name) for name in packages) else TORCH


def prepare_compiling() -> None:
    """Let ``torch.compile`` keep what it makes in the cache folder, for the next process.

    Raises:
        DependencyError: if there is no C++ compiler.
    """
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", usual)  # as PyTorch chooses it
    if not shutil.which(compiler):
        raise DependencyError(f"--compile: there is no C++ compiler {compiler}: install {usual}, or leave the flag out")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "compiled"))


def needs_export(engine: str) -> bool:
    """Whether ordinary weights run on ``engine`` as an exported file only."""
    return engine in _FOR_WEIGHTS


def engine_of(path: Path, engine: str) -> str:
    """What runs an exported file if ``engine`` was asked for."""
    return _READERS[path.suffix.lower()][0] if engine == AUTO else engine
