"""Search units of work, in this process or in several, and put the tiles of a scene together."""

from __future__ import annotations

import functools
import logging
import multiprocessing
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.boxes import Detections, boxes_to_polygons, polygons_to_boxes
from legnet_cli.detectors.loader import Detector, load_detector
from legnet_cli.detectors.stages import StageObserver, unobserved
from legnet_cli.engine.predict.config import PredictConfig
from legnet_cli.engine.predict.job import Job, Part
from legnet_cli.engine.predict.merge import merge_tiles
from legnet_cli.engine.predict.outputs import SceneResult
from legnet_cli.engine.predict.plan import ScenePlan, plan_scene
from legnet_cli.engine.predict.scan import search_tiles
from legnet_cli.engine.process import keep_freed, processors
from legnet_cli.errors import DataError
from legnet_cli.geo.aoi import centres_inside, read_aoi

logger = logging.getLogger(__name__)

Unit = tuple[ScenePlan, int]
_TRIES = 3  # of a block whose worker died


@dataclass(frozen=True)
class Done:
    """A unit of work that has ended: how many tiles it had and boxes it found, or why it could not be searched."""

    plan: ScenePlan
    tiles: int
    boxes: int
    error: str = ""


def search_here(
    units: Iterable[Unit],
    job: Job,
    config: PredictConfig,
    detector: Detector,
    observer: StageObserver,
    on_tiles: Callable[[int], None],
) -> Iterator[Done]:
    """Search ``units`` one after another; scenes that fail are passed over from then on."""
    failed: set[str] = set()
    for plan, block in units:
        if plan.key in failed:
            continue
        if (known := job.load(plan, block)) is not None:
            yield Done(plan, len(plan.block(block)), len(known.found))
            continue
        try:
            with plan.scene:
                part = search_block(plan, block, config, detector, observer, on_tiles)
        except DataError as error:
            failed.add(plan.key)
            yield Done(plan, 0, 0, str(error))
            continue
        job.save(plan, block, part)
        yield Done(plan, len(plan.block(block)), len(part.found))


def search_block(
    plan: ScenePlan,
    block: int,
    config: PredictConfig,
    detector: Detector,
    observer: StageObserver = unobserved,
    on_tiles: Callable[[int], None] = lambda count: None,
) -> Part:
    """What a block of tiles holds.

    Raises:
        DataError: the scene cannot be read there.
    """
    batch = config.batch or (1 if detector.device.type == "cpu" else 4)
    tiles, scene = plan.block(block), plan.scene
    filled = [index for index, tile in enumerate(tiles) if not scene.is_empty(tile)]
    chosen = [tiles[index] for index in filled]
    on_tiles(len(tiles) - len(chosen))
    found, tile_of = search_tiles(scene, detector, chosen, batch, on_tiles, config.score, observer)
    numbers = plan.first(block) + np.array(filled, np.int64)
    return Part(found, numbers[tile_of])


def join_scene(
    plan: ScenePlan, job: Job, config: PredictConfig, wanted: NDArray[np.int64] | None, observer: StageObserver
) -> SceneResult:
    """The objects of a scene from its parts: tiles merged, and only what is asked for.

    Raises:
        DataError: a part has vanished.
    """
    parts = [job.load(plan, block) for block in range(plan.blocks)]
    if any(part is None for part in parts):
        raise DataError(f"{plan.name}: parts are missing in {job.folder}: repeat the command")
    whole = [part for part in parts if part is not None]
    scene = plan.scene
    with observer("merge"):
        found = Detections.concat([part.found for part in whole])
        tile_of = np.concatenate([np.zeros(0, np.int64), *(part.tile_of for part in whole)])
        found = merge_tiles(found, tile_of, plan.tiles, (scene.height, scene.width))
    keep = np.ones(len(found), np.bool_)
    if wanted is not None:
        keep &= np.isin(found.labels, wanted)
    if plan.aoi is not None:
        keep &= centres_inside(plan.aoi, found.boxes[:, :2])
    found = found[keep][: config.max_detections]
    scale = np.array([scene.scale_x, scene.scale_y])
    polygons = boxes_to_polygons(found.boxes) * scale
    if (scale != 1).any():
        found = Detections(polygons_to_boxes(polygons), found.scores, found.labels)
    logger.debug("%s: %d objects", plan.name, len(found))
    return SceneResult(scene.path, plan.name, found, polygons, scene.georef, len(plan.tiles), plan.km2)


def search_by_workers(units: Iterable[Unit], job: Job, config: PredictConfig) -> Iterator[Done]:
    """Search ``units`` by ``config.workers`` processes; one that dies is replaced and its block searched again.

    Raises:
        DataError: as of :class:`Job`.
    """
    todo: deque[Unit] = deque()
    for plan, block in units:
        known = job.load(plan, block)
        if known is None:
            todo.append((plan, block))
        else:
            yield Done(plan, len(plan.block(block)), len(known.found))
    tries: Counter[tuple[str, int]] = Counter()
    while todo:
        yield from _search_by_pool(todo, job, config, tries)


def _search_by_pool(
    todo: deque[Unit], job: Job, config: PredictConfig, tries: Counter[tuple[str, int]]
) -> Iterator[Done]:
    """Work off ``todo`` until it is empty or a worker dies; what was then under way is put back."""
    failed: set[str] = set()
    running: dict[Future[tuple[int, str]], Unit] = {}
    pool = _Pool(config, job.folder)
    try:
        while todo or running:
            while todo and len(running) < 2 * config.workers:
                plan, block = todo.popleft()
                if plan.key not in failed:
                    running[pool.submit(plan, block)] = (plan, block)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                plan, block = running[future]
                boxes, error = future.result()
                del running[future]
                if error:
                    failed.add(plan.key)
                yield Done(plan, 0 if error else len(plan.block(block)), boxes, error)
    except BrokenProcessPool:
        for plan, block in sorted(running.values(), key=lambda unit: unit[1], reverse=True):
            tries[plan.key, block] += 1
            if tries[plan.key, block] >= _TRIES:
                reason = f"{plan.name}: its workers died {_TRIES} times, perhaps out of memory: give fewer --workers"
                yield Done(plan, 0, 0, reason)
            else:
                todo.appendleft((plan, block))
        if todo:
            logger.warning("a worker died: its block is searched again")
    finally:
        pool.close()


class _Pool:
    """Processes that have the weights loaded."""

    def __init__(self, config: PredictConfig, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        count = torch.cuda.device_count() if config.device in ("auto", "cuda") else 0
        places = context.Queue()
        for number in range(config.workers):
            places.put(f"cuda:{number % count}" if count else config.device)
        threads = max(1, processors() // config.workers)
        self._pool = ProcessPoolExecutor(
            config.workers, context, initializer=_start_worker, initargs=(config, folder, places, threads)
        )

    def submit(self, plan: ScenePlan, block: int) -> Future[tuple[int, str]]:
        return self._pool.submit(_work, plan.scene.path, plan.name, plan.stamp, block)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


_worker: Callable[[str, str, str, int], tuple[int, str]] | None = None


def _start_worker(config: PredictConfig, folder: Path, places: Any, threads: int) -> None:  # noqa: ANN401
    """Load the weights once in a process of the pool."""
    global _worker
    torch.set_num_threads(threads)
    keep_freed()
    logging.getLogger("legnet_cli").setLevel(logging.ERROR)  # the first process says what there is to say
    mine = replace(config, device=places.get())
    detector = load_detector(
        mine.weights,
        device=mine.device,
        engine=mine.engine,
        precision=mine.precision,
        compile=mine.compile,
        score_threshold=mine.score,
    )
    aoi = read_aoi(mine.aoi) if mine.aoi else None
    job = Job(folder, {})

    @functools.lru_cache(4)
    def planned(path: str, name: str) -> ScenePlan:
        return plan_scene(path, name, mine, detector.card, aoi)

    def work(path: str, name: str, stamp: str, block: int) -> tuple[int, str]:
        try:
            plan = planned(path, name)
            if plan.stamp != stamp:
                raise DataError(f"{name}: has changed during the search: repeat the command")
            with plan.scene:
                part = search_block(plan, block, mine, detector)
        except DataError as error:
            return 0, str(error)
        job.save(plan, block, part)
        return len(part.found), ""

    _worker = work


def _work(path: str, name: str, stamp: str, block: int) -> tuple[int, str]:
    assert _worker is not None
    return _worker(path, name, stamp, block)


def all_done(plans: Sequence[ScenePlan], job: Job) -> bool:
    """Whether every block of ``plans`` has been searched."""
    return all(job.has(plan, block) for plan in plans for block in range(plan.blocks))
