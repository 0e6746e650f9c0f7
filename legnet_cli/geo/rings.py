"""Polygons on a map as geometries: rings counterclockwise, and cut where the map ends at the antimeridian."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.geo.crs import CRS

T = TypeVar("T", shapely.Geometry, NDArray[np.object_])


def to_geometries(polygons: Array, crs: CRS | None) -> NDArray[np.object_]:
    """Shapely geometries (n,) of (n, 4, 2) polygons: exterior rings counterclockwise, None where not finite.

    In a geographic ``crs`` a polygon whose longitudes jump across the antimeridian is cut there into a
    MultiPolygon, and one around a pole is led along the edge of the map.
    """
    geometries = np.full(len(polygons), None, object)
    finite = np.asarray(np.isfinite(polygons).all((1, 2)))
    geometries[finite] = _counterclockwise(shapely.polygons(polygons[finite]))
    for row in np.flatnonzero(jumping(polygons, crs)):
        geometries[row] = _cut_at_antimeridian(polygons[row])
    return geometries


def jumping(polygons: Array, crs: CRS | None) -> NDArray[np.bool_]:
    """Which of the (n, 4, 2) polygons jump from one side of the antimeridian to the other."""
    if crs is None or not crs.is_geographic:
        return np.zeros(len(polygons), np.bool_)
    finite = np.asarray(np.isfinite(polygons).all((1, 2)))
    lon = np.where(finite[:, None], polygons[..., 0], 0)
    return np.asarray((np.abs(lon - np.roll(lon, 1, 1)) > 180).any(1))


def rows_as_y(points: Array) -> Array:
    """Pixel columns and rows (n, 2) as x and y of a layer: y is minus the row, as QGIS places a plain picture."""
    return points * (1, -1) + 0.0  # and no -0


def rows_down(geometries: T) -> T:
    """Geometries in pixels with rows counted down, be it a layer that does so, or one as :func:`rows_as_y` makes it."""
    return shapely.transform(geometries, lambda xy: xy * (1, -1)) if counts_up(geometries) else geometries


def counts_up(geometries: shapely.Geometry | NDArray[np.object_]) -> bool:
    """Whether y of most points is minus the row of a picture."""
    y = shapely.get_coordinates(geometries)[:, 1]
    return bool((y < 0).sum() > (y > 0).sum())


def _counterclockwise(polygons: NDArray[np.object_]) -> NDArray[np.object_]:
    forward = shapely.is_ccw(shapely.get_exterior_ring(polygons))
    return np.where(forward, polygons, shapely.reverse(polygons))


def _cut_at_antimeridian(corners: Array) -> shapely.Geometry:
    """One (4, 2) polygon in degrees, within [-180, 180], as a Polygon or a MultiPolygon."""
    lon, lat = np.vstack([corners, corners[:1]]).round(9).T  # so that no slivers arise
    lon = np.unwrap(lon, period=360)
    if abs(lon[-1] - lon[0]) > 180:  # once around the globe: a pole is inside
        pole = np.copysign(90, lat.mean())
        lon, lat = np.append(lon, [lon[-1], lon[0]]), np.append(lat, [pole, pole])
    lon -= 360 * np.floor((lon.min() + 180) / 360)
    whole = shapely.polygons(np.stack([lon.round(9), lat], 1))
    halves = shapely.intersection(whole, [shapely.box(west, -90, west + 360, 90) for west in (-180, 180)])
    halves[1] = shapely.transform(halves[1], lambda xy: xy - [360, 0])
    # around a pole, they meet
    parts = _counterclockwise(shapely.get_parts(shapely.union_all(halves[shapely.area(halves) > 0])))
    return parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
