"""Window arithmetic on pixel grids: where tiles start and what they cover. Pure numbers, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from legnet_cli.errors import ConfigError


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
    if tile < 32:
        raise ConfigError(f"tile size {tile} is too small: give --tile 32 or more")
    if not 0 <= overlap < tile:
        raise ConfigError(f"overlap {overlap} does not fit tiles of {tile}: give --overlap from 0 to {tile - 1}")


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
