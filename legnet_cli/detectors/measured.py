"""What was measured of networks on this machine, kept in the cache folder so that it is measured once.

There is a JSON file for each network and for all that its speed depends on: CPU, threads, libraries, tile side.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from legnet_cli import __version__
from legnet_cli.detectors.cpu import cpu_name
from legnet_cli.detectors.weights.fetch import cache_dir
from legnet_cli.errors import DataError
from legnet_cli.files import write_whole
from legnet_cli.untrusted import parse_json, read_text

logger = logging.getLogger(__name__)

# variables that choose the instructions of PyTorch and its libraries
_CHOSEN = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")


def network_key(state: Mapping[str, Tensor]) -> str:
    """What all weights of one network have in common: names and shapes of their tensors."""
    shapes = [(name, list(tensor.shape)) for name, tensor in sorted(state.items())]
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:16]


def machine() -> dict[str, str]:
    """All of this machine that speed depends on."""
    libraries = hashlib.sha256(torch.__config__.show().encode()).hexdigest()[:16]
    chosen = {name: os.environ[name] for name in _CHOSEN if name in os.environ}
    return {"cpu": cpu_name(), "legnet": __version__, "torch": torch.__version__, "libraries": libraries, **chosen}


def measured_path(network: str, tile: int, threads: int) -> Path:
    """Where what is measured of a network with this key is kept."""
    place = hashlib.sha256(json.dumps([machine(), tile, threads]).encode()).hexdigest()[:16]
    return cache_dir() / "measured" / f"{network}-{place}.json"


def read_measured(network: str, tile: int, threads: int) -> dict[str, Any]:
    """What is known; empty if nothing is, or the file is damaged."""
    try:
        found = parse_json(read_text(measured_path(network, tile, threads)))
        return dict(found["found"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def note_measured(network: str, tile: int, threads: int, found: Mapping[str, object]) -> None:
    """Keep something by name, beside what is known; a folder that cannot be written is no reason to stop."""
    path = measured_path(network, tile, threads)
    known = {**machine(), "tile": tile, "threads": threads, "found": {**read_measured(network, tile, threads), **found}}
    try:
        write_whole(path, json.dumps(known, indent=1).encode())
    except DataError as error:
        logger.debug("%s", error)
