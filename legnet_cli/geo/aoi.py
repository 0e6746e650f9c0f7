"""Areas of interest: polygons of any vector file, brought into a scene's pixels."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import affinity

from legnet_cli.boxes import Array
from legnet_cli.errors import DataError, GeoError, reading
from legnet_cli.files import PathLike
from legnet_cli.geo.crs import CRS, full_turn, near, reproject
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.ogr import vector_file
from legnet_cli.geo.rings import rows_down
from legnet_cli.tiles import Tile

Bounds = tuple[float, float, float, float]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Aoi:
    """One area of interest.

    Attributes:
        geometry: Polygon or MultiPolygon in (x, y) or (longitude, latitude) of ``crs``.
        crs: reference system; an engineering one for pixels, None if the file names none.
        path: the file it comes from.
    """

    geometry: shapely.Geometry
    crs: CRS | None
    path: Path

    @property
    def in_pixels(self) -> bool:
        """Whether the file says that its coordinates are a scene's pixels."""
        return self.crs is not None and self.crs.type_name == "Engineering CRS"


def read_aoi(path: PathLike) -> Aoi:
    """The union of all polygons in the first layer of a vector file that has any; GeoJSON counts as WGS 84.

    Raises:
        DataError: the file is missing or cannot be read.
        GeoError: it has no polygons.
    """
    if not os.path.exists(path):  # False for a name that is too long, too
        raise DataError(f"{path}: no such file: check the name given to --aoi")
    import pyogrio

    with vector_file(path) as source, reading(path, "give --aoi GeoJSON or GeoPackage", "not a readable vector file"):
        layers = [str(name) for name, kind in pyogrio.list_layers(source) if kind is not None]
        found = {name: layer for name in layers if (layer := _read_polygons(source, name)) is not None}
    if not found:
        raise GeoError(f"{path}: has no polygons: draw the area of interest as polygons")
    (first, (geometry, crs)), *others = found.items()
    if others:
        logger.warning("%s: taking layer %r, not %s", path, first, ", ".join(repr(name) for name, _ in others))
    return Aoi(geometry, crs, Path(path))


def _read_polygons(path: str, layer: str) -> tuple[shapely.Geometry, CRS | None] | None:
    import pyogrio.raw

    meta, _, wkb, _ = pyogrio.raw.read(path, layer=layer, columns=[], force_2d=True)
    geometry = _polygonal(shapely.from_wkb(wkb))
    if geometry.is_empty:
        return None
    return geometry, None if meta["crs"] is None else CRS.from_user_input(meta["crs"]).to_2d()


def _polygonal(geometries: shapely.Geometry | NDArray[np.object_]) -> shapely.Geometry:
    """The valid union of all polygons among and within ``geometries``."""
    parts = shapely.get_parts(shapely.make_valid(geometries))
    while (shapely.get_type_id(parts) > shapely.GeometryType.POLYGON).any():  # multi-part or collection
        parts = shapely.get_parts(parts)
    return shapely.union_all(parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON])


def aoi_in_pixels(aoi: Aoi, georef: Georef) -> shapely.Geometry:
    """The part of ``aoi`` within a scene, as Polygon or MultiPolygon in the scene's pixel columns and rows.

    Edges are straight in the area's own reference system, so they may be curves in the scene. An area without
    one is in the scene's map coordinates if these have none either (in pixels, for a plain picture, with rows counted
    down or as minus y).

    Raises:
        GeoError: no part of it is in the scene, or the two cannot be brought together.
    """
    shape: shapely.Geometry | NDArray[np.object_] = aoi.geometry
    if aoi.in_pixels or (aoi.crs is None and georef.kind == "none"):
        shape = rows_down(aoi.geometry)
    extent: Bounds = (0.0, 0.0, float(georef.width), float(georef.height))
    if not aoi.in_pixels:
        if aoi.crs is None and georef.crs is not None:
            raise GeoError(f"{aoi.path}: names no reference system: save it with one, such as {georef.crs.name}")
        if aoi.crs is not None and georef.crs is None:
            raise GeoError(f"{aoi.path}: the scene has no reference system: draw it in pixels, in a file without one")
        extent = _extent(georef, aoi.crs)
        shape = _project(_clip(shape, extent, aoi.crs), aoi.crs, georef)
    inside = _polygonal(shapely.intersection(_polygonal(shape), shapely.box(0, 0, georef.width, georef.height)))
    if inside.is_empty:
        where, name = _span(aoi.geometry.bounds), aoi.crs.name if aoi.crs is not None else "no reference system"
        raise GeoError(f"{aoi.path}: covers {where}, outside the scene's {_span(extent)} ({name}): check --aoi")
    return inside


def tiles_touching(geometry: shapely.Geometry, tiles: Sequence[Tile]) -> NDArray[np.bool_]:
    """Which tiles (n,) share some area with ``geometry``, which is in pixels."""
    if not tiles:
        return np.zeros(0, bool)
    row, col, height, width = np.array([(tile.row, tile.col, tile.height, tile.width) for tile in tiles]).T
    boxes = shapely.box(col, row, col + width, row + height)
    shapely.prepare(geometry)
    return np.asarray(shapely.intersects(geometry, boxes) & ~shapely.touches(geometry, boxes))


def centres_inside(geometry: shapely.Geometry, points: Array) -> NDArray[np.bool_]:
    """Which of the points (n, 2) lie inside ``geometry``."""
    shapely.prepare(geometry)
    return np.asarray(shapely.contains_xy(geometry, points[:, 0], points[:, 1]))


def _extent(georef: Georef, crs: CRS | None) -> Bounds:
    """Least and greatest x and y of a scene in ``crs``: (x, y, x, y). Longitudes may pass 180 but do not jump."""
    col, row = np.meshgrid(np.linspace(0, georef.width, 65), np.linspace(0, georef.height, 65))
    pixels = np.stack([col.ravel(), row.ravel()], 1)
    points = georef.to_map(pixels) if crs is None else georef.to_crs(pixels, crs)
    points = points[np.isfinite(points).all(1)]
    if len(points) == 0:
        raise GeoError("the scene has no georeference: leave out --aoi")
    points = near(points, crs, points[len(points) // 2, 0])
    x, y = points.T
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _clip(shape: shapely.Geometry, extent: Bounds, crs: CRS | None) -> shapely.Geometry:
    """What of ``shape`` is on or near the scene: coordinates far from it may have no place in its projection.

    Edges are split so that they can bend.
    """
    # what bulges out between the 65 × 65 points of the extent is less than two of their cells
    margin = max(extent[2] - extent[0], extent[3] - extent[1]) / 32
    x0, y0, x1, y1 = np.add(extent, [-margin, -margin, margin, margin])
    copies, turn = [shape], full_turn(crs)
    if turn is not None:
        # one turn at most, and over the antimeridian only with the scene: some projections end there
        middle, half = (extent[0] + extent[2]) / 2, turn / 2
        x0 = max(x0, middle - half, -half if extent[0] >= -half else -np.inf)
        x1 = min(x1, middle + half, half if extent[2] <= half else np.inf)
        copies = [affinity.translate(shape, turns * turn) for turns in (-2, -1, 0, 1, 2)]
    around = shapely.box(x0, y0, x1, y1)
    return shapely.segmentize(_polygonal(shapely.intersection(copies, around)), margin / 8)


def _project(shape: shapely.Geometry, crs: CRS | None, georef: Georef) -> NDArray[np.object_]:
    """The polygons of ``shape`` from ``crs`` to the scene's pixels, without the points that have no place there."""
    centre = georef.to_map([[georef.width / 2, georef.height / 2]])[0, 0]

    def to_pixel(ring: shapely.Geometry) -> Array:
        points: Array = shapely.get_coordinates(ring)
        if crs is not None and georef.crs is not None:
            points = reproject(points, crs, georef.crs)
        points = georef.to_pixel(near(points, georef.crs, centre))
        return points[np.isfinite(points).all(1)]

    polygons = []
    for polygon in shapely.get_parts(shape):
        shell, *holes = (to_pixel(ring) for ring in shapely.get_rings(polygon))
        if len(shell) > 2:
            polygons.append(shapely.Polygon(shell, [hole for hole in holes if len(hole) > 2]))
    return np.array(polygons, object)


def _span(bounds: Bounds) -> str:
    x0, y0, x1, y1 = bounds
    return f"x {x0:.7g} to {x1:.7g}, y {y0:.7g} to {y1:.7g}"
