"""Open datasets of a raster that many threads read, and GDAL's cache of decoded blocks that they share."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import rasterio
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.io import DatasetReader
from rasterio.session import DummySession

from legnet_cli.errors import DataError
from legnet_cli.geo.gdal import RasterHeader, open_raster, reading_pixels
from legnet_cli.geo.inputs import is_local, is_remote
from legnet_cli.geo.network import gdal_options
from legnet_cli.tiles import Tile

# GDAL's own bound, 5 % of memory, is per process and often too little or too much
CACHE_BYTES, MAX_CACHE_BYTES = 128 << 20, 512 << 20
MIN_CACHE_BYTES = 64 << 20  # for rows of wide blocks: more would hold decoded rows nobody reads again
WIDE_BLOCK = 4096  # px: from here on a block spans several tiles, and handles should share decoded blocks


class Handles:
    """Open datasets of one raster: a dataset serves one thread at a time, so each thread borrows its own."""

    def __init__(self, path: str, overview: str | None = None) -> None:
        self._path = path
        self._options = {} if overview is None else {"OVERVIEW_LEVEL": overview}
        self._env = gdal_options(remote=is_remote(path))
        self._idle: list[DatasetReader] = []
        self._gate: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        bound_block_cache(CACHE_BYTES)

    def suit(self, header: RasterHeader) -> None:
        """Fit the sharing and GDAL's block cache to the raster's blocks."""
        if header.blocks[0][1] >= WIDE_BLOCK:
            self._gate = threading.Lock()
            row_of_tiles = header.width * 1200 * sum(np.dtype(d).itemsize for d in header.dtypes)
            bound_block_cache(min(max(row_of_tiles, MIN_CACHE_BYTES), MAX_CACHE_BYTES))

    @contextlib.contextmanager
    def borrow(self, tile: Tile | None = None) -> Iterator[DatasetReader]:
        """A dataset to read ``tile`` from; whatever goes wrong meanwhile becomes a DataError that names it."""
        with self._gate, rasterio.Env(session=DummySession(), **self._env):
            try:
                ds = self._idle.pop()
            except IndexError:
                ds = self._open()
            where = "its header"
            if tile:
                where = f"rows {tile.row}-{tile.row + tile.height}, columns {tile.col}-{tile.col + tile.width}"
            try:
                with reading_pixels(self._path, where):
                    yield ds
            finally:
                self._idle.append(ds)

    def _open(self) -> DatasetReader:
        if is_local(self._path) and not os.path.exists(self._path):
            raise DataError(f"{self._path}: no such file: check the path")
        advice = "check the file"
        if self._path.lower().endswith(".zip"):
            advice = f"name the raster inside, such as 'zip://{self._path}!scene.tif'"
        return open_raster(self._path, advice, **self._options)

    def close(self) -> None:
        """Close those that nobody has borrowed."""
        while self._idle:
            self._idle.pop().close()


def bound_block_cache(size: int) -> None:
    """Limit GDAL's cache to ``size`` bytes, unless its user has set a limit."""
    if "GDAL_CACHEMAX" not in os.environ and get_gdal_config("GDAL_CACHEMAX") != size:
        set_gdal_config("GDAL_CACHEMAX", size)
