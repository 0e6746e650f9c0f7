"""A PNG encoder for tiles: files as small as OpenCV's in a fraction of its time.

PNG, third edition (W3C 2025). Each row is stored as differences to the pixel on the left (filter type 1), as OpenCV
does, so rows that two tiles of a column share look the same in both: they are compressed once. The ISA-L deflate of
the package ``isal`` does that about three times as fast as zlib, where it is there.
"""

from __future__ import annotations

import importlib
import itertools
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.tiles import Tile

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SUB = 1  # the filter type
_LEVEL = 1
_ZLIB_HEADER = b"\x78\x01"
_LAST_BLOCK = b"\x03\x00"  # of deflate, without content
_ADLER = 65521


@dataclass(frozen=True)
class _Rows:
    """Rows of a tile as a PNG chunk, with the checksum and the length of what is compressed in it."""

    chunk: bytes
    adler: int
    length: int


class TileEncoder:
    """Encodes the tiles of an image, given by rising rows.

    Args:
        tiles: all that will be encoded.
    """

    def __init__(self, tiles: Iterable[Tile]) -> None:
        self._breaks: dict[tuple[int, int], set[int]] = {}
        for tile in tiles:
            self._breaks.setdefault((tile.col, tile.width), set()).update((tile.row, tile.row + tile.height))
        self._held: dict[tuple[int, int, int, int], _Rows] = {}

    def encode(self, tile: Tile, rgb: NDArray[np.uint8]) -> bytes:
        """The PNG file of the pixels (h, w, 3) of ``tile``; lossless. Other threads run meanwhile."""
        height, width, _ = rgb.shape
        bottom = tile.row + height
        column = tile.col, tile.width
        breaks = sorted(row for row in self._breaks[column] if tile.row < row < bottom)
        parts = []
        for start, stop in itertools.pairwise((tile.row, *breaks, bottom)):
            key = (*column, start, stop)
            part = self._held.pop(key, None) or _compress(rgb[start - tile.row : stop - tile.row])
            if breaks:  # the next tile of the column begins with it
                self._held[key] = part
            parts.append(part)
        for key in [key for key in self._held if key[:2] == column and key[2] < min(breaks, default=bottom)]:
            del self._held[key]
        adler = 1
        for part in parts:
            adler = _joined(adler, part)
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
        end = _chunk(b"IDAT", _LAST_BLOCK + struct.pack(">I", adler)) + _chunk(b"IEND", b"")
        start_chunks = (_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", _ZLIB_HEADER))
        return b"".join((*start_chunks, *(part.chunk for part in parts), end))


def encode_png(rgb: NDArray[np.uint8]) -> bytes:
    """The PNG file of an (h, w, 3) RGB image; lossless."""
    tile = Tile(0, 0, *rgb.shape[:2])
    return TileEncoder([tile]).encode(tile, rgb)


def _compress(rgb: NDArray[np.uint8]) -> _Rows:
    height, width, _ = rgb.shape
    flat = rgb.reshape(height, 3 * width)
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _SUB
    rows[:, 1:4] = flat[:, :3]
    np.subtract(flat[:, 3:], flat[:, :-3], out=rows[:, 4:])
    packer = _packer()
    data = packer.compress(rows) + packer.flush(zlib.Z_FULL_FLUSH)
    return _Rows(_chunk(b"IDAT", data), _sums().adler32(rows.data), rows.size)


def _packer() -> Any:  # noqa: ANN401 - a compression object of either module
    if _isal is None:
        return zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_RLE)
    return _isal.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)


def _sums() -> Any:  # noqa: ANN401 - either module
    return _isal or zlib


def _joined(adler: int, part: _Rows) -> int:
    """The Adler-32 checksum of what has ``adler`` followed by ``part``."""
    low, high = adler & 0xFFFF, adler >> 16
    more_low, more_high = part.adler & 0xFFFF, part.adler >> 16
    high = (high + more_high + part.length * (low - 1)) % _ADLER
    return high << 16 | (low + more_low - 1) % _ADLER


def _chunk(kind: bytes, data: bytes) -> bytes:
    crc = _sums().crc32(data, _sums().crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", crc)))


try:
    _isal: Any = importlib.import_module("isal.isal_zlib")
except ImportError:
    _isal = None
