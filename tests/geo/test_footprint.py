import numpy as np
import pyproj
import pytest
import shapely
from rasterio import Affine

from legnet_cli.geo.crs import WGS84
from legnet_cli.geo.footprint import area_on_map
from legnet_cli.geo.georef import Georef

UTM = pyproj.CRS.from_epsg(32631)
WHOLE = shapely.box(0, 0, 100, 50)


def scene(crs, left, top, pixel=1.0, kind="affine"):
    transform = None if kind == "none" else Affine(pixel, 0, left, 0, -pixel, top)
    return Georef(kind, 100, 50, crs=crs, transform=transform)


@pytest.mark.parametrize(
    ("georef", "crs", "expected"),
    [
        (scene(UTM, 500, 900), UTM, shapely.box(500, 850, 600, 900)),
        (scene(None, 500, 900), None, shapely.box(500, 850, 600, 900)),
        (scene(None, 0, 0, kind="none"), None, shapely.box(0, -50, 100, 0)),
        (scene(WGS84, 10, 50, 0.1), WGS84, shapely.box(10, 45, 20, 50)),
        (
            scene(WGS84, 175, 50, 0.1),
            WGS84,
            shapely.union(shapely.box(175, 45, 180, 50), shapely.box(-180, 45, -175, 50)),
        ),
        (scene(WGS84, 355, 50, 0.1), WGS84, shapely.box(-5, 45, 5, 50)),
        (scene(WGS84, -180, 90, 3.6), WGS84, shapely.box(-180, -90, 180, 90)),
    ],
)
def test_whole_scenes(georef, crs, expected):
    found = area_on_map(WHOLE, georef, crs)
    assert found.is_valid
    assert found.symmetric_difference(expected).area < 1e-9 * expected.area


def test_holes_and_parts_stay():
    area = shapely.union(WHOLE.difference(shapely.box(10, 10, 20, 20)), shapely.box(200, 0, 210, 10))
    assert area_on_map(area, scene(UTM, 500, 900), UTM).area == pytest.approx(area.area)


def test_sides_are_curves_in_another_system():
    far = area_on_map(shapely.box(0, 0, 100, 50), scene(WGS84, -10, 60, 0.2), pyproj.CRS.from_epsg(3035))
    straight = shapely.Polygon(
        np.stack(
            pyproj.Transformer.from_crs(WGS84, 3035, always_xy=True).transform([-10, 10, 10, -10], [60, 60, 50, 50]), 1
        )
    )
    assert far.area > 1.01 * straight.area


def test_what_has_no_place_is_left_out():
    orthographic = pyproj.CRS.from_proj4("+proj=ortho +lat_0=0 +lon_0=0 +type=crs")
    assert area_on_map(WHOLE, scene(orthographic, 7e6, 7e6), WGS84) is None
    half = area_on_map(WHOLE, scene(orthographic, -1e7, 1e6, 1e5), WGS84)
    assert half.is_valid
    assert 0 < half.area < 180 * 180
