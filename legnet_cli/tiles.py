"""Window arithmetic on pixel grids: where tiles start, what they cover, what they are called. No I/O."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from legnet_cli.errors import ConfigError

SMALLEST = 32  # px: the least side of a tile

_NAME = re.compile(r"(?P<image>.+)__(?P<size>\d+(\.\d+)?)__(?P<col>\d+)___(?P<row>\d+)")


@dataclass(frozen=True, order=True)
class Tile:
    """A window of a pixel grid; ``row`` and ``col`` are its first row and column, 0-based."""

    row: int
    col: int
    height: int
    width: int


def check_tiling(tile: int, overlap: int) -> None:
    """Refuse a tile size and overlap, both in pixels, that cannot cover a scene.

    Raises:
        ConfigError: if ``tile`` is under 32 or ``overlap`` is not in [0, tile).
    """
    if tile < SMALLEST:
        raise ConfigError(f"tile size {tile} is too small: give --tile {SMALLEST} or more")
    if not 0 <= overlap < tile:
        raise ConfigError(f"overlap {overlap} does not fit tiles of {tile}: give --overlap from 0 to {tile - 1}")


def choose_tiling(tile: int | None, overlap: int | None, own: tuple[int, int]) -> tuple[int, int]:
    """Tile and overlap in pixels: those asked for, else the model's ``own``.

    An overlap that is not asked for keeps the model's proportion in tiles of another size.

    Raises:
        ConfigError: see :func:`check_tiling`.
    """
    side = tile or own[0]
    shared = round(side * own[1] / own[0]) if overlap is None else overlap
    check_tiling(side, shared)
    return side, shared


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles along one axis of ``length`` pixels.

    Tiles step by ``tile - overlap``; the last one is moved back to end at ``length``.
    An axis no longer than a tile has the single start 0.
    """
    check_tiling(tile, overlap)
    if length <= tile:
        return [0]
    starts = list(range(0, length - tile, tile - overlap))
    return [*starts, length - tile]


def tile_grid(height: int, width: int, tile: int, overlap: int) -> list[Tile]:
    """Tiles covering a grid of ``height`` × ``width`` pixels, row by row.

    No tile reaches outside: a side shorter than ``tile`` makes the tiles that short too.
    """
    rows, cols = tile_starts(height, tile, overlap), tile_starts(width, tile, overlap)
    return [Tile(row, col, min(tile, height), min(tile, width)) for row in rows for col in cols]


class TileName(NamedTuple):
    """What a tile's name says.

    Attributes:
        image: name of the image it was cut from.
        col, row: its first pixel there.
        zoom: how often the image was enlarged before it was cut; ``col``, ``row`` and ``size`` are pixels after that.
        size: its side; infinite for a whole image, or where the name does not say.
    """

    image: str
    col: float = 0.0
    row: float = 0.0
    zoom: float = 1.0
    size: float = math.inf

    @property
    def window(self) -> Tile:
        """Its window of the image; where its size is unknown, one that no box reaches the end of."""
        side = int(min(self.size, 1 << 30) / self.zoom)
        return Tile(int(self.row / self.zoom), int(self.col / self.zoom), side, side)

    def boxes_to_image(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 5) boxes in pixels of the tile, in pixels of the image."""
        shifted = boxes + np.array([self.col, self.row, 0, 0, 0])
        return np.asarray(shifted / np.array([self.zoom, self.zoom, self.zoom, self.zoom, 1.0]))


def tile_name(image: str, tile: Tile) -> str:
    """DOTA's name of a square tile of ``image``, such as ``P1000__1024__824___0`` (size, column, row)."""
    return f"{image}__{tile.width}__{tile.col}___{tile.row}"


def parse_tile_name(name: str) -> TileName:
    """What :func:`tile_name` wrote; a name of another form is that of a whole image.

    DOTA's own ``<image>__<rate>__<col>___<row>``, where the image was resized by ``rate`` first, is understood too.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return TileName(name)
    size, col, row = (float(match[key]) for key in ("size", "col", "row"))
    if size < SMALLEST:
        return TileName(match["image"], col, row, zoom=size) if size > 0 else TileName(name)
    return TileName(match["image"], col, row, size=size)
