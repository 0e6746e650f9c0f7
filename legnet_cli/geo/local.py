"""A plane of metres around some ground, in which objects of layers in any reference system are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from pyproj import Geod

from legnet_cli.boxes import Array
from legnet_cli.errors import GeoError
from legnet_cli.geo.crs import CRS, reproject
from legnet_cli.geo.footprint import area_on_map
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.polygons import to_pixels

_BENDS = 64  # pieces of the longer side of areas, whose ends are brought to the plane: there it may be a curve

_METHOD = {"name": "Oblique Stereographic", "id": {"authority": "EPSG", "code": 9809}}
_AXES = [
    {"name": "Easting", "abbreviation": "E", "direction": "east", "unit": "metre"},
    {"name": "Northing", "abbreviation": "N", "direction": "north", "unit": "metre"},
]


@dataclass(frozen=True)
class LocalPlane:
    """Metres east and south of the middle of some ground; without ``crs`` pixels, columns and rows.

    The projection is stereographic: it has no edge but the far side of the globe, rectangles stay rectangles, and its
    scale grows away from the middle, by 0.6 % at 1,000 km (:meth:`scale`).

    Attributes:
        crs: the plane's own reference system, y north; None for pixels.
    """

    crs: CRS | None

    @classmethod
    def around(cls, parts: Sequence[tuple[Array, CRS | None]]) -> LocalPlane:
        """The plane around the middle of points (n, 2), each with their system; it has the ellipsoid of the first.

        Raises:
            GeoError: a system has no longitudes and latitudes, or no point has a place on the map.
        """
        first = parts[0][1]
        if first is None:
            return cls(None)
        base = first.geodetic_crs
        if base is None:
            raise GeoError(f"{first.name} does not map the ground: give layers in another reference system")
        found = [reproject(points, crs, base) for points, crs in parts if crs is not None]
        lonlat = np.radians(np.concatenate(found) * _degrees(base))
        lon, lat = lonlat[np.isfinite(lonlat).all(1)].T
        if not len(lon):
            raise GeoError(f"no object has a place on the map in {first.name}: check the layer's reference system")
        x, y, z = (np.cos(lat) * np.cos(lon)).mean(), (np.cos(lat) * np.sin(lon)).mean(), np.sin(lat).mean()
        return cls(_stereographic(base, np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))))

    def to_plane(self, points: Array, crs: CRS | None) -> Array:
        """x, y down (n, 2) of points (n, 2) in ``crs``; pixels stay. NaN for a point without a place.

        Raises:
            GeoError: there is no way from ``crs``.
        """
        if self.crs is None or crs is None:
            return points
        return reproject(points, crs, self.crs) * (1, -1)

    def from_plane(self, points: Array, crs: CRS | None) -> Array:
        """The inverse of :meth:`to_plane`."""
        return points if self.crs is None or crs is None else reproject(points * (1, -1), self.crs, crs)

    def to_scene(self, corners: Array, georef: Georef) -> Array:
        """Pixels (n, k, 2) of a scene of corners (n, k, 2) in the plane; NaN for those without a place there."""
        if self.crs is None:
            return corners
        return np.array(to_pixels([*corners * (1, -1)], self.crs, georef)).reshape(corners.shape)

    def area(self, area: shapely.Geometry, crs: CRS | None) -> shapely.Geometry:
        """Polygons in ``crs``, whose sides are straight there, in the plane."""
        if self.crs is None or crs is None or shapely.is_empty(area):
            return area
        west, south, east, north = shapely.bounds(area)
        bent = shapely.segmentize(area, max(east - west, north - south) / _BENDS)
        polygons = []
        for polygon in shapely.get_parts(bent):
            rings = [self.to_plane(shapely.get_coordinates(ring), crs) for ring in shapely.get_rings(polygon)]
            shell, *holes = (ring[np.isfinite(ring).all(1)] for ring in rings)
            if len(shell) > 3:
                polygons.append(shapely.Polygon(shell, [hole for hole in holes if len(hole) > 3]))
        return shapely.union_all(shapely.make_valid(np.array(polygons, object)))

    def footprint(self, georef: Georef) -> shapely.Geometry:
        """The area of a whole scene in the plane."""
        whole = shapely.box(0, 0, georef.width, georef.height)
        if self.crs is None or georef.crs is None:
            return whole
        area = area_on_map(whole, georef, self.crs)
        return shapely.Polygon() if area is None else shapely.transform(area, lambda xy: xy * (1, -1))

    def scale(self, points: Array) -> Array:
        """Metres of the plane per metre on the ground (n,) at points (n, 2); 1 for pixels."""
        if self.crs is None or self.crs.ellipsoid is None:
            return np.ones(len(points))
        radius = 2 * self.crs.ellipsoid.semi_major_metre
        stretched: Array = 1 + ((points / radius) ** 2).sum(1)
        return stretched

    def way(self, start: Array, end: Array) -> tuple[Array, Array]:
        """Length and bearing (n,) from points to points (n, 2): metres and degrees clockwise from true north.

        Of pixels: pixels, and degrees clockwise from up.
        """
        if self.crs is None or not len(start):
            east, south = (end - start).T
            return np.hypot(east, south), np.degrees(np.arctan2(east, -south)) % 360
        base = self.crs.geodetic_crs
        assert base is not None
        degrees = _degrees(base)
        first, second = (reproject(points * (1, -1), self.crs, base) * degrees for points in (start, end))
        geod = base.get_geod() or Geod(ellps="WGS84")
        azimuth, _, length = geod.inv(*first.T, *second.T)
        return np.asarray(length), np.asarray(azimuth) % 360


def _degrees(base: CRS) -> float:
    """Degrees per unit of longitude."""
    unit = base.axis_info[0]
    return 1.0 if unit.unit_name == "degree" else float(np.degrees(unit.unit_conversion_factor))


def _stereographic(base: CRS, lon: float, lat: float) -> CRS:
    def parameter(name: str, value: float, unit: str) -> dict[str, object]:
        return {"name": name, "value": float(value), "unit": unit}

    parameters = [
        parameter("Latitude of natural origin", lat, "degree"),
        parameter("Longitude of natural origin", lon, "degree"),
        parameter("Scale factor at natural origin", 1, "unity"),
        parameter("False easting", 0, "metre"),
        parameter("False northing", 0, "metre"),
    ]
    return CRS.from_json_dict(
        {
            "type": "ProjectedCRS",
            "name": "around the ground compared",
            "base_crs": base.to_2d().to_json_dict(),
            "conversion": {"name": "local", "method": _METHOD, "parameters": parameters},
            "coordinate_system": {"subtype": "Cartesian", "axis": _AXES},
        }
    )
