"""Exports of weights that run on another engine: made once and kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from legnet_cli import __version__
from legnet_cli.detectors.export.file import check_network, export_file
from legnet_cli.detectors.metadata import FORMAT_VERSION, ExportOptions
from legnet_cli.detectors.weights.checkpoint import Checkpoint
from legnet_cli.detectors.weights.fetch import cache_dir
from legnet_cli.files import atomic_path

logger = logging.getLogger(__name__)

_THRESHOLDS = (0.25, 0.05, 0.0)  # of kept files
_EXPORTING = threading.Lock()  # PyTorch's exporter works for one thread at a time


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
