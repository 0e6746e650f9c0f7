"""Workers that search blocks of tiles: processes of this machine, one a GPU or a share of the CPU's threads."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import torch

from legnet_cli.detectors.ensemble import load_ensemble
from legnet_cli.detectors.loader import Detector
from legnet_cli.detectors.measured import read_measured
from legnet_cli.detectors.tuning import settle_kernels
from legnet_cli.engine.predict.config import PredictConfig
from legnet_cli.engine.predict.job import Job, Part
from legnet_cli.engine.predict.plan import ScenePlan, plan_scene
from legnet_cli.engine.predict.search import search_block
from legnet_cli.engine.process import is_out_of_memory, keep_freed, memory_gb, processors, release_freed
from legnet_cli.errors import ConfigError, DataError, DependencyError
from legnet_cli.geo.aoi import read_aoi
from legnet_cli.geo.inputs import local_stamp
from legnet_cli.tiles import choose_tiling

_BLOCKS_EACH = 10  # of tiles for each process, for which it is worth starting
_WORKER_GB = 3.0  # memory for each: twice what a search takes


def gpus(text: str | None) -> list[str]:
    """Devices that ``--devices`` asks for: auto for all, a number of them, or their numbers with a comma.

    Raises:
        ConfigError: it is none of these.
        DependencyError: this PyTorch does not see so many.
    """
    if text is None:
        return []
    present = torch.cuda.device_count()
    if text == "auto":
        numbers = list(range(present))
    elif text.isdecimal():
        numbers = list(range(int(text)))
    elif all(part.strip().isdecimal() for part in text.split(",")) and text:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    else:
        raise ConfigError(f"--devices {text}: give auto, a number of GPUs, or their numbers like 0,2")
    if not numbers or max(numbers) >= present:
        raise DependencyError(f"--devices {text}: this PyTorch sees {present} GPUs: leave it out, or run legnet doctor")
    return [f"cuda:{number}" for number in numbers]


def choose_workers(config: PredictConfig, plans: Sequence[ScenePlan], detector: Detector) -> int:
    """How many processes are to search: as many as asked, or for ``auto`` what is likely to be fastest.

    On a CPU that is one of a single thread for each processor that there is memory for, if each has work for so long
    that its start and an unequal end do not matter; but one process where that was measured to be faster.
    """
    if config.workers or config.devices or detector.device.type != "cpu":
        return config.workers or 1
    tile, _ = choose_tiling(config.tile, config.overlap, (detector.card.tile, detector.card.overlap))
    if read_measured(detector.key, tile, torch.get_num_threads()).get("workers") == 1:
        return 1
    most = min(processors(), int(memory_gb() / _WORKER_GB))
    return most if sum(plan.blocks for plan in plans) >= _BLOCKS_EACH * most > 0 else 1


def threads_each(workers: int) -> int:
    """Threads of each of several processes: a fair share of the processors, or as OpenMP is told."""
    return int(os.environ.get("OMP_NUM_THREADS") or max(1, processors() // workers))


def agreed_kernels(config: PredictConfig, detector: Detector, plans: Sequence[ScenePlan], job: Job) -> str:
    """How all processes and runs of the job compute layers, and now the detector too.

    Raises:
        DataError: it cannot be noted in the job's folder.
    """
    tile, _ = choose_tiling(config.tile, config.overlap, (detector.card.tile, detector.card.overlap))
    tiles = 0 if config.cluster else sum(len(plan.tiles) for plan in plans)  # its nodes are not this machine
    threads = threads_each(config.workers) if config.workers > 1 else torch.get_num_threads()
    chosen = job.agree(lambda: settle_kernels(detector, config.kernels, tile, tiles, threads))
    return settle_kernels(detector, chosen, tile, tiles, threads)


class Worker:
    """Weights that are loaded once, and the scenes searched last.

    Args:
        config: of the search.
        device: where to compute.
        threads: of the CPU.
    """

    def __init__(self, config: PredictConfig, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        keep_freed()
        logging.getLogger("legnet_cli").setLevel(logging.ERROR)  # the first process says what there is to say
        self._config = replace(config, device=device)
        self._detector = load_ensemble(
            config.weights,
            config.views,
            device=device,
            engine=config.engine,
            precision=config.precision,
            kernels=config.kernels,
            compile=config.compile,
            force_precision=True,  # the first process has asked
            score_threshold=config.score,
        )
        release_freed()
        aoi = read_aoi(config.aoi) if config.aoi else None
        self._plan = functools.lru_cache(4)(
            lambda path, name, stamp: plan_scene(path, name, stamp, self._config, self._detector.card, aoi)
        )

    def search(self, path: str, name: str, stamp: str, block: int) -> Part | str | None:
        """What a block holds, or why its scene cannot be searched; None where memory is short."""
        try:
            plan: ScenePlan = self._plan(path, name, stamp)
            if local_stamp(path) not in ("", stamp):
                return f"{name}: has changed during the search: repeat the command"
            with plan.scene:
                return search_block(plan, block, self._config, self._detector)
        except DataError as error:
            return str(error)
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                return None
            raise


_worker: Worker | None = None


def _start(config: PredictConfig, places: Any, threads: int) -> None:  # noqa: ANN401 - a queue of devices
    global _worker
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker = Worker(config, places.get(), threads)


def _end_with(parent: BaseProcess) -> None:
    """A parent that is killed cannot end its children."""
    parent.join()
    os._exit(1)


def _search(path: str, name: str, stamp: str, block: int) -> Part | str | None:
    assert _worker is not None
    return _worker.search(path, name, stamp, block)


class Processes:
    """A crew of processes on this machine.

    Args:
        config: of the search.
        devices: one for each process.
    """

    def __init__(self, config: PredictConfig, devices: Sequence[str]) -> None:
        self._config, self._devices = config, devices
        self._pool: ProcessPoolExecutor | None = None

    @property
    def capacity(self) -> int:
        """One block under way and one waiting for each process."""
        return 2 * len(self._devices)

    @property
    def alive(self) -> int:
        """Processes that have been started and have not ended."""
        return len(multiprocessing.active_children())

    def submit(self, plan: ScenePlan, block: int) -> Future[Part | str | None]:
        """Have a block searched."""
        self._pool = self._pool or self._start_pool()
        try:
            return self._pool.submit(_search, plan.scene.path, plan.name, plan.stamp, block)
        except BrokenProcessPool:
            self._end_pool()
            return self.submit(plan, block)

    def wait(
        self, handles: Sequence[Future[Part | str | None]]
    ) -> list[tuple[Future[Part | str | None], Part | str | None]]:
        """Blocks that have ended; None for those that died with their process, or for lack of memory."""
        ended = wait(handles, return_when=FIRST_COMPLETED).done
        lost = {future for future in ended if isinstance(future.exception(), BrokenProcessPool)}
        return [(future, None if future in lost else future.result()) for future in ended]

    def _start_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        places = context.Queue()
        for device in self._devices:
            places.put(device)
        given = (self._config, places, threads_each(len(self._devices)))
        return ProcessPoolExecutor(len(self._devices), context, initializer=_start, initargs=given)

    def _end_pool(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()  # what it searches is searched again
            self._pool = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_pool()
