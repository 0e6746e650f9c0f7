import numpy as np
import pytest
from pyproj import CRS

from legnet_cli.errors import ConfigError, GeoError
from legnet_cli.geo.crs import WGS84, full_turn, near, parse_crs, rejoin, reproject, within_180

MERCATOR = CRS.from_epsg(3857)
WORLD = 40075016.68557849  # metres around the equator


@pytest.mark.parametrize(
    ("crs", "turn"),
    [
        ("EPSG:4326", 360),
        ("EPSG:4807", 400),  # in grads
        ("EPSG:3857", WORLD),
        ("EPSG:3395", WORLD),
        ("EPSG:4087", WORLD),
        ("EPSG:3832", None),  # Mercator that is cut elsewhere
        ("EPSG:32601", None),
        ("EPSG:3413", None),
        ("ESRI:54030", None),  # Robinson: narrower towards the poles
        ('LOCAL_CS["site",UNIT["metre",1]]', None),
        (None, None),
    ],
)
def test_full_turn(crs, turn):
    found = full_turn(None if crs is None else CRS.from_user_input(crs))
    assert found == (None if turn is None else pytest.approx(turn))


@pytest.mark.parametrize(
    ("x", "centre", "expected"),
    [(-170, 190, 190), (190, -170, -170), (10, 350, 370), (550, -170, -170), (-170, 9.9, -170), (180, 0, 180)],
)
def test_near(x, centre, expected):
    assert near(np.array([[x, 5.0]]), WGS84, centre).tolist() == [[expected, 5]]
    turn = WORLD / 360
    found = near(np.array([[x * turn, 5.0]]), MERCATOR, centre * turn)
    np.testing.assert_allclose(found, [[expected * turn, 5]], atol=1e-3)
    assert near(np.array([[x, 5.0]]), CRS.from_epsg(32601), centre).tolist() == [[x, 5]]


def test_within_180():
    lon = np.array([190.0, -190, 180, -180, 540, 0, np.nan, np.inf])
    np.testing.assert_array_equal(within_180(lon), [-170, 170, 180, -180, -180, 0, np.nan, np.nan])


@pytest.mark.parametrize(
    ("lon", "centre", "expected"),
    [
        ([179, -179, -179, 179], 180, [179, 181, 181, 179]),
        ([179, -179, -179, 179], -180, [-181, -179, -179, -181]),
        ([179, -179, -179, 179], 0, [179, 181, 181, 179]),  # far from it, and whole
        ([359, 361, 361, 359], 0, [-1, 1, 1, -1]),
    ],
)
def test_rejoin(lon, centre, expected):
    ring = np.array([lon, [0, 0, 1, 1]], float).T
    here = np.array([[centre, 0.0], [centre + 1, 0], [centre + 1, 1]])
    empty, found, same = rejoin([np.zeros((0, 2)), ring, here], WGS84, centre)
    assert len(empty) == 0
    assert found[:, 0].tolist() == expected
    assert (same == here).all()


def test_no_way():
    mars = CRS.from_wkt(
        'GEOGCRS["Mars",DATUM["Mars",ELLIPSOID["Mars",3396190,169.9]],CS[ellipsoidal,2],AXIS["lat",north],'
        'AXIS["lon",east],UNIT["degree",0.0174532925199433]]'
    )
    with pytest.raises(GeoError, match="cannot convert 'Mars' to"):
        reproject(np.zeros((1, 2)), mars, WGS84)


def test_parse_crs():
    assert parse_crs("EPSG:3857") == MERCATOR
    with pytest.raises(ConfigError, match=r"--crs 'moon' is not a reference system"):
        parse_crs("moon")
