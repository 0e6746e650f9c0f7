"""One process of all threads against several of a single thread each, as ``predict --workers`` has them."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.detectors.fast.tune import QUICK
from legnet_cli.detectors.loader import Detector, build_detector
from legnet_cli.detectors.measured import note_measured
from legnet_cli.detectors.race import Race, race
from legnet_cli.detectors.tuning import tune_detector, use_threads
from legnet_cli.detectors.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint

ONE, SEVERAL = "one process", "processes of one thread"
ROUNDS = 5

_searching: Callable[[], object]  # of a process of the pool


def race_processes(checkpoint: Checkpoint, detector: Detector, tile: NDArray[np.uint8]) -> Race | None:
    """Time searches of as many tiles like ``tile`` (h, h, 3) as there are threads, and keep what is faster.

    ``detector`` is that of ``checkpoint`` as one process takes it; the others have kernels measured for one thread.
    None if there is a single thread.
    """
    threads, side = torch.get_num_threads(), tile.shape[0]
    if threads == 1:
        return None
    with use_threads(1):
        tune_detector(build_detector(checkpoint, detector.device), side, QUICK)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.safetensors")
        save_checkpoint(path, checkpoint.state, checkpoint.card)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(threads, spawn, _prepare, (path, tile)) as pool:
            list(pool.map(_search, range(4 * threads)))  # all have started, and are warm
            ways = {
                SEVERAL: lambda: list(pool.map(_search, range(threads))),
                ONE: lambda: [detector.detect(tile[None]) for _ in range(threads)],
            }
            found = race(ways, SEVERAL, ROUNDS, all_rounds=True)
    note_measured(detector.key, side, threads, {"workers": 1 if found.winner == ONE else threads})
    return found


def _prepare(path: Path, tile: NDArray[np.uint8]) -> None:
    global _searching
    torch.set_num_threads(1)
    detector = build_detector(read_checkpoint(path), torch.device("cpu"), tile=tile.shape[0])
    _searching = lambda: detector.detect(tile[None])  # noqa: E731


def _search(_: int) -> None:
    _searching()
