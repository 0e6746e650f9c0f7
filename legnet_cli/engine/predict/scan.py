"""Search one scene tile by tile: read ahead, detect in batches, merge over the seams, at constant memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Detections
from legnet_cli.detectors.stages import StageObserver, unobserved
from legnet_cli.engine.predict.merge import merge_tiles
from legnet_cli.tiles import Tile

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

READERS = min(4, os.cpu_count() or 1)  # decoding threads: resampled tiles can take as long as a GPU's search
VISIBLE_SHARE = 0.7  # share of a box that must lie on valid pixels; the share DOTA keeps objects cut by a tile at


class PixelGrid(Protocol):
    """What is searched: a grid of pixels read by windows from any thread."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    def read(self, tile: Tile) -> tuple[Image, Mask]:
        """RGB pixels (h, w, 3) and which of them are valid (h, w)."""


class TileDetector(Protocol):
    """What searches: a detector of equally sized images."""

    def detect(self, images: Image) -> list[Detections]:
        """Detections in pixels of each of the images (b, h, w, 3)."""


def scan_tiles(
    grid: PixelGrid,
    detector: TileDetector,
    tiles: Sequence[Tile],
    batch: int,
    on_tiles: Callable[[int], None] = lambda count: None,
    lowest: float = 0.0,
    observer: StageObserver = unobserved,
) -> Detections:
    """Find the objects of ``grid`` in ``tiles``; boxes are in pixels of the grid, best score first.

    Arguments as of :func:`search_tiles`; ``observer`` is told of the stage ``merge`` too.
    """
    found, tile_of, _ = search_tiles(grid, detector, tiles, batch, on_tiles, lowest, observer)
    with observer("merge"):
        return merge_tiles(found, tile_of, tiles, (grid.height, grid.width))


def search_tiles(
    grid: PixelGrid,
    detector: TileDetector,
    tiles: Sequence[Tile],
    batch: int,
    on_tiles: Callable[[int], None] = lambda count: None,
    lowest: float = 0.0,
    observer: StageObserver = unobserved,
) -> tuple[Detections, NDArray[np.int64], NDArray[np.int64]]:
    """What a detector finds in each of ``tiles``.

    That is boxes in pixels of ``grid``, the number of each one's tile (n,), and the numbers of the tiles searched.

    Tiles without a valid pixel or of a single colour are skipped, and boxes that lie on invalid pixels for more than
    ``1 - VISIBLE_SHARE`` of their area are dropped. ``on_tiles`` is told how many tiles were just finished.
    Boxes that score less than ``lowest`` are dropped before tiles are merged, where they could displace better ones.
    ``observer`` is told of the stages ``read`` (in threads) and ``detect``.
    """
    found: list[Detections] = []
    tile_of: list[NDArray[np.int64]] = []
    seen: list[int] = []
    waiting: list[tuple[int, Image, Mask]] = []

    def read(tile: Tile) -> tuple[Image, Mask]:
        with observer("read"):
            return grid.read(tile)

    def search() -> None:
        images = np.stack([image for _, image, _ in waiting])
        with observer("detect"):
            searched = detector.detect(images)
        for (index, _, valid), hits in zip(waiting, searched, strict=True):
            hits = _drop_invalid(hits[hits.scores >= lowest], valid)
            shift = np.array([tiles[index].col, tiles[index].row, 0, 0, 0], np.float64)
            found.append(replace(hits, boxes=hits.boxes + shift))
            tile_of.append(np.full(len(hits), index, np.int64))
            seen.append(index)
        on_tiles(len(waiting))
        waiting.clear()

    for index, (image, valid) in enumerate(_read_ahead(read, tiles, batch + READERS)):
        if not valid.any() or _plain(image):
            on_tiles(1)
            continue
        waiting.append((index, image, valid))
        if len(waiting) == batch:
            search()
    if waiting:
        search()
    return Detections.concat(found), np.concatenate([np.zeros(0, np.int64), *tile_of]), np.array(seen, np.int64)


def _plain(image: Image) -> bool:
    """Whether all pixels have one colour; a look at the first row tells nearly always."""
    return bool((image[0] == image[0, 0]).all() and (image == image[0, 0]).all())


def _read_ahead(
    read: Callable[[Tile], tuple[Image, Mask]], tiles: Sequence[Tile], ahead: int
) -> Iterator[tuple[Image, Mask]]:
    """Tiles in order, decoded by threads up to ``ahead`` of the caller."""
    if len(tiles) == 1:  # nothing is ahead, and to start a thread takes longer than a small scene
        yield read(tiles[0])
        return
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="legnet-read")
    jobs: deque[Future[tuple[Image, Mask]]] = deque()
    try:
        for tile in tiles:
            jobs.append(pool.submit(read, tile))
            if len(jobs) > ahead:
                yield jobs.popleft().result()
        while jobs:
            yield jobs.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _drop_invalid(hits: Detections, valid: Mask) -> Detections:
    """Drop boxes too little of which shows valid pixels, judged on 5 × 5 points spread over each box."""
    if len(hits) == 0 or valid.all():
        return hits
    steps = np.linspace(-0.4, 0.4, 5)
    across, along = (offset.ravel() for offset in np.meshgrid(steps, steps))
    cx, cy, w, h, angle = (column[:, None] for column in hits.boxes.T)
    x = np.floor(cx + along * w * np.cos(angle) - across * h * np.sin(angle)).astype(np.int64)
    y = np.floor(cy + along * w * np.sin(angle) + across * h * np.cos(angle)).astype(np.int64)
    inside = (x >= 0) & (x < valid.shape[1]) & (y >= 0) & (y < valid.shape[0])
    shown = inside & valid[y.clip(0, valid.shape[0] - 1), x.clip(0, valid.shape[1] - 1)]
    return hits[shown.sum(1) >= VISIBLE_SHARE * np.maximum(inside.sum(1), 1)]
