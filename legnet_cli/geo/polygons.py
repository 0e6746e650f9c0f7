"""Labels as polygons of a vector layer: read with their attributes, and brought into an image's pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.raw
import shapely
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.errors import DataError, GeoError, reading
from legnet_cli.geo.crs import CRS, full_turn, rejoin, reproject
from legnet_cli.geo.geopackage import read_provenance
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.ogr import vector_file
from legnet_cli.geo.rings import counts_up

VECTORS = (".geojson", ".json", ".gpkg", ".fgb", ".shp")
_CUT = 1e-10  # of a turn around the globe (4 mm): how far a point on the antimeridian may lie off a straight side


@dataclass(frozen=True)
class PolygonTable:
    """Polygons of a layer and their attributes.

    Attributes:
        points: corners (k, 2) of each polygon's outer ring, unclosed; (0, 2) for another geometry or none.
            Each part of a multipolygon is a polygon, but for those that the antimeridian has cut apart.
        fields: values of each column, None where there is none.
        ids: what the file calls the feature of each polygon.
        crs: reference system; None for pixels.
        turned: whether rows were counted up, in a file without reference system, and now are down.
    """

    points: list[Array]
    fields: dict[str, list[Any]]
    ids: list[str]
    crs: CRS | None
    turned: bool = False

    def __len__(self) -> int:
        return len(self.points)

    def in_system(self, crs: CRS) -> PolygonTable:
        """What seemed to be in pixels, in ``crs``."""
        return replace(self, points=[p * (1, -1) if self.turned else p for p in self.points], crs=crs, turned=False)


def read_polygons(path: Path, layer: str | None = None) -> PolygonTable:
    """All features of a layer, or of the only one of a vector file; of what ``predict`` wrote, of the objects' layer.

    A file without a reference system, or with an engineering one, is taken to be in pixels, with rows counted down
    or, as QGIS shows a picture and ``predict`` writes boxes on one, up from minus the number of rows.

    Raises:
        DataError: it cannot be read, or has several layers.
    """
    layer = layer or objects_layer(path)
    with vector_file(path, *VECTORS) as source, reading(path, "check the file"):
        meta, ids, wkb, columns = pyogrio.raw.read(source, layer=layer, force_2d=True, return_fids=True)
        geometries = shapely.from_wkb(wkb)
        crs = None if meta["crs"] is None else CRS.from_user_input(meta["crs"]).to_2d()
    if crs is not None and crs.type_name == "Engineering CRS":
        crs = None
    turned = crs is None and counts_up(geometries)
    if turned:
        geometries = shapely.transform(geometries, lambda xy: xy * (1, -1))
    parts = [outer_rings(geometry, crs) for geometry in geometries]
    rows = [row for row, polygons in enumerate(parts) for _ in polygons]
    plain = [_plain(values, str(kind)) for values, kind in zip(columns, meta["dtypes"], strict=True)]
    fields = {str(name): [values[row] for row in rows] for name, values in zip(meta["fields"], plain, strict=True)}
    return PolygonTable(
        [p for polygons in parts for p in polygons], fields, [str(ids[row]) for row in rows], crs, turned
    )


def objects_layer(path: Path) -> str:
    """Name of the only layer of a vector file; of what ``legnet predict`` wrote, of the objects' layer.

    Raises:
        DataError: it cannot be read, or has several layers.
    """
    with vector_file(path, *VECTORS) as source, reading(path, "check the file"):
        layers = [str(name) for name, kind in pyogrio.list_layers(source) if kind is not None]
    if len(layers) > 1 and read_provenance(path) is not None:
        layers = layers[:1]  # the others are about it
    if len(layers) != 1:
        raise DataError(f"{path}: has {len(layers)} layers of geometries ({', '.join(layers)}): keep one")
    return layers[0]


def _plain(values: NDArray[Any], kind: str) -> list[Any]:
    """A column of type ``kind`` as plain values; what is missing becomes None."""
    found = [None if value is None or value != value else value for value in values.tolist()]
    if values.dtype.kind == "f" and not kind.startswith("float"):  # whole numbers, some of which are missing
        whole = bool if kind == "bool" else int
        return [None if value is None else whole(value) for value in found]
    return found


def outer_rings(geometry: shapely.Geometry | None, crs: CRS | None) -> list[Array]:
    """Outer rings (k, 2), unclosed, of the polygons of ``geometry``; (0, 2) for another geometry or none."""
    if geometry is None or geometry.geom_type not in ("Polygon", "MultiPolygon") or geometry.is_empty:
        return [np.zeros((0, 2))]
    rings = [shapely.get_coordinates(ring)[:-1] for ring in shapely.get_exterior_ring(shapely.get_parts(geometry))]
    return rings if len(rings) == 1 else _whole(rings, crs)


def _whole(rings: list[Array], crs: CRS | None) -> list[Array]:
    """The polygons of several ``rings``, those put together that the antimeridian has cut."""
    turn, points = full_turn(crs), np.concatenate(rings)
    if turn is None or not (np.abs(np.abs(points[:, 0]) - turn / 2) < turn * _CUT).any():
        return rings
    near = [shapely.Polygon(ring) for ring in rejoin(rings, crs, rings[0][0, 0])]
    parts = shapely.get_parts(shapely.union_all(shapely.make_valid(near)))
    if len(parts) >= len(rings):
        return rings
    # the points on the cut lie on sides of the whole polygon
    plain = shapely.simplify(parts, turn * _CUT)
    return [shapely.get_coordinates(ring)[:-1] for ring in shapely.get_exterior_ring(plain)]


def to_pixels(polygons: list[Array], crs: CRS | None, georef: Georef) -> list[Array]:
    """Pixels (k, 2) of ``georef`` for each of ``polygons`` (k, 2) in ``crs``; NaN for those without a place there.

    Longitudes may be from -180 to 180, from 0 to 360, or go on from there, in either system.

    Raises:
        GeoError: there is no way from ``crs`` to the image's reference system.
    """
    if crs is None or georef.crs is None or not polygons:
        return polygons
    ends = np.cumsum([0, *map(len, polygons)])[1:-1]
    try:
        xy = reproject(np.concatenate([np.zeros((0, 2)), *polygons]), crs, georef.crs)
    except GeoError as error:
        raise GeoError(f"{error}: reproject the labels first") from error
    centre = georef.to_map([[georef.width / 2, georef.height / 2]])[0, 0]
    xy = np.concatenate([np.zeros((0, 2)), *rejoin(np.split(xy, ends), georef.crs, centre)])
    pixels = np.full(xy.shape, np.nan)
    finite = np.isfinite(xy).all(1)
    pixels[finite] = georef.to_pixel(xy[finite])
    return np.split(pixels, ends)
