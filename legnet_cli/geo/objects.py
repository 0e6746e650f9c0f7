"""Objects of a vector layer, many at once: their outlines, and some of their attributes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import shapely
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.errors import DataError, reading
from legnet_cli.geo import geoparquet
from legnet_cli.geo.crs import CRS
from legnet_cli.geo.features import SEARCHED
from legnet_cli.geo.ogr import vector_file
from legnet_cli.geo.polygons import objects_layer, outer_rings
from legnet_cli.geo.rings import rows_down
from legnet_cli.geo.vector import Areas, check_format

_QUAD = struct.pack("<BIII", 1, 3, 1, 5)  # how the WKB of a polygon of one ring of five points begins, little-endian


@dataclass(frozen=True)
class ObjectTable:
    """Outlines of a layer's objects, and attributes.

    Attributes:
        points: (m, 2) corners of all outlines, unclosed, in ``crs``; of pixels, columns and rows down.
        sizes: (n,) how many of them each object has; 0 for a feature that is not a polygon.
        fields: name in lower case -> (n,) values.
        crs: reference system; None for pixels.
    """

    points: Array
    sizes: NDArray[np.int64]
    fields: dict[str, NDArray[Any]]
    crs: CRS | None


def read_objects(path: Path, fields: Sequence[str]) -> ObjectTable:
    """Objects of the only layer of a vector file; of what ``legnet predict`` wrote, of the objects' layer.

    Each part of a multipolygon is an object, but for those that the antimeridian has cut apart; heights are dropped.

    Args:
        path: of the file.
        fields: names of attributes to read, in lower case; those that are not there are left out.

    Raises:
        DataError: it cannot be read, or has several layers.
        DependencyError: for ``.parquet`` without pyarrow.
    """
    check_format(path)
    if path.suffix.lower() == ".parquet":
        with reading(path, "check the file"):
            wkb, columns, crs = geoparquet.read(path, fields)
    else:
        wkb, columns, crs = _read(path, objects_layer(path), fields)
    crs = as_horizontal(crs)
    with reading(path, "check the file"):
        points, sizes, rows = _outlines(wkb, crs)
    if crs is None and (points[:, 1] < 0).sum() > (points[:, 1] > 0).sum():
        points = points * (1, -1)
    return ObjectTable(points, sizes, {name.lower(): values[rows] for name, values in columns.items()}, crs)


def as_horizontal(crs: CRS | None) -> CRS | None:
    """A layer's reference system without its height part; None for pixels."""
    return None if crs is None or crs.type_name == "Engineering CRS" else crs.to_2d()


def _read(path: Path, layer: str, fields: Sequence[str]) -> tuple[Any, dict[str, NDArray[Any]], CRS | None]:
    with vector_file(path) as source, reading(path, "check the file"):
        known = [str(name) for name in pyogrio.read_info(source, layer=layer)["fields"]]
        wanted = [name for name in known if name.lower() in fields]
        meta, _, wkb, columns = pyogrio.raw.read(source, layer=layer, columns=wanted)
        crs = None if meta["crs"] is None else CRS.from_user_input(meta["crs"])
    return wkb, dict(zip(map(str, meta["fields"]), columns, strict=True)), crs


def _outlines(wkb: NDArray[Any], crs: CRS | None) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Corners of all outlines, their numbers by object, and of which of the geometries each object is."""
    quad = np.array([item is not None and item[:13] == _QUAD for item in wkb.tolist()], np.bool_)
    # all at once: as geometries, a million of them would take ten times as long and as much memory
    coordinates = np.frombuffer(b"".join(wkb[quad]), np.dtype([("head", "V13"), ("points", "<f8", (5, 2))]))
    points, sizes, rows = coordinates["points"][:, :4].reshape(-1, 2), np.full(quad.sum(), 4), np.flatnonzero(quad)
    if quad.all():
        return points, sizes, rows
    odd = np.flatnonzero(~quad)
    geometries = shapely.force_2d(shapely.from_wkb(wkb[odd]))
    more = [
        (row, ring) for row, shape in zip(odd.tolist(), geometries, strict=True) for ring in outer_rings(shape, crs)
    ]
    rows = np.concatenate([rows, [row for row, _ in more]]).astype(np.int64)
    sizes = np.concatenate([sizes, [len(ring) for _, ring in more]]).astype(np.int64)
    return np.concatenate([points, *(ring for _, ring in more)]), sizes, rows


def read_areas(path: Path, *, only_searched: bool = False) -> tuple[Areas, CRS | None] | None:
    """The areas of a vector file: the ground that ``legnet predict`` says it searched, else all its polygons.

    Args:
        path: of the file.
        only_searched: take nothing but the ground searched; None if the file does not have it.

    Raises:
        DataError: it cannot be read, or has no polygons.
    """
    with vector_file(path) as source, reading(path, "give GeoJSON or GeoPackage", "not a readable vector file"):
        layers = [str(name) for name, kind in pyogrio.list_layers(source) if kind is not None]
    searched = [name for name in layers[1:] if name.lower() in (SEARCHED, f"{SEARCHED}_ground")]
    if only_searched and not searched:
        return None
    wkb, columns, crs = _read(path, searched[0] if searched else objects_layer(path), ("scene",))
    with reading(path, "check the file"):
        geometries = shapely.make_valid(shapely.force_2d(shapely.from_wkb(wkb)))
    if not searched and not (shapely.area(geometries) > 0).any():
        raise DataError(f"{path}: has no polygons: draw areas as polygons")
    crs = as_horizontal(crs)
    if crs is None:
        geometries = rows_down(geometries)
    names = columns.get("scene", np.full(len(geometries), ""))
    return Areas(geometries, {"scene": np.array(["" if name is None else str(name) for name in names])}), crs
