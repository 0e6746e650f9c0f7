"""Scenes: any raster GDAL reads as 8-bit RGB tiles, with the pixels that hold no data marked."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from legnet_cli.errors import ConfigError, GeoError
from legnet_cli.geo.bands import Bands
from legnet_cli.geo.gdal import header_of
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.handles import Handles
from legnet_cli.geo.headers import Size
from legnet_cli.geo.inputs import gdal_path
from legnet_cli.geo.orientation import Window, as_shown, is_transposed, stored_window
from legnet_cli.geo.stretch import NEUTRAL, Limits, Stretch, to_uint8
from legnet_cli.tiles import Tile

MAX_UPSAMPLING = 16
Gsd: TypeAlias = float | tuple[float, float] | None
SAMPLE_SIDE = 1024  # px of the decimated scene that percentiles are taken from
SAMPLE_COST = 1 << 24  # px: above it percentiles come from spots, not from reading everything
_SPOTS, _SPOT = 16, 64  # spots along each side, and the side of one in px
_MOST_BLOCKS = 256  # under a tile, that are asked for whether they are stored


class Scene:
    """A raster read by windows on a pixel grid; open with :meth:`open`, use as a context manager.

    Attributes:
        path: GDAL's name of the raster.
        name: its short name for people.
        width, height: of the grid that is read: the raster's own, or resampled to the ``gsd`` asked for.
        source_width, source_height: of the raster.
        scale_x, scale_y: grid pixel × scale = raster pixel.
        georef: where the raster's own pixels lie on the ground.
        warnings: sentences about how it is read that its user may not expect; it tells nobody itself.
    """

    def __init__(self, path: str, bands: tuple[int, ...] | None, stretch: Stretch, gsd: Gsd, size: Size | None) -> None:
        self.path, self.name = path, scene_name(path)
        self._source = self._grid = Handles(path)
        with self._source.borrow() as ds:
            header = header_of(ds)
        self._bands = Bands.choose(header, bands, path)
        self.georef = Georef.from_header(header)
        self.source_width, self.source_height = self.georef.width, self.georef.height
        # a raster with a place on the ground is stored as it lies there, whatever else it says
        self._orientation = header.orientation if self.georef.kind == "none" else 1
        overviews = list(header.overviews[self._bands.indexes[0] - 1])
        self._source.suit(header)
        self.width, self.height = size or self._grid_size(gsd)
        self.scale_x, self.scale_y = self.source_width / self.width, self.source_height / self.height
        self._resampled = (self.width, self.height) != (self.source_width, self.source_height)
        if self._resampled and overviews:
            # pinned, for GDAL's own choice can differ from tile to tile
            level = sum(factor <= min(self.scale_x, self.scale_y) * 1.01 for factor in overviews)
            self._grid = Handles(path, f"{level - 1}only" if level else "NONE")
        self._limits = self._find_limits(stretch, overviews)
        self.warnings = (*self._bands.warnings, *self.georef.warnings, *_without_crs(self.georef))

    @classmethod
    def open(
        cls,
        path: str,
        *,
        bands: tuple[int, ...] | None = None,
        stretch: str = "auto",
        gsd: Gsd = None,
        size: Size | None = None,
    ) -> Scene:
        """Open a raster.

        Args:
            path: file, URL, subdataset or anything else GDAL opens.
            bands: one band or three, from 1; by default by colour interpretation.
            stretch: how values become 8-bit, see :mod:`legnet_cli.geo.stretch`.
            gsd: metres per pixel of the grid to read; by default the raster's own pixels, as with two numbers between
                which these lie; the nearer of the two is taken otherwise.
            size: width and height of the grid to read, in place of ``gsd``.

        Raises:
            DataError: if there is no such raster, or it has no bands of real numbers.
            GeoError: if ``gsd`` is given and the raster's own is unknown.
            ConfigError: if ``bands``, ``stretch`` or ``gsd`` does not fit the raster.
        """
        return cls(gdal_path(path), bands, Stretch.parse(stretch), gsd, size)

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; a later read opens them anew."""
        self._source.close()
        self._grid.close()

    def read(self, tile: Tile) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """RGB (h, w, 3) of a window inside the grid, and which pixels hold data (h, w). Safe to call from many threads.

        Pixels without data have the neutral colour, which draws no edge that a network could take for an object's.
        A pixel holds data if any band does.

        Raises:
            DataError: if the file is damaged there.
        """
        window: Window = (tile.col, tile.row, tile.width, tile.height)
        with self._grid.borrow(tile) as ds:
            if self._resampled:
                x, y = ds.width / self.width, ds.height / self.height
                window = (tile.col * x, tile.row * y, tile.width * x, tile.height * y)
            found = self._fetch(ds, window, (tile.height, tile.width), smooth=self._resampled)
        return self._to_rgb(*found)

    def is_empty(self, tile: Tile) -> bool:
        """Whether a window of a GeoTIFF lies in blocks that the file leaves out, so that it need not be read."""
        if self._orientation != 1:
            return False
        x, y = self.scale_x, self.scale_y
        rows = int(tile.row * y), math.ceil((tile.row + tile.height) * y)
        cols = int(tile.col * x), math.ceil((tile.col + tile.width) * x)
        with self._source.borrow() as ds:
            return _is_sparse(ds, self._bands.indexes, rows, cols)

    def preview(self, max_side: int) -> tuple[NDArray[np.uint8], float]:
        """The whole raster as RGB (h, w, 3) with no side over ``max_side``, and raster pixels per pixel of it."""
        factor = max(1.0, max(self.source_width, self.source_height) / max_side)
        shape = max(1, round(self.source_height / factor)), max(1, round(self.source_width / factor))
        return self._to_rgb(*self._whole(shape, smooth=factor > 1))[0], factor

    def _whole(self, shape: tuple[int, int], *, smooth: bool) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        with self._source.borrow(Tile(0, 0, self.source_height, self.source_width)) as ds:
            return self._fetch(ds, (0, 0, self.source_width, self.source_height), shape, smooth=smooth)

    def _fetch(
        self, ds: DatasetReader, window: Window, shape: tuple[int, int], *, smooth: bool
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """As :meth:`Bands.fetch`, for a window of the picture as it is shown."""
        if self._orientation == 1:
            return self._bands.fetch(ds, window, shape, smooth=smooth)
        stored = stored_window(window, (self.source_width, self.source_height), self._orientation)
        turned = shape[::-1] if is_transposed(self._orientation) else shape
        values, usable = self._bands.fetch(ds, stored, turned, smooth=smooth)
        return as_shown(values, self._orientation), None if usable is None else as_shown(usable, self._orientation)

    def _to_rgb(
        self, bands: NDArray[Any], usable: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        stretched = to_uint8(bands, self._limits)
        rgb = np.empty((*bands.shape[1:], 3), np.uint8)
        for channel in range(3):
            rgb[..., channel] = stretched[channel % len(stretched)]
        if usable is None:
            return rgb, np.ones(rgb.shape[:2], np.bool_)
        valid: NDArray[np.bool_] = np.logical_or.reduce(usable, axis=0)
        rgb[~valid] = NEUTRAL
        return rgb, valid

    def _grid_size(self, gsd: Gsd) -> Size:
        """Width and height of the grid whose pixels measure ``gsd`` metres at the scene's centre."""
        size = self.source_width, self.source_height
        if gsd is None:
            return size
        if self.georef.gsd is None:
            raise GeoError(f"{self.path}: its ground sampling distance is unknown: leave out --gsd")
        return grid_size(size, self.georef.gsd, gsd, self.path)

    def _find_limits(self, stretch: Stretch, overviews: list[int]) -> Limits:
        dtype, count = self._bands.dtype, 1 if len(self._bands.indexes) == 1 else 3
        if self._bands.palette is not None:
            dtype, count = np.dtype(np.uint8), 3
        if not stretch.needs_samples(dtype):
            return stretch.limits(dtype, [np.empty(0)] * count)
        longest, pixels = max(self.source_width, self.source_height), self.source_width * self.source_height
        coarsest = max(factor for factor in (1, *overviews) if factor == 1 or longest / factor >= SAMPLE_SIDE)
        samples = self._spots() if pixels / coarsest**2 > SAMPLE_COST else []
        if min((s.size for s in samples), default=0) < 4096:
            factor = max(1.0, longest / SAMPLE_SIDE)
            shape = max(1, round(self.source_height / factor)), max(1, round(self.source_width / factor))
            samples = _values(*self._whole(shape, smooth=False))
        return stretch.limits(dtype, samples)

    def _spots(self) -> list[NDArray[Any]]:
        """Values (n,) of each band in small windows on an even grid over the scene."""
        h, w = min(_SPOT, self.source_height), min(_SPOT, self.source_width)
        found = []
        for row in np.linspace(0, self.source_height - h, _SPOTS).astype(int).tolist():
            for col in np.linspace(0, self.source_width - w, _SPOTS).astype(int).tolist():
                with self._source.borrow(Tile(row, col, h, w)) as ds:
                    found.append(_values(*self._fetch(ds, (col, row, w, h), (h, w), smooth=False)))
        return [np.concatenate(band) for band in zip(*found, strict=True)]


def grid_size(size: Size, own: tuple[float, float], gsd: float | tuple[float, float], name: str) -> Size:
    """Width and height of an image whose pixels are resampled to ``gsd``.

    Args:
        size: width and height as they are.
        own: metres per pixel along columns and rows.
        gsd: as of :meth:`Scene.open`.
        name: of the image, for messages.

    Raises:
        ConfigError: ``gsd`` is not positive, or so much finer that nothing new would be seen.
    """
    if isinstance(gsd, tuple):
        mean = math.sqrt(own[0] * own[1])
        if gsd[0] <= mean <= gsd[1]:
            return size
        gsd = gsd[0] if mean < gsd[0] else gsd[1]
    if not 0 < gsd < math.inf:
        raise ConfigError(f"a ground sampling distance of {gsd} m is out of range: must be positive")
    if gsd * MAX_UPSAMPLING < max(own):
        raise ConfigError(f"{name}: its pixels of {max(own):.4g} m are too coarse for --gsd {gsd:g}: leave it out")
    if all(abs(gsd / side - 1) < 0.01 for side in own):
        return size
    return max(1, round(size[0] * own[0] / gsd)), max(1, round(size[1] * own[1] / gsd))


def _is_sparse(ds: DatasetReader, bands: Sequence[int], rows: tuple[int, int], cols: tuple[int, int]) -> bool:
    """Whether no block of a GeoTIFF that the window touches is stored; False where that would take long to tell."""
    height, width = ds.block_shapes[0]
    row_range = range(rows[0] // height, -(-min(rows[1], ds.height) // height))
    col_range = range(cols[0] // width, -(-min(cols[1], ds.width) // width))
    if ds.driver != "GTiff" or len(row_range) * len(col_range) > _MOST_BLOCKS:
        return False
    if ds.interleaving is not None and ds.interleaving.name == "pixel":
        bands = bands[:1]  # they share their blocks
    return not any(
        ds.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band)
        for band in bands
        for row in row_range
        for col in col_range
    )


def _without_crs(georef: Georef) -> tuple[str, ...]:
    if georef.crs is not None:
        return ()
    if georef.kind == "none":
        return ("it has no georeference: results are in pixel coordinates",)
    return ("it has no coordinate system: results are in its own map coordinates",)


def scene_name(path: str) -> str:
    """A raster's short name: the file's, followed by the subdataset's if there is one."""
    head, quoted, inner = path.rpartition('"')
    base = os.path.basename((head if quoted else path).split("?")[0].rstrip("/"))
    return base + inner if quoted else base


def write_geotiff(path: Path, image: NDArray[np.uint8], gsd: float) -> None:
    """Write RGB pixels (h, w, 3) of ``gsd`` metres as a tiled, deflated GeoTIFF somewhere in UTM zone 31 north."""
    place = {"crs": "EPSG:32631", "transform": rasterio.Affine(gsd, 0, 500_000, 0, -gsd, 5_000_000)}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "predictor": 2}
    height, width, bands = image.shape
    size = {"height": height, "width": width, "count": bands, "dtype": image.dtype, "photometric": "rgb"}
    with rasterio.open(path, "w", driver="GTiff", **size, **layout, **place) as file:
        file.write(np.moveaxis(image, 2, 0))


def _values(bands: NDArray[Any], usable: NDArray[np.bool_] | None) -> list[NDArray[Any]]:
    """The values (n,) of each band that are data."""
    return [band.ravel() if usable is None else band[usable[i]] for i, band in enumerate(bands)]
