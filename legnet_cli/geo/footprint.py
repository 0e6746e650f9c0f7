"""Areas of a scene, in its pixels, as areas on a map."""

from __future__ import annotations

import numpy as np
import shapely

from legnet_cli.boxes import Array
from legnet_cli.geo.crs import CRS, near
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.rings import rows_as_y

_BENDS = 16  # pieces of a scene's side, whose ends are brought to the map: there it may be a curve


def area_on_map(area: shapely.Geometry, georef: Georef, crs: CRS | None) -> shapely.Geometry | None:
    """Polygons of a scene's pixel columns and rows in ``crs``, or without one in its own map coordinates.

    What lies beyond the antimeridian in a geographic ``crs`` is moved to its other side. None where nothing is left:
    points without a place on the map are left out.

    Raises:
        GeoError: the scene has no way to ``crs``.
    """
    bent = shapely.segmentize(area, max(georef.width, georef.height) / _BENDS)

    def to_map(pixels: Array) -> Array:
        if crs is None or crs == georef.crs:
            return rows_as_y(pixels) if georef.kind == "none" else georef.to_map(pixels)
        return georef.to_crs(pixels, crs)

    middle = to_map(np.array([[georef.width / 2, georef.height / 2]]))[0, 0]
    polygons = []
    for polygon in shapely.get_parts(bent):
        rings = [to_map(shapely.get_coordinates(ring)) for ring in shapely.get_rings(polygon)]
        if np.isfinite(middle):
            rings = [near(ring, crs, middle) for ring in rings]
        shell, *holes = (ring[np.isfinite(ring).all(1)] for ring in rings)
        if len(shell) > 3:
            polygons.append(shapely.Polygon(shell, [hole for hole in holes if len(hole) > 3]))
    whole = shapely.union_all(shapely.make_valid(np.array(polygons, object)))
    if crs is not None and crs.is_geographic:
        whole = _within_180(whole)
    faces = [part for part in shapely.get_parts(whole) if part.geom_type == "Polygon"]
    return shapely.union_all(faces) if faces else None


def _within_180(area: shapely.Geometry) -> shapely.Geometry:
    """An area in degrees, parts of it moved by whole turns to longitudes from -180 to 180."""
    west, _, east, _ = np.nan_to_num(shapely.bounds(area))
    turns = range(int(np.floor((west + 180) / 360)), int(np.ceil((east + 180) / 360)))
    if turns in (range(0), range(1)):
        return area
    parts = [shapely.intersection(area, shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)) for turn in turns]
    moved = [
        shapely.transform(part, lambda xy, turn=turn: xy - (360 * turn, 0))
        for part, turn in zip(parts, turns, strict=True)
    ]
    return shapely.union_all(moved)
