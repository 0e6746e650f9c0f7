"""Labels as polygons of a vector layer: read with their attributes, and brought into an image's pixels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from legnet_cli.boxes import Array
from legnet_cli.errors import DataError, GeoError
from legnet_cli.geo.georef import Georef


@dataclass(frozen=True)
class PolygonTable:
    """Polygons of a layer and their attributes.

    Attributes:
        points: corners (k, 2) of each polygon's outer ring, unclosed; of all parts of a multipolygon; (0, 2) for
            another geometry or none.
        fields: values of each column, None where there is none.
        ids: what the file calls each feature.
        crs: reference system; None for pixels.
    """

    points: list[Array]
    fields: dict[str, list[Any]]
    ids: list[str]
    crs: pyproj.CRS | None

    def __len__(self) -> int:
        return len(self.points)


def read_polygons(path: Path) -> PolygonTable:
    """All features of the only layer of a vector file.

    A file without a reference system, or with an engineering one, is taken to be in pixels.

    Raises:
        DataError: it cannot be read, or has several layers.
    """
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) != 1:
            raise DataError(f"{path}: has {len(layers)} layers of geometries ({', '.join(layers)}): keep one")
        meta, ids, wkb, columns = pyogrio.raw.read(path, layer=layers[0], force_2d=True, return_fids=True)
        geometries = shapely.from_wkb(wkb)
        crs = None if meta["crs"] is None else pyproj.CRS.from_user_input(meta["crs"]).to_2d()
    except (RuntimeError, ValueError, shapely.errors.GEOSException, pyproj.exceptions.CRSError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}): check the file") from error
    fields = {str(name): _plain(values) for name, values in zip(meta["fields"], columns, strict=True)}
    in_pixels = crs is None or crs.type_name == "Engineering CRS"
    return PolygonTable([_corners(g) for g in geometries], fields, [str(i) for i in ids], None if in_pixels else crs)


def _plain(values: NDArray[Any]) -> list[Any]:
    """A column as plain values; what is missing becomes None."""
    return [None if value is None or value != value else value for value in values.tolist()]


def _corners(geometry: shapely.Geometry | None) -> Array:
    if geometry is None or geometry.geom_type not in ("Polygon", "MultiPolygon") or geometry.is_empty:
        return np.zeros((0, 2))
    rings = shapely.get_exterior_ring(shapely.get_parts(geometry))
    return np.concatenate([shapely.get_coordinates(ring)[:-1] for ring in rings])


def read_georef(path: Path) -> Georef:
    """Where the pixels of the image at ``path`` lie; nothing else of it is read.

    Raises:
        DataError: it is no raster.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as ds:
                return Georef.from_dataset(ds)
    except RasterioError as error:
        raise DataError(f"{path}: cannot be read as an image ({str(error).splitlines()[0]}): replace it") from error


def to_pixels(points: Array, crs: pyproj.CRS | None, georef: Georef) -> Array:
    """Pixels (n, 2) of ``georef`` for map points (n, 2) in ``crs``; NaN for those without a place in the image.

    Raises:
        GeoError: there is no way from ``crs`` to the image's reference system.
    """
    if crs is None or georef.crs is None:
        return points
    try:
        transformer = _transformer(crs.to_wkt(), georef.crs.to_wkt())
        x, y = transformer.transform(points[:, 0], points[:, 1])
    except pyproj.exceptions.ProjError as error:
        raise GeoError(f"no way from {crs.name!r} to {georef.crs.name!r}: reproject the labels first") from error
    xy = np.stack([x, y], 1)
    pixels = np.full(xy.shape, np.nan)
    finite = np.isfinite(xy).all(1)
    pixels[finite] = georef.to_pixel(xy[finite])
    return pixels


@lru_cache(maxsize=16)
def _transformer(source: str, target: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(pyproj.CRS.from_wkt(source), pyproj.CRS.from_wkt(target), always_xy=True)
