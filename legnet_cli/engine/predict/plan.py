"""What a search has to do: scenes with names of their own, their tiles, and blocks of these as units of work."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import shapely

from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.engine.predict.config import PredictConfig
from legnet_cli.errors import ConfigError, DataError
from legnet_cli.geo.aoi import Aoi, aoi_in_pixels, tiles_touching
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.inputs import is_remote
from legnet_cli.geo.raster import Scene
from legnet_cli.tiles import SomeTiles, Tile, TileGrid, choose_tiling

logger = logging.getLogger(__name__)

BLOCK = 32  # tiles in a unit of work: half a minute or so on a CPU is what an interruption can cost
OPENERS = 16  # scenes of a network that are opened at once
MOST_TILES = 20_000_000  # of one scene: weeks on any machine
_FAR = 2  # times finer or coarser than the training images
_CELLS = 16  # along each side of a scene, whose ground areas are summed


@dataclass(frozen=True)
class ScenePlan:
    """One scene and what is to be searched of it.

    Attributes:
        name: the shortest end of its path that no other scene of the run has.
        key: of its parts in the job folder, the same whatever other scenes there are.
        stamp: size and time of the file, or what a server says of it; empty if unknown.
        scene: its grid; opens its files when it is read.
        tiles: all tiles of the grid, or those that the area of interest touches.
        aoi: area of interest in pixels of the grid.
        km2: ground that the tiles cover; None if unknown.
    """

    name: str
    key: str
    stamp: str
    scene: Scene
    tiles: Sequence[Tile]
    aoi: shapely.Geometry | None
    km2: float | None

    @property
    def blocks(self) -> int:
        """How many units of work it has."""
        return -(-len(self.tiles) // BLOCK)

    def first(self, block: int) -> int:
        """Number of the first tile of a unit of work."""
        return block * BLOCK

    def size(self, block: int) -> int:
        """Number of tiles of a unit of work."""
        return min(BLOCK, len(self.tiles) - self.first(block))

    def block(self, number: int) -> Sequence[Tile]:
        """The tiles of a unit of work."""
        return self.tiles[self.first(number) : self.first(number + 1)]


@dataclass(frozen=True)
class SceneFailure:
    """A scene that could not be searched, and why."""

    path: str
    name: str
    reason: str


def scene_names(paths: Sequence[str]) -> list[str]:
    """For each path the shortest end of it, in whole parts, that no other path has; files of one name get folders."""
    bare = [path.partition("?")[0] if is_remote(path) else path for path in paths]
    if len(set(bare)) < len(bare):  # what follows a question mark tells them apart
        bare = list(paths)
    parts = [PurePosixPath(path.replace(os.sep, "/").replace("\\", "/")).parts for path in bare]
    names = [""] * len(paths)
    waiting = list(range(len(paths)))
    length = 1
    while waiting:
        ends = {index: "/".join(parts[index][-length:]) for index in waiting}
        taken = Counter(ends.values())
        still = []
        for index, end in ends.items():
            if taken[end] == 1 or length >= len(parts[index]):
                names[index] = end
            else:
                still.append(index)
        waiting, length = still, length + 1
    return names


def plan_scene(path: str, name: str, stamp: str, config: PredictConfig, card: ModelCard, aoi: Aoi | None) -> ScenePlan:
    """Choose the tiles of a scene; every fault its header shows comes out here, before any search.

    Raises:
        DataError: it cannot be read.
        ConfigError: it has too many tiles, or settings do not fit it.
    """
    tile, overlap = choose_tiling(config.tile, config.overlap, (card.tile, card.overlap))
    with Scene.open(path, bands=config.bands, stretch=config.stretch, gsd=card.search_gsd(config.gsd)) as scene:
        for warning in (*scene.warnings, *far_from(card, scene)):
            logger.warning("%s: %s", name, warning)
        grid = TileGrid(scene.height, scene.width, tile, overlap)
        km2 = _ground_km2(scene.georef)
        key = hashlib.sha256(os.fsencode(os.path.abspath(path) if os.path.exists(path) else path)).hexdigest()[:16]
        plan = ScenePlan(name, key, stamp, scene, grid, None, km2)
        if aoi is not None:
            plan = _inside(plan, grid, aoi)
        _check_count(name, len(plan.tiles))
        logger.debug(
            "%s: %d × %d pixels%s, %d tiles of %d pixels, overlap %d",
            *(name, scene.width, scene.height),
            "" if scene.georef.gsd is None else " of {:.3g} × {:.3g} m".format(*scene.georef.gsd),
            *(len(plan.tiles), tile, overlap),
        )
    return plan


def plan_scenes(
    stamps: Mapping[str, str], names: Sequence[str], config: PredictConfig, card: ModelCard, aoi: Aoi | None
) -> tuple[list[ScenePlan], list[SceneFailure]]:
    """The scenes that can be opened, and those that cannot.

    Raises:
        DataError: none can, or one cannot and ``config.strict`` is set.
    """

    def open_scene(path: str, name: str, stamp: str) -> ScenePlan | DataError | ConfigError:
        try:
            return plan_scene(path, name, stamp, config, card, aoi)
        except (DataError, ConfigError) as error:
            return error

    plans, failures = [], []
    with ThreadPoolExecutor(OPENERS if any(map(is_remote, stamps)) else 1, "legnet-open") as pool:
        for path, name, made in zip(stamps, names, pool.map(open_scene, stamps, names, stamps.values()), strict=True):
            if isinstance(made, ScenePlan):
                plans.append(made)
                continue
            if config.strict or len(stamps) == 1:
                pool.shutdown(wait=False, cancel_futures=True)
                raise made
            failures.append(SceneFailure(path, name, str(made)))
    if not plans:
        raise DataError(f"{failures[0].reason} (and {len(failures) - 1} more scenes cannot be used)")
    return plans, failures


def far_from(card: ModelCard, scene: Scene) -> Iterator[str]:
    """What to say where pixels are more than twice finer or coarser than those that the model learned from."""
    own = scene.georef.gsd
    if card.gsd is None or own is None:
        return
    side = math.sqrt(own[0] * scene.scale_x * own[1] * scene.scale_y)
    for off, nearest, word in (
        (card.gsd[0] / side, card.gsd[0], "finer"),
        (side / card.gsd[1], card.gsd[1], "coarser"),
    ):
        if off > _FAR:
            yield (
                f"its pixels of {side:.3g} m are {off:.2g} times {word} than those that {card.name} learned from: "
                f"--gsd model searches at {nearest:.3g} m"
            )


def _inside(plan: ScenePlan, grid: TileGrid, aoi: Aoi) -> ScenePlan:
    """Only the tiles that touch the area of interest."""
    scene = plan.scene
    in_grid = shapely.transform(aoi_in_pixels(aoi, scene.georef), lambda xy: xy / (scene.scale_x, scene.scale_y))
    rows, cols = grid.near(*in_grid.bounds)
    _check_count(plan.name, len(rows) * len(cols))
    touched = [np.zeros(0, np.int64)]
    for row in rows:
        numbers = row * grid.cols + np.arange(cols.start, cols.stop)
        touched.append(numbers[tiles_touching(in_grid, [grid[number] for number in numbers.tolist()])])
    tiles = SomeTiles(grid, np.concatenate(touched))
    return replace(plan, tiles=tiles, aoi=in_grid, km2=plan.km2 and plan.km2 * len(tiles) / len(grid))


def _check_count(name: str, tiles: int) -> None:
    if tiles > MOST_TILES:
        raise ConfigError(f"{name}: has {tiles:,} tiles: search a part with --aoi, or coarser with --gsd")


def _ground_km2(georef: Georef) -> float | None:
    """Ground area of a scene, summed over a grid, for a pixel of a large scene is not as large everywhere."""
    if georef.gsd is None:
        return None
    x, y = np.meshgrid(np.linspace(0, georef.width, _CELLS + 1), np.linspace(0, georef.height, _CELLS + 1))
    grid = np.stack([x, y], 2)
    corners = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], 2)
    return float(np.nansum(georef.measure(corners.reshape(-1, 4, 2)).area_m2)) / 1e6


def settings_digest(config: PredictConfig, weights: str, how: dict[str, str], aoi: Aoi | None) -> dict[str, str]:
    """All that decides what is found in a tile, as text by name: another value makes earlier parts useless."""
    asked = ("tile", "overlap", "gsd", "bands", "stretch", "score", "compile", "kernels", "tta", "scales", "fuse")
    found = {name: json.dumps(getattr(config, name)) for name in asked}
    area = "none" if aoi is None else hashlib.sha256(shapely.to_wkb(aoi.geometry)).hexdigest()[:16]
    return {"weights": weights, **how, **found, "aoi": area, "block": str(BLOCK)}


def shares(plans: Sequence[ScenePlan], shard: tuple[int, int] | None) -> Iterator[tuple[ScenePlan, int]]:
    """The units of work in order: all, or every N-th of them."""
    units = ((plan, block) for plan in plans for block in range(plan.blocks))
    number, count = shard or (1, 1)
    return (unit for index, unit in enumerate(units) if index % count == number - 1)
