"""Window arithmetic on pixel grids: where tiles start, what they cover, what they are called. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

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
    return [_start(index, length, tile, overlap) for index in range(_count(length, tile, overlap))]


def tile_grid(height: int, width: int, tile: int, overlap: int) -> list[Tile]:
    """Tiles covering a grid of ``height`` × ``width`` pixels, row by row; see :class:`TileGrid`."""
    return list(TileGrid(height, width, tile, overlap))


class TileGrid(Sequence[Tile]):
    """Tiles covering a grid of pixels, row by row, computed when asked for: a grid may have billions.

    No tile reaches outside: a side shorter than ``tile`` makes the tiles that short too.
    """

    def __init__(self, height: int, width: int, tile: int, overlap: int) -> None:
        check_tiling(tile, overlap)
        self._size, self._tiling = (height, width), (tile, overlap)
        self.rows, self.cols = (_count(side, tile, overlap) for side in self._size)

    def __len__(self) -> int:
        return self.rows * self.cols

    @overload
    def __getitem__(self, index: int) -> Tile: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tile]: ...

    def __getitem__(self, index: int | slice) -> Tile | list[Tile]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        (height, width), (tile, overlap) = self._size, self._tiling
        row, col = divmod(index % len(self), self.cols)
        first = _start(row, height, tile, overlap), _start(col, width, tile, overlap)
        return Tile(*first, min(tile, height), min(tile, width))

    def near(self, left: float, top: float, right: float, bottom: float) -> tuple[range, range]:
        """Rows and columns of the grid whose tiles the bounds, in pixels, may touch; some neighbours are among them."""
        (height, width), (tile, overlap) = self._size, self._tiling
        spans = []
        for low, high, side, count in ((top, bottom, height, self.rows), (left, right, width, self.cols)):
            first = max(0, min(int((min(max(low, 0), side) - tile) // (tile - overlap)), count - 1))
            last = min(count - 1, max(0, int(min(max(high, 0), side) // (tile - overlap)) + 1))
            spans.append(range(first, last + 1))
        return spans[0], spans[1]


class SomeTiles(Sequence[Tile]):
    """Tiles of a grid, given by their numbers (n,)."""

    def __init__(self, grid: TileGrid, numbers: NDArray[np.int64]) -> None:
        self._grid, self._numbers = grid, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Tile: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tile]: ...

    def __getitem__(self, index: int | slice) -> Tile | list[Tile]:
        chosen = self._numbers[index]
        return [self._grid[int(number)] for number in chosen] if isinstance(index, slice) else self._grid[int(chosen)]


def _count(length: int, tile: int, overlap: int) -> int:
    return 1 if length <= tile else -(-(length - tile) // (tile - overlap)) + 1


def _start(index: int, length: int, tile: int, overlap: int) -> int:
    return min(index * (tile - overlap), max(length - tile, 0))


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

    def points_to_image(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (…, 2) in pixels of the tile, in pixels of the image."""
        return np.asarray((points + np.array([self.col, self.row])) / self.zoom)


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
