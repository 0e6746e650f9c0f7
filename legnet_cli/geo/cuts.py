"""Reading an image row by row of tiles, and writing tiles that keep its bands, type and place on the ground."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine
from rasterio.windows import Window

from legnet_cli.errors import DataError
from legnet_cli.geo.gdal import opened, reading_pixels
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.orientation import as_shown, stored_window
from legnet_cli.geo.stretch import NEUTRAL
from legnet_cli.tiles import Tile

_ROWS = 256  # read at a time
BLOCK_CACHE = 16 << 20  # bytes of decoded blocks for each image that is read from top to bottom: no row is read twice
_SCANLINES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")  # formats that are decoded from the top


def reading_order(path: Path) -> str:
    """How an image is best read: ``whole`` from top to bottom, or in parts: by ``rows`` or by ``columns`` of tiles.

    Raises:
        DataError: it is no raster.
    """
    if path.suffix.lower() in _SCANLINES:
        return "whole"
    with opened(path) as (_, header):
        return "rows" if header.count and header.blocks[0][1] >= header.width else "columns"


class Rolling:
    """Windows of an image in the order of their rows; each row of the image is read once.

    Args:
        read: gives the pixels (h, w, bands) of a window inside the image.
        left, right: columns that windows may cover.
        height: of the image.
        depth: rows of the highest window.
    """

    def __init__(self, read: Callable[[Tile], NDArray[Any]], left: int, right: int, height: int, depth: int) -> None:
        self._read, self._left, self._right, self._height = read, left, right, height
        self._depth = min(depth, height)
        self._top = self._bottom = 0  # the rows that are held
        self._rows: NDArray[Any] = np.empty(0)

    def window(self, tile: Tile) -> NDArray[Any]:
        """Pixels (h, w, bands) of ``tile`` as far as it lies in the image; valid until the next call."""
        bottom = min(tile.row + tile.height, self._height)
        held = max(0, self._bottom - tile.row)
        if held and tile.row > self._top:
            self._rows[:held] = self._rows[tile.row - self._top :][:held]
        self._top, self._bottom = tile.row, tile.row + held
        while self._bottom < bottom:
            count = min(_ROWS, bottom - self._bottom)
            fresh = self._read(Tile(self._bottom, self._left, count, self._right - self._left))
            if not self._rows.size:
                self._rows = np.empty((self._depth, *fresh.shape[1:]), fresh.dtype)
            self._rows[self._bottom - self._top :][:count] = fresh
            self._bottom += count
        left = tile.col - self._left
        return self._rows[: bottom - tile.row, left : min(left + tile.width, self._right - self._left)]


class RawImage:
    """All bands of a raster in their own type. Opened by ``with``; serves one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._context = opened(path)

    def __enter__(self) -> RawImage:
        self._ds, self._header = self._context.__enter__()
        if not self._header.count:
            raise DataError(f"{self._path}: it holds no raster bands: name one that does")
        self._dtype = np.result_type(*self._header.dtypes)
        georef = Georef.from_header(self._header)
        self._size = georef.width, georef.height
        self._orientation = self._header.orientation if georef.kind == "none" else 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, trace)

    def read(self, tile: Tile) -> NDArray[Any]:
        """Pixels (h, w, bands) of a window inside the image.

        Raises:
            DataError: the file is damaged there.
        """
        with reading_pixels(str(self._path), f"rows {tile.row}-{tile.row + tile.height}"):
            pixels = self._ds.read(window=self._window(tile), out_dtype=self._dtype)
        return np.moveaxis(as_shown(pixels, self._orientation), 0, 2)

    def _window(self, tile: Tile) -> Window:
        """Where the pixels of ``tile`` are stored."""
        return Window(*stored_window((tile.col, tile.row, tile.width, tile.height), self._size, self._orientation))

    @property
    def fill(self) -> NDArray[Any]:
        """The pixel (bands,) that stands where a tile reaches out of the image."""
        nodata = self._header.nodata[0]
        values = np.full(self._header.count, 0 if nodata is None else nodata, self._dtype)
        colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        if nodata is None and self._dtype == np.uint8 and self._header.colours[:3] == colours:
            values[:3] = NEUTRAL
        return values

    def write(self, path: Path, pixels: NDArray[Any], tile: Tile) -> None:
        """Write the ``pixels`` (h, w, bands) of ``tile``, padded or not, to a GeoTIFF file.

        It keeps transform, control points, rational polynomials, nodata value, palette, colours and mask.
        """
        ds, header = self._ds, self._header
        predictor = {"i": 2, "u": 2, "f": 3}.get(self._dtype.kind, 1)
        profile = {"driver": "GTiff", "dtype": self._dtype, "count": header.count, "nodata": header.nodata[0]}
        profile |= {"height": pixels.shape[0], "width": pixels.shape[1], "compress": "deflate", "predictor": predictor}
        masked = MaskFlags.per_dataset in header.masks[0] and ColorInterp.alpha not in header.colours
        with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", **profile, **self._place(tile), zlevel=1, interleave="pixel") as out:
                out.colorinterp = header.colours
                out.write(np.moveaxis(pixels, 2, 0))
                for band in (i for i in ds.indexes if ds.descriptions[i - 1]):
                    out.set_band_description(band, ds.descriptions[band - 1])
                if header.palette and header.count == 1:
                    out.write_colormap(1, header.palette)
                if masked:
                    mask = np.zeros(pixels.shape[:2], np.uint8)
                    height = min(tile.height, self._size[1] - tile.row)
                    width = min(tile.width, self._size[0] - tile.col)
                    stored = ds.read_masks(1, window=self._window(Tile(tile.row, tile.col, height, width)))
                    mask[:height, :width] = as_shown(stored, self._orientation)
                    out.write_mask(mask)

    def _place(self, tile: Tile) -> dict[str, Any]:
        """Georeference of a window, as rasterio takes it for a new file."""
        header = self._header
        if header.gcps:
            moved = [GroundControlPoint(p.row - tile.row, p.col - tile.col, p.x, p.y, p.z) for p in header.gcps]
            return {"gcps": moved, "crs": header.gcp_crs}
        place: dict[str, Any] = {"crs": header.crs}
        if header.transform != Affine.identity():
            a, b, x, d, e, y = header.transform[:6]
            moved_x, moved_y = x + a * tile.col + b * tile.row, y + d * tile.col + e * tile.row
            place["transform"] = Affine(a, b, moved_x, d, e, moved_y)
        if header.rpcs is not None:
            rpcs = copy(header.rpcs)
            rpcs.line_off, rpcs.samp_off = rpcs.line_off - tile.row, rpcs.samp_off - tile.col
            place["rpcs"] = rpcs
        return place
