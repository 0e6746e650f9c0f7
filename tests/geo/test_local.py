import numpy as np
import pytest
import shapely

from legnet_cli.errors import GeoError
from legnet_cli.geo.crs import CRS, WGS84, reproject
from legnet_cli.geo.local import LocalPlane

SQUARE = np.array([(0, 0), (300, 0), (300, 400), (0, 400)], float)
PLACES = {
    "UTM": ("EPSG:32631", (500_000, 5_000_000), 0.9996),
    "web mercator": ("EPSG:3857", (0, 8_399_738), 2.0),  # 60 degrees north
    "over the antimeridian": ("EPSG:32701", (180_000, 8_000_000), 1.0009),
    "at the pole": ("EPSG:3995", (-150, -200), 0.9728),
    "Mars": ("IAU_2015:49910", (10_000, 10_000), 1.0),
}


@pytest.mark.parametrize(("name", "origin", "scale"), PLACES.values(), ids=PLACES)
def test_lengths_and_angles_are_those_of_the_ground(name, origin, scale):
    crs = CRS.from_user_input(name)
    points = SQUARE + origin
    plane = LocalPlane.around([(points, crs)])
    flat = plane.to_plane(points, crs)
    sides = np.roll(flat, -1, 0) - flat
    np.testing.assert_allclose(np.hypot(*sides.T), np.array([300, 400, 300, 400]) / scale, rtol=3e-3)
    np.testing.assert_allclose(np.abs(np.sum(sides * np.roll(sides, -1, 0), 1)), 0, atol=300)  # upright
    length, _ = plane.way(flat, np.roll(flat, -1, 0))
    np.testing.assert_allclose(length, np.hypot(*sides.T), rtol=5e-3)
    np.testing.assert_allclose(plane.from_plane(flat, crs), points, atol=1e-4)


def test_the_scale_grows_away_from_the_middle():
    plane = LocalPlane.around([(np.array([[3.0, 50.0]]), WGS84)])
    lonlat = np.array([[3.0, 50.0], [3.0, 59.0]])  # 1,000 km north
    flat = plane.to_plane(lonlat, WGS84)
    near = plane.to_plane(lonlat + (0, 1e-4), WGS84)
    length, bearing = plane.way(flat, near)
    np.testing.assert_allclose(np.hypot(*(near - flat).T) / length, plane.scale(flat), rtol=1e-4)
    np.testing.assert_allclose(plane.scale(flat), [1, 1.0062], atol=2e-4)
    np.testing.assert_allclose((bearing + 180) % 360 - 180, 0, atol=1e-6)


def test_pixels_stay_pixels():
    plane = LocalPlane.around([(SQUARE, None)])
    np.testing.assert_array_equal(plane.to_plane(SQUARE, None), SQUARE)
    length, bearing = plane.way(SQUARE[:1], SQUARE[:1] + (3, -4))
    np.testing.assert_allclose([length[0], bearing[0]], [5, np.degrees(np.arctan2(3, 4))])
    assert plane.scale(SQUARE).tolist() == [1] * 4


def test_areas_bend_with_the_map():
    plane = LocalPlane.around([(np.array([[10.0, 60.0]]), WGS84)])
    area = plane.area(shapely.box(0, 55, 20, 65), WGS84)
    along = np.stack([np.linspace(0, 20, 50), np.full(50, 55)], 1)
    inside = shapely.distance(area.exterior, shapely.points(plane.to_plane(along, WGS84)))
    assert inside.max() < 200  # metres, of 1,200 km
    assert shapely.contains_xy(area, 0, 0)


def test_what_has_no_place_is_refused():
    with pytest.raises(GeoError, match="no object has a place"):
        LocalPlane.around([(np.array([[np.nan, np.nan]]), CRS.from_epsg(32631))])
    assert np.isfinite(reproject(SQUARE, CRS.from_epsg(3857), WGS84)).all()
