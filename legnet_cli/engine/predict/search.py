"""Search units of work, in this process or in several, and put the tiles of a scene together."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from legnet_cli.boxes import Detections, boxes_to_polygons, polygons_to_boxes
from legnet_cli.detectors.loader import Detector
from legnet_cli.detectors.stages import StageObserver, unobserved
from legnet_cli.engine.predict.config import PredictConfig
from legnet_cli.engine.predict.job import Job, Part
from legnet_cli.engine.predict.merge import merge_tiles
from legnet_cli.engine.predict.plan import ScenePlan
from legnet_cli.engine.predict.results import SceneResult
from legnet_cli.engine.predict.scan import search_tiles
from legnet_cli.engine.predict.sizes import SizeCheck
from legnet_cli.engine.process import is_out_of_memory
from legnet_cli.errors import DataError, DependencyError
from legnet_cli.geo.aoi import centres_inside

logger = logging.getLogger(__name__)

Unit = tuple[ScenePlan, int]
_TRIES = 3  # of a block whose worker was lost
_THINNEST = 0.01  # pixels: a thinner box has no outline on a map


class Crew(Protocol):
    """Workers that search blocks, wherever they are."""

    @property
    def capacity(self) -> int:
        """How many blocks may be under way or waiting for a worker."""

    @property
    def alive(self) -> int:
        """How many workers there are now."""

    def submit(self, plan: ScenePlan, block: int) -> Any:  # noqa: ANN401 - its own kind of handle
        """Have a block searched."""

    def wait(self, handles: Sequence[Any]) -> list[tuple[Any, Part | str | None]]:
        """Blocks that have ended: what was found, why the scene cannot be searched, or None for a lost worker."""


@dataclass(frozen=True)
class Done:
    """A unit of work that has ended.

    Attributes:
        plan: its scene.
        tiles, boxes: how many it had and found.
        error: why it could not be searched.
        known: whether an earlier run had searched it.
    """

    plan: ScenePlan
    tiles: int
    boxes: int
    error: str = ""
    known: bool = False


def search_by_crew(units: Iterable[Unit], job: Job, crew: Crew) -> Iterator[Done]:
    """Search ``units`` by several workers; a block whose worker was lost is given to another one.

    Raises:
        DataError: a part cannot be written.
    """
    todo: deque[Unit] = deque()
    for plan, block in units:
        known = job.load(plan, block)
        if known is None:
            todo.append((plan, block))
        else:
            yield Done(plan, plan.size(block), len(known.found), known=True)
    failed: set[str] = set()
    losses: Counter[tuple[str, int]] = Counter()
    running: dict[Any, Unit] = {}
    while todo or running:
        while todo and len(running) < crew.capacity:
            if running and any(losses[plan.key, block] for plan, block in (todo[0], *running.values())):
                break  # alone, so that it is known which block costs workers
            plan, block = todo.popleft()
            if plan.key not in failed:
                running[crew.submit(plan, block)] = (plan, block)
        for handle, outcome in crew.wait(list(running)) if running else ():
            plan, block = running.pop(handle)
            if outcome is None:
                losses[plan.key, block] += 1
                if losses[plan.key, block] < _TRIES:
                    logger.warning("%s: a worker was lost, or short of memory: its block is searched again", plan.name)
                    todo.appendleft((plan, block))
                    continue
                outcome = f"{plan.name}: workers were lost {_TRIES} times, perhaps out of memory: use fewer --workers"
            if isinstance(outcome, str):
                if plan.key not in failed:
                    yield Done(plan, 0, 0, outcome)
                failed.add(plan.key)
                continue
            job.save(plan, block, outcome)
            yield Done(plan, plan.size(block), len(outcome.found))


def search_here(
    units: Iterable[Unit],
    job: Job,
    config: PredictConfig,
    detector: Detector,
    observer: StageObserver,
    on_tiles: Callable[[int], None],
) -> Iterator[Done]:
    """Search ``units`` one after another; scenes that fail are passed over from then on.

    Raises:
        DataError: a part cannot be written.
        DependencyError: memory is short.
    """
    failed: set[str] = set()
    for plan, block in units:
        if plan.key in failed:
            continue
        if (known := job.load(plan, block)) is not None:
            yield Done(plan, plan.size(block), len(known.found), known=True)
            continue
        try:
            with plan.scene:
                part = search_block(plan, block, config, detector, observer, on_tiles)
        except DataError as error:
            failed.add(plan.key)
            yield Done(plan, 0, 0, str(error))
            continue
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise DependencyError(f"{plan.name}: out of memory: give a smaller --batch or --tile") from None
            raise
        job.save(plan, block, part)
        yield Done(plan, plan.size(block), len(part.found))


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
    found, tile_of, seen = search_tiles(scene, detector, chosen, batch, on_tiles, config.score or 0.0, observer)
    numbers = plan.first(block) + np.array(filled, np.int64)
    return Part(found, numbers[tile_of], numbers[seen])


def join_scene(
    plan: ScenePlan,
    job: Job,
    config: PredictConfig,
    wanted: NDArray[np.int64] | None,
    thresholds: NDArray[np.float64],
    observer: StageObserver,
    sizes: SizeCheck | None = None,
) -> SceneResult:
    """The objects of a scene from its parts: tiles merged, and only what is asked for and has a width.

    ``wanted`` are labels, None for all; ``thresholds`` (classes,) are the least scores; ``sizes`` tells odd ones.

    Raises:
        DataError: a part has vanished.
    """
    found, tile_of, seen = _read_parts(plan, job)
    scene = plan.scene
    with observer("merge"):
        found = merge_tiles(found, tile_of, plan.tiles, (scene.height, scene.width))
    keep = found.boxes[:, 2:4].min(1) >= _THINNEST
    if wanted is not None:
        keep &= np.isin(found.labels, wanted)
    if thresholds.min() < thresholds.max():  # the search itself goes by the least
        keep &= found.scores >= thresholds[found.labels]
    if plan.aoi is not None:
        keep &= centres_inside(plan.aoi, found.boxes[:, :2])
    found, scale, odd = found[keep], (scene.scale_x, scene.scale_y), 0
    if sizes is not None:
        strange = sizes.odd_boxes(found.boxes, found.labels, scale, scene.georef)
        odd = int(strange.sum())
        found = found[~strange] if config.size_check == "drop" else found
    found = found[: config.max_detections]
    grid_boxes = found.boxes
    if scale != (1, 1):
        few = np.array_split(grid_boxes, -(-len(found) // 50_000) or 1)  # corners of all would take ten times as much
        boxes = np.concatenate([polygons_to_boxes(boxes_to_polygons(some) * scale) for some in few])
        found = replace(found, boxes=boxes)
    logger.debug("%s: %d objects", plan.name, len(found))
    known = (scene.path, plan.name, plan.stamp, found, scene.georef)
    tiles = len(plan.tiles), len(plan.tiles) - len(seen)
    return SceneResult(*known, *tiles, plan.km2, grid_boxes, scale, searched_ground(plan, seen), odd)


def _read_parts(plan: ScenePlan, job: Job) -> tuple[Detections, NDArray[np.int64], NDArray[np.int64]]:
    """All boxes of a scene, the tile that each was found in, and the tiles that were searched."""
    parts = [job.load(plan, block) for block in range(plan.blocks)]
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        raise DataError(f"{plan.name}: parts are missing in {job.folder}: repeat the command")
    none = np.zeros(0, np.int64)
    return (
        Detections.concat([part.found for part in whole]),
        np.concatenate([none, *(part.tile_of for part in whole)]),
        np.concatenate([none, *(part.seen for part in whole)]),
    )


def searched_ground(plan: ScenePlan, seen: NDArray[np.int64]) -> shapely.Geometry:
    """The part of a scene that tiles of the numbers ``seen`` cover, within its area of interest, in raster pixels."""
    corners = [
        (tile.row, tile.col, tile.height, tile.width) for tile in (plan.tiles[number] for number in seen.tolist())
    ]
    row, col, height, width = np.array(sorted(corners), np.int64).reshape(-1, 4).T
    # neighbours in a row of tiles as one, for a union of each by itself takes long
    apart = (np.diff(row) > 0) | (np.diff(height) != 0) | (col[1:] > (col + width)[:-1])
    bounds = np.stack([col, row, col + width, row + height])
    first, last = (np.insert(apart, place, True) for place in (0, len(apart))) if len(seen) else (apart, apart)
    area = shapely.union_all(shapely.box(*bounds[:2, first], *bounds[2:, last]))
    if plan.aoi is not None:
        area = shapely.intersection(area, plan.aoi)
    return shapely.transform(area, lambda xy: xy * (plan.scene.scale_x, plan.scene.scale_y))
