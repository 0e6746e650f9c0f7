"""Opening rasters: the boundary at which whatever GDAL or rasterio raises becomes a DataError of one line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
from rasterio import Affine
from rasterio._err import CPLE_BaseError
from rasterio._path import _UnparsedPath
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader
from rasterio.session import DummySession

from legnet_cli.errors import DataError, reading, reason
from legnet_cli.geo.drivers import check_overviews, check_raster, check_vrt, drivers_for
from legnet_cli.geo.headers import read_header
from legnet_cli.geo.network import gdal_options

# what reading pixels can raise; headers can raise anything
READ_ERRORS = (rasterio.errors.RasterioError, CPLE_BaseError, OSError)


_LARGE_BLOCK = 1 << 28  # bytes
_MOST_PACKED = 2000  # times that compression makes pixels smaller; deflate reaches 1032


@dataclass(frozen=True)
class RasterHeader:
    """What a raster's header says; sequences have an item for each band.

    Attributes:
        width, height, count: stored columns, rows and bands.
        dtypes: types of the values.
        nodata: values that mean "no data", None for none.
        colours: colour interpretations.
        masks: mask flags.
        blocks: rows and columns of the blocks.
        palette: red, green, blue, alpha by value of a palette raster's first band.
        overviews: their decimation factors.
        transform, crs, gcps, gcp_crs, rpcs: what it says of its place, as rasterio has them.
        subdatasets: names of the rasters inside.
        orientation: EXIF's number for how the stored pixels are turned to be shown, 1 for not at all.
    """

    width: int
    height: int
    count: int
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    colours: tuple[ColorInterp, ...]
    masks: tuple[tuple[MaskFlags, ...], ...]
    blocks: tuple[tuple[int, int], ...]
    palette: dict[int, tuple[int, int, int, int]]
    overviews: tuple[tuple[int, ...], ...]
    transform: Affine
    crs: Any
    gcps: tuple[Any, ...]
    gcp_crs: Any
    rpcs: Any
    subdatasets: tuple[str, ...]
    orientation: int


def open_raster(path: str, advice: str = "check the file", **options: str) -> DatasetReader:
    """Open a raster to read it, inside an environment of rasterio, by a driver that its name allows.

    Raises:
        DataError: GDAL cannot; the message ends with ``advice``.
    """
    # for good: threads share the filters, and Georef says it in its own words
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    check_raster(path)
    try:
        # rasterio.open takes a single driver alone
        ds = DatasetReader(_UnparsedPath(path), driver=drivers_for(path), sharing=False, **options)
    except Exception as error:
        raise DataError(f"{path}: not a raster GDAL can read ({_fault(error, path)}): {advice}") from error
    try:
        _check_references(ds, path)
    except BaseException:
        ds.close()
        raise
    return ds


def _check_references(ds: DatasetReader, path: str) -> None:
    with reading(path, "the header is damaged, replace the file", "has a header that cannot be read"):
        overviews = ds.tags(ns="OVERVIEWS")
        vrt = ds.tags(ns="xml:VRT").get("xml:VRT") if ds.driver == "VRT" and not Path(path).is_file() else None
    check_overviews(path, overviews)
    if vrt is not None:
        check_vrt(path, vrt.encode())


@contextmanager
def opened(path: Path) -> Iterator[tuple[DatasetReader, RasterHeader]]:
    """The raster at ``path`` and its header; whatever goes wrong in the body becomes a DataError that names it."""
    with (
        rasterio.Env(session=DummySession(), **gdal_options(remote=False)),
        open_raster(str(path), "replace the file") as ds,
        reading_pixels(str(path), "it"),
    ):
        yield ds, header_of(ds)


@contextmanager
def reading_pixels(path: str, what: str) -> Iterator[None]:
    """Turn what reading pixels raises in the body into a DataError that says ``what`` of ``path`` cannot be read."""
    try:
        yield
    except READ_ERRORS as error:
        fault = f"{path}: cannot read {what} ({_fault(error, path)})"
        raise DataError(f"{fault}: the file is damaged or cut short, fetch it again") from error


def _fault(error: Exception, path: str) -> str:
    """GDAL's words without the path that precedes them anyway."""
    return reason(error).replace(f"'{path}' ", "")


def header_of(ds: DatasetReader) -> RasterHeader:
    """The header of an open raster.

    Raises:
        DataError: it is damaged.
    """
    with reading(ds.name, "the header is damaged, replace the file", "has a header that cannot be read"):
        _check_blocks(ds)
        colours = tuple(ds.colorinterp)
        gcps, gcp_crs = ds.gcps
        return RasterHeader(
            width=int(ds.width),
            height=int(ds.height),
            count=int(ds.count),
            dtypes=tuple(ds.dtypes),
            nodata=tuple(ds.nodatavals),
            colours=colours,
            masks=tuple(map(tuple, ds.mask_flag_enums)),
            blocks=tuple(ds.block_shapes),
            palette=ds.colormap(1) if colours[:1] == (ColorInterp.palette,) else {},
            overviews=tuple(tuple(map(int, ds.overviews(band))) for band in ds.indexes),
            transform=ds.transform,
            crs=ds.crs,
            gcps=tuple(gcps),
            gcp_crs=gcp_crs,
            rpcs=ds.rpcs,
            subdatasets=tuple(ds.subdatasets),
            orientation=_orientation(ds),
        )


def _check_blocks(ds: DatasetReader) -> None:
    """Refuse a small file with blocks that no compression makes of it: each is decoded as a whole."""
    if ds.count == 0 or not Path(ds.name).is_file():
        return
    height, width = ds.block_shapes[0]
    together = ds.count if ds.interleaving is not None and ds.interleaving.name == "pixel" else 1
    block = height * width * together * np.dtype(ds.dtypes[0].replace("complex_int16", "int32")).itemsize
    if block > max(_LARGE_BLOCK, _MOST_PACKED * Path(ds.name).stat().st_size):
        raise DataError(
            f"{ds.name}: its header says blocks of {height:,} × {width:,} pixels, far more than it has: replace it"
        )


def _orientation(ds: DatasetReader) -> int:
    """From the file itself: GDAL tells it for JPEG alone."""
    if not Path(ds.name).is_file():
        return int(ds.tags().get("EXIF_Orientation", 1))
    try:
        return read_header(Path(ds.name))[1]
    except DataError:  # another format
        return 1
