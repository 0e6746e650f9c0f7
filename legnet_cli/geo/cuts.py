"""Reading an image row by row of tiles, and writing tiles that keep its bands, type and place on the ground."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from legnet_cli.errors import DataError
from legnet_cli.geo.stretch import NEUTRAL
from legnet_cli.tiles import Tile

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROWS = 256  # read at a time
_CACHE = 16 << 20  # bytes of decoded blocks for each image that is being read: no row is read twice
_SCANLINES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")  # formats that are decoded from the top


def reading_order(path: Path) -> str:
    """How an image is best read: ``whole`` from top to bottom, or in parts: by ``rows`` or by ``columns`` of tiles.

    Raises:
        DataError: it is no raster.
    """
    if path.suffix.lower() in _SCANLINES:
        return "whole"
    with _opened(path) as ds:
        return "rows" if ds.count and ds.block_shapes[0][1] >= ds.width else "columns"


def bound_block_cache(images: int) -> None:
    """Limit the memory for decoded blocks to what so many images need that are read from top to bottom at once."""
    if "GDAL_CACHEMAX" not in os.environ:
        set_gdal_config("GDAL_CACHEMAX", images * _CACHE)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The raster at ``path``; whatever goes wrong in the body becomes a DataError that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            ds = rasterio.open(path)
        with ds:
            yield ds
    except (RasterioError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)}): replace the file") from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error.__cause__ or error).split())


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
        self._context = _opened(path)

    def __enter__(self) -> RawImage:
        self._ds = self._context.__enter__()
        if not self._ds.count:
            raise DataError(f"{self._path}: it holds no raster bands: name one that does")
        self._dtype = np.result_type(*self._ds.dtypes)
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
        window = Window(tile.col, tile.row, tile.width, tile.height)
        try:
            return np.moveaxis(self._ds.read(window=window, out_dtype=self._dtype), 0, 2)
        except RasterioError as error:
            where = f"rows {tile.row}-{tile.row + tile.height}"
            raise DataError(f"{self._path}: cannot read {where} ({_reason(error)}): replace the file") from error

    @property
    def fill(self) -> NDArray[Any]:
        """The pixel (bands,) that stands where a tile reaches out of the image."""
        nodata = self._ds.nodata
        values = np.full(self._ds.count, 0 if nodata is None else nodata, self._dtype)
        colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        if nodata is None and self._dtype == np.uint8 and tuple(self._ds.colorinterp[:3]) == colours:
            values[:3] = NEUTRAL
        return values

    def write(self, path: Path, pixels: NDArray[Any], tile: Tile) -> None:
        """Write the ``pixels`` (h, w, bands) of ``tile``, padded or not, to a GeoTIFF file.

        It keeps transform, control points, rational polynomials, nodata value, palette, colours and mask.
        """
        ds = self._ds
        predictor = {"i": 2, "u": 2, "f": 3}.get(self._dtype.kind, 1)
        profile = {"driver": "GTiff", "dtype": self._dtype, "count": ds.count, "nodata": ds.nodata}
        profile |= {"height": pixels.shape[0], "width": pixels.shape[1], "compress": "deflate", "predictor": predictor}
        masked = MaskFlags.per_dataset in ds.mask_flag_enums[0] and ColorInterp.alpha not in ds.colorinterp
        with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", **profile, **self._place(tile), zlevel=1, interleave="pixel") as out:
                out.colorinterp = ds.colorinterp
                out.write(np.moveaxis(pixels, 2, 0))
                for band in (i for i in ds.indexes if ds.descriptions[i - 1]):
                    out.set_band_description(band, ds.descriptions[band - 1])
                if ds.colorinterp[0] == ColorInterp.palette and ds.count == 1:
                    out.write_colormap(1, ds.colormap(1))
                if masked:
                    mask = np.zeros(pixels.shape[:2], np.uint8)
                    height, width = min(tile.height, ds.height - tile.row), min(tile.width, ds.width - tile.col)
                    mask[:height, :width] = ds.read_masks(1, window=Window(tile.col, tile.row, width, height))
                    out.write_mask(mask)

    def _place(self, tile: Tile) -> dict[str, Any]:
        """Georeference of a window, as rasterio takes it for a new file."""
        ds = self._ds
        points, crs = ds.gcps
        if points:
            moved = [GroundControlPoint(p.row - tile.row, p.col - tile.col, p.x, p.y, p.z) for p in points]
            return {"gcps": moved, "crs": crs}
        place: dict[str, Any] = {"crs": ds.crs}
        if ds.transform != Affine.identity():
            a, b, x, d, e, y = ds.transform[:6]
            moved_x, moved_y = x + a * tile.col + b * tile.row, y + d * tile.col + e * tile.row
            place["transform"] = Affine(a, b, moved_x, d, e, moved_y)
        if ds.rpcs is not None:
            rpcs = ds.rpcs
            rpcs.line_off, rpcs.samp_off = rpcs.line_off - tile.row, rpcs.samp_off - tile.col
            place["rpcs"] = rpcs
        return place
