"""Search the images of a ground truth with a detector, plain or corrupted, and put tiles together again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Detections, boxes_to_polygons, polygons_to_boxes
from legnet_cli.detectors.loader import Detector
from legnet_cli.engine.eval.corruptions import CorruptedGrid, Corruption
from legnet_cli.engine.eval.predictions import ImagePredictions, merge_named
from legnet_cli.engine.eval.truth import EvalSet, Frame
from legnet_cli.engine.predict import PixelGrid, scan_tiles
from legnet_cli.errors import DataError
from legnet_cli.geo.headers import Size
from legnet_cli.geo.raster import Gsd, Scene, grid_size
from legnet_cli.tiles import Tile, TileName, check_tiling, tile_grid

_GAP = 4  # times its height that an image lies apart from the next one where several are searched as one grid


@dataclass(frozen=True)
class SearchPlan:
    """How images are searched.

    Attributes:
        tile, overlap: pixels.
        gsd: metres per pixel to search at, see ``Scene.open``, where an image's own is known; None for its pixels.
        bands, stretch: see ``Scene.open``.
        batch: tiles at once.
        workers: threads that read and corrupt.
        seed: of the corruptions.
    """

    tile: int
    overlap: int
    gsd: Gsd
    bands: tuple[int, ...] | None
    stretch: str
    batch: int
    workers: int
    seed: int


class FrameGrid(NamedTuple):
    """The pixels of a frame as they are searched.

    Attributes:
        height, width: of the grid.
        scale: grid pixel × scale = pixel of the frame, along columns and rows.
        file: width and height of the frame's whole file on this grid, where part of that is padding.
    """

    height: int
    width: int
    scale: tuple[float, float] = (1.0, 1.0)
    file: Size | None = None


class _ImageStack:
    """Images of one size as one grid, each far below the one before; windows are read ahead by threads."""

    def __init__(
        self, frames: Sequence[Frame], shape: FrameGrid, plan: SearchPlan, corruption: Corruption | None
    ) -> None:
        self._frames, self._plan, self._corruption = frames, plan, corruption
        self._gap = shape.height * _GAP if len(frames) > 1 else 0
        self._pitch = shape.height + self._gap
        self.height, self.width = self._pitch * len(frames), shape.width
        self._size = shape.file or (shape.width, shape.height)
        grid = tile_grid(shape.height, shape.width, plan.tile, plan.overlap)
        self.tiles = [
            Tile(index * self._pitch + tile.row, tile.col, tile.height, tile.width)
            for index in range(len(frames))
            for tile in grid
        ]
        # an image of many tiles stays open; one of a single tile is opened when its turn comes
        self._scene = _open(frames[0], plan, self._size) if len(frames) == 1 else None
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(plan.workers, thread_name_prefix="legnet-eval")
        self._next = 0
        self._jobs: dict[Tile, Future[tuple[NDArray[np.uint8], NDArray[np.bool_]]]] = {}

    def read(self, tile: Tile) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Pixels and mask of one of ``tiles``, asked for in their order."""
        with self._lock:
            while self._next < len(self.tiles) and (tile not in self._jobs or len(self._jobs) <= self._plan.workers):
                coming = self.tiles[self._next]
                self._jobs[coming] = self._pool.submit(self._load, coming)
                self._next += 1
            job = self._jobs.pop(tile)
        return job.result()

    def _load(self, tile: Tile) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        index, row = divmod(tile.row, self._pitch)
        frame = self._frames[index]
        window = Tile(row, tile.col, tile.height, tile.width)
        if self._scene is not None:
            return self._corrupted(self._scene, frame).read(window)
        with _open(frame, self._plan, self._size) as scene:
            return self._corrupted(scene, frame).read(window)

    def _corrupted(self, scene: Scene, frame: Frame) -> PixelGrid:
        if self._corruption is None:
            return scene
        return CorruptedGrid(scene, self._corruption, self._plan.seed, frame.labels.stem)

    def split(self, found: Detections) -> list[Detections]:
        """The detections of each frame, in pixels of it."""
        # a box may stick out of its image, above or below
        index = ((found.boxes[:, 1] + self._gap / 2) // self._pitch).astype(np.int64)
        index = index.clip(0, len(self._frames) - 1)
        parts = []
        for number in range(len(self._frames)):
            part = found[index == number]
            parts.append(replace(part, boxes=part.boxes - [0, number * self._pitch, 0, 0, 0]))
        return parts

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._scene is not None:
            self._scene.close()


def plan_grids(truth: EvalSet, plan: SearchPlan) -> list[FrameGrid]:
    """The grid of each frame of ``truth``; every fault that the headers show comes out here.

    Raises:
        DataError: an image is missing or cannot be read.
        ConfigError: an image is much too coarse for ``plan.gsd``.
    """
    check_tiling(plan.tile, plan.overlap)
    grids = []
    for frame in truth.frames:
        with _open(frame, plan, None) as scene:
            size = scene.width, scene.height
            own = truth.gsd[frame.image] / frame.tile.zoom
            if plan.gsd is not None and np.isfinite(own).all():
                size = grid_size(size, (own[0], own[1]), plan.gsd, scene.path)
            scale = scene.width / size[0], scene.height / size[1]
            height, width = frame.shown(scene.height, scene.width)
            shown = min(size[0], round(width / scale[0])), min(size[1], round(height / scale[1]))
            grids.append(FrameGrid(shown[1], shown[0], scale, None if shown == size else size))
    if not grids:
        raise DataError(f"{truth.source}: has no images to search: give their folder, or --predictions")
    return grids


def count_tiles(grids: Sequence[FrameGrid], plan: SearchPlan) -> int:
    """Tiles in ``grids``."""
    return sum(len(tile_grid(grid.height, grid.width, plan.tile, plan.overlap)) for grid in grids)


def ground_km2(truth: EvalSet, grids: Sequence[FrameGrid]) -> float:
    """Ground that the images show, in square kilometres; NaN if that is unknown of one."""
    sides = np.zeros((len(truth.names), 2))
    for frame, grid in zip(truth.frames, grids, strict=True):
        end = np.array([frame.tile.col, frame.tile.row]) + np.array([grid.width, grid.height]) * grid.scale
        sides[frame.image] = np.maximum(sides[frame.image], end / frame.tile.zoom)
    return float((sides * truth.gsd).prod(1).sum()) / 1e6


def search_images(
    truth: EvalSet,
    grids: Sequence[FrameGrid],
    detector: Detector,
    plan: SearchPlan,
    corruption: Corruption | None,
    on_tiles: Callable[[int], None],
) -> ImagePredictions:
    """Detections in every image of ``truth``, after ``corruption``.

    Images of one size that fit one tile share batches. The result does not depend on ``plan.workers``.
    """
    parts: list[list[tuple[TileName, Detections]]] = [[] for _ in truth.names]
    for group in _groups(grids, plan):
        frames = [truth.frames[index] for index in group]
        stack = _ImageStack(frames, grids[group[0]], plan, corruption)
        try:
            found = stack.split(scan_tiles(stack, detector, stack.tiles, plan.batch, on_tiles))
        finally:
            stack.close()
        for index, frame, part in zip(group, frames, found, strict=True):
            boxes = part.boxes
            if (scale := grids[index].scale) != (1, 1):
                boxes = polygons_to_boxes(boxes_to_polygons(boxes) * scale)
            placed = replace(part, boxes=frame.tile.boxes_to_image(boxes))
            parts[frame.image].append((frame.tile, placed))
    return ImagePredictions(tuple(merge_named(part) for part in parts), detector.card.classes)


def _groups(grids: Sequence[FrameGrid], plan: SearchPlan) -> list[list[int]]:
    """Frames to search as one grid: those of one size if it is no more than a tile, others alone."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, grid in enumerate(grids):
        shape = grid.height, grid.width
        key = (*shape, *(grid.file or ())) if max(shape) <= plan.tile else (*shape, -1, index)
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def _open(frame: Frame, plan: SearchPlan, size: Size | None) -> Scene:
    path = frame.labels.path
    if path is None:
        raise DataError(
            f"{frame.labels.source or frame.labels.file}: its image is missing: add it, or remove the labels"
        )
    return Scene.open(str(path), bands=plan.bands, stretch=plan.stretch, size=size)
