"""Which runtime searches: PyTorch, or ONNX Runtime or OpenVINO on a copy of the weights exported once and kept."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from legnet_cli import __version__
from legnet_cli.detectors.exported import FORMAT_VERSION, is_exported, require
from legnet_cli.detectors.weights.checkpoint import Checkpoint
from legnet_cli.detectors.weights.fetch import cache_dir
from legnet_cli.errors import ConfigError, DependencyError
from legnet_cli.files import atomic_path

logger = logging.getLogger(__name__)

AUTO, TORCH, ONNXRUNTIME, OPENVINO = ENGINES = ("auto", "torch", "onnxruntime", "openvino")
_THRESHOLDS = (0.25, 0.05, 0.0)  # of kept files
_EXPORTING = threading.Lock()  # PyTorch's exporter works for one thread at a time
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
    return engine in (ONNXRUNTIME, OPENVINO)


def engine_of(path: Path, engine: str) -> str:
    """What runs an exported file if ``engine`` was asked for."""
    return _READERS[path.suffix.lower()][0] if engine == AUTO else engine


def kept_export(checkpoint: Checkpoint, source: str, weights: str, score_threshold: float, max_detections: int) -> Path:
    """The ONNX file of weights, in the cache folder; made if it is not there.

    Args:
        checkpoint: the weights.
        source: SHA-256 of the file they are from, or another text that only they have.
        weights: as the user names them.
        score_threshold, max_detections: what the file is fixed to, or to a lower threshold that serves more of them.

    Raises:
        ConfigError: for a detector that cannot be exported.
        DataError: if the cache folder cannot be written.
    """
    from legnet_cli.detectors.export.file import check_network, export_file
    from legnet_cli.detectors.export.options import ExportOptions

    lowest = next(threshold for threshold in _THRESHOLDS if threshold <= score_threshold)
    options = ExportOptions(score_threshold=lowest, max_detections=max_detections)
    fixed: Sequence[object] = (source, __version__, FORMAT_VERSION, lowest, max_detections)
    key = hashlib.sha256(json.dumps([*fixed, *checkpoint.card.classes]).encode()).hexdigest()
    name = re.sub(r"[^\w.-]", "-", checkpoint.card.name)
    target = cache_dir() / "engines" / f"{name}-{key[:16]}.onnx"
    check_network(checkpoint, weights, target)
    with _EXPORTING:
        if not target.exists():
            logger.info("%s: exporting it for this engine, once, to %s", checkpoint.card.name, target)
            with atomic_path(target) as scratch:  # whole at once: another process may be about to read it
                export_file(checkpoint, scratch, options, source)
    return target
