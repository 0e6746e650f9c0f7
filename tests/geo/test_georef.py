import numpy as np
import pyproj
import pytest
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import AffineTransformer, GCPTransformer, RPCTransformer

from legnet_cli.errors import GeoError
from legnet_cli.geo.crs import WGS84
from legnet_cli.geo.gdal import opened
from legnet_cli.geo.georef import MAX_SPLINE_POINTS, Georef

UTM = pyproj.CRS.from_epsg(32633)
LONLAT = pyproj.CRS.from_epsg(4326)
LOCAL = pyproj.CRS.from_wkt(
    'ENGCRS["site",EDATUM["site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
)
MARS = pyproj.CRS.from_proj4("+proj=eqc +lat_ts=0 +lon_0=0 +R=3396190 +units=m")
GOES = pyproj.CRS.from_proj4("+proj=geos +h=35786023 +lon_0=-75 +sweep=x +datum=WGS84")
FEET = pyproj.CRS.from_epsg(2263)  # New York, US survey feet
PARIS = pyproj.CRS.from_epsg(27572)  # projected, its geographic base in grads from Paris
CUSTOM = pyproj.CRS.from_proj4("+proj=laea +lat_0=47.5 +lon_0=11.25 +ellps=bessel +towgs84=577,90,463,5,1,2,2")

RPCS = RPC(
    height_off=100.0, height_scale=500.0, lat_off=48.0, lat_scale=0.1, line_off=500.0, line_scale=500.0,
    long_off=11.0, long_scale=0.1, samp_off=500.0, samp_scale=500.0,
    line_num_coeff=[0.0, 0.02, -1.0, 0.01] + [0.0] * 16, line_den_coeff=[1.0, 0.001] + [0.0] * 18,
    samp_num_coeff=[0.0, 1.0, 0.02, -0.3] + [0.0] * 16, samp_den_coeff=[1.0, 0.0, 0.001] + [0.0] * 17,
    err_bias=None, err_rand=None,
)  # fmt: skip
POINTS = np.array([[0, 0], [1000, 0], [12.25, 700.5], [400, 999]])


def affine(crs, *coefficients, size=(1000, 1000)):
    return Georef("affine", *size, crs=crs, transform=Affine(*coefficients))


def gcp_grid(steps, bend=0.0, crs_x=500_000.0, step=10.0):
    """Control points on an even grid over 1000 × 1000 pixels, optionally bent."""
    places = np.linspace(0, 1000, steps)
    return tuple(
        GroundControlPoint(row, col, crs_x + step * col + bend * np.sin(row / 200), 5e6 - step * row, 0)
        for row in places
        for col in places
    )


@pytest.mark.parametrize(
    "transform",
    [
        Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000),
        Affine(0.5, 0, 500_000, 0, 0.5, 5_000_000),  # south-up
        Affine(0.3, 0.4, 500_000, 0.4, -0.3, 5_000_000),  # rotated
        Affine(2e-6, 1e-7, 14.9, 1e-7, -2e-6, 50.1),
        Affine(1, 0, 0, 0, -1, 0),
    ],
)
def test_affine_agrees_with_rasterio_and_back(transform):
    georef = Georef("affine", 1000, 1000, crs=UTM, transform=transform)
    found = georef.to_map(POINTS)
    with AffineTransformer(transform) as model:
        expected = np.stack(model.xy(POINTS[:, 1], POINTS[:, 0], offset="ul"), 1)
    assert np.abs(found - expected).max() <= 1e-9
    assert np.abs(georef.to_pixel(found) - POINTS).max() < 1e-6


def test_gcps_are_honoured_and_inverted():
    three = Georef("gcps", 1000, 1000, crs=UTM, gcps=gcp_grid(2)[:3])
    with GCPTransformer(list(three.gcps)) as model:
        x, y = model.xy(POINTS[:, 1], POINTS[:, 0], offset="ul")
    assert np.abs(three.to_map(POINTS) - np.stack([x, y], 1)).max() < 1e-6
    bent = Georef("gcps", 1000, 1000, crs=UTM, gcps=gcp_grid(9, bend=300))
    pixels = np.array([(p.col, p.row) for p in bent.gcps])
    assert np.abs(bent.to_map(pixels) - [(p.x, p.y) for p in bent.gcps]).max() < 1e-6
    assert np.abs(bent.to_pixel(bent.to_map(POINTS)) - POINTS).max() < 1e-3


def test_rpcs_take_the_mean_height_and_are_inverted():
    georef = Georef("rpc", 1000, 1000, crs=WGS84, rpcs=RPCS)
    found = georef.to_map(POINTS)
    with RPCTransformer(RPCS, RPC_PIXEL_ERROR_THRESHOLD=1e-4) as model:
        rows, cols = model.rowcol(*found.T, zs=np.full(len(found), 100.0), op=np.positive)
    assert np.abs(np.stack([cols, rows], 1) - POINTS).max() < 0.01
    assert np.abs(georef.to_pixel(found) - POINTS).max() < 1e-3
    assert georef.has_lonlat
    assert np.abs(found - [11, 48]).max() < 0.2


def test_without_georeference_the_map_is_pixels():
    georef = Georef("none", 10, 10)
    assert (georef.to_map(POINTS) == POINTS).all()
    assert (georef.to_pixel(POINTS) == POINTS).all()
    assert georef.gsd is None
    assert not georef.has_lonlat


@pytest.mark.parametrize(
    ("crs", "words"),
    [(None, "no coordinate system"), (LOCAL, "site"), (MARS, "keep the scene's own")],
)
def test_longitude_needs_a_system_of_the_earth(crs, words):
    georef = affine(crs, 1, 0, 0, 0, -1, 0)
    assert not georef.has_lonlat
    with pytest.raises(GeoError, match=words) as caught:
        georef.to_lonlat(POINTS)
    assert "\n" not in str(caught.value)
    assert len(georef.to_map(POINTS)) == 4


@pytest.mark.parametrize(
    ("georef", "expected"),
    [
        (affine(UTM, 1, 0, 500_000, 0, -1, 0), [15, 0]),
        (
            affine(pyproj.CRS.from_epsg(4326), 1e-4, 0, 11, 0, -1e-4, 48),
            [11, 48],
        ),  # x is longitude
        (affine(LONLAT, 1e-4, 0, 181.5, 0, -1e-4, 48), [-178.5, 48]),
        (affine(LONLAT, 1e-4, 0, -180, 0, -1e-4, 48), [-180, 48]),
        (affine(LONLAT, 1e-4, 0, 180, 0, -1e-4, 48), [180, 48]),
        (affine(FEET, 1, 0, 984250, 0, -1, 0), [-74, 40 + 1 / 6]),
        (affine(GOES, 1000, 0, 0, 0, -1000, 0), [-75, 0]),
        (affine(GOES, 1000, 0, 5.4e6, 0, -1000, 5.4e6), [np.nan, np.nan]),  # beside the Earth
        (affine(LONLAT, 1e-4, 0, 11, 0, -1e-4, 95), [np.nan, np.nan]),
    ],
)
def test_longitude_and_latitude(georef, expected):
    assert georef.has_lonlat
    np.testing.assert_allclose(georef.to_lonlat([[0, 0]]), [expected], atol=1e-6)


def test_to_other_systems():
    georef = affine(LONLAT, 1e-4, 0, 15, 0, -1e-4, 0)
    np.testing.assert_allclose(georef.to_crs([[0, 0]], UTM), [[500_000, 0]], atol=1e-6)


def geodesic_rectangle(georef, geod, lon, lat, azimuth, length, width):
    """Corners in pixels of a rectangle laid out on the ellipsoid around a place."""
    corners = []
    for along, across in [(-1, -1), (1, -1), (1, 1), (-1, 1)]:
        turn = np.degrees(np.arctan2(across * width, along * length))
        place = geod.fwd(lon, lat, azimuth + turn, np.hypot(length, width) / 2)[:2]
        xy = pyproj.Transformer.from_crs(georef.crs.geodetic_crs, georef.crs, always_xy=True).transform(*place)
        corners.append(georef.to_pixel([xy])[0])
    return corners


@pytest.mark.parametrize(
    ("georef", "place"),
    [
        (affine(UTM, 0.5, 0, 700_000, 0, -0.5, 6_000_000), (18.05, 54.1)),
        (affine(UTM, 0.3, 0.4, 700_000, 0.4, -0.3, 6_000_000), (18.05, 54.1)),
        (affine(LONLAT, 1e-5, 0, 11, 0, -2e-5, 70), (11.005, 69.99)),
        (affine(LONLAT, 1e-5, 0, 179.995, 0, -1e-5, 10), (180.0, 9.995)),
        (affine(pyproj.CRS.from_epsg(3857), 1, 0, 0, 0, -1, 8_000_000), (0.004, 58.2)),  # stretched twofold there
        (affine(FEET, 1, 0, 984250, 0, -1, 200_000), (-73.999, 40.71)),
        (affine(CUSTOM, 1, 0, 0, 0, -1, 0), (11.255, 47.496)),
        (affine(MARS, 1, 0, 10_000, 0, -1, 2_000_000), (0.175, 33.73)),
        (affine(pyproj.CRS.from_epsg(3031), 10, 0, 0, 0, -10, 1_000_000), (0.2, -81)),
    ],
)
@pytest.mark.parametrize("azimuth", [0.0, 30.0, 90.0, 135.0, 179.0])
def test_measures_are_true_on_the_ellipsoid(georef, place, azimuth):
    geod = georef.crs.geodetic_crs.get_geod()
    box = geodesic_rectangle(georef, geod, *place, azimuth, 40.0, 15.0)
    found = georef.measure([box, np.roll(box, 1, axis=0)])  # whichever side comes first
    assert found.length_m == pytest.approx(40, abs=1e-3)
    assert found.width_m == pytest.approx(15, abs=1e-3)
    assert found.area_m2 == pytest.approx(600, abs=0.05)
    assert ((found.azimuth_deg - azimuth + 90) % 180 - 90) == pytest.approx(0, abs=0.01)
    assert ((found.azimuth_deg >= 0) & (found.azimuth_deg < 180)).all()


def test_azimuth_is_that_at_the_middle():
    georef = affine(pyproj.CRS.from_epsg(3031), 10, 0, 0, 0, -10, 1_000_000)
    geod = georef.crs.geodetic_crs.get_geod()
    box = geodesic_rectangle(georef, geod, 0.2, -85, 90.0, 4000.0, 100.0)  # its ends see north 0.2 degrees apart
    found = georef.measure([box])
    assert found.azimuth_deg == pytest.approx(90, abs=0.005)
    assert found.length_m == pytest.approx(4000, abs=0.1)


def test_length_is_pyproj_geod():
    georef = affine(UTM, 0.5, 0, 700_000, 0, -0.5, 6_000_000)
    lonlat = georef.to_lonlat([[100, 105], [180, 105]])
    expected = pyproj.Geod(ellps="WGS84").inv(*lonlat[0], *lonlat[1])[2]
    assert georef.measure([[[100, 100], [180, 100], [180, 110], [100, 110]]]).length_m == pytest.approx(expected, 1e-9)


def test_measures_in_grads_from_paris():
    georef = affine(PARIS, 1, 0, 600_000, 0, -1, 2_400_000)
    found = georef.measure([[[100, 100], [140, 100], [140, 115], [100, 115]]])
    assert found.length_m == pytest.approx(40, rel=1e-3)  # the projection's own scale
    assert georef.gsd == pytest.approx((1, 1), rel=1e-3)


@pytest.mark.parametrize(
    "georef", [Georef("none", 10, 10), affine(None, 1, 0, 0, 0, -1, 0), affine(LOCAL, 1, 0, 0, 0, -1, 0)]
)
def test_measures_are_nan_where_the_ground_is_unknown(georef):
    found = georef.measure(np.ones((3, 4, 2)))
    for values in (found.length_m, found.width_m, found.area_m2, found.azimuth_deg):
        assert values.shape == (3,)
        assert np.isnan(values).all()
    assert georef.measure(np.zeros((0, 4, 2))).length_m.shape == (0,)


def test_boxes_beside_the_earth_are_nan_and_others_are_not():
    georef = affine(GOES, 1000, 0, -5.4e6, 0, -1000, 5.4e6, size=(10800, 10800))
    box = np.array([[0, 0], [20, 0], [20, 10], [0, 10]])
    found = georef.measure([box, box + 5395])
    assert np.isnan(found.length_m).tolist() == [True, False]
    assert found.length_m[1] == pytest.approx(20_000, rel=0.02)


@pytest.mark.parametrize(
    ("georef", "expected"),
    [
        (affine(UTM, 0.5, 0, 499_750, 0, -0.25, 5e6), (0.5 / 0.9996, 0.25 / 0.9996)),
        (affine(LONLAT, 1e-5, 0, 11, 0, -1e-5, 60.005), (0.5580, 1.1141)),
        (affine(pyproj.CRS.from_epsg(3857), 1, 0, 0, 0, -1, 8_399_738), (0.5017, 0.5008)),
        (affine(FEET, 1, 0, 984250, 0, -1, 200_000), (0.3048, 0.3048)),
        (affine(MARS, 2, 0, 0, 0, -2, 0), (2, 2)),
        (affine(GOES, 1000, 0, 5.4e6, 0, -1000, 5.4e6), None),
        (affine(LONLAT, 0.01, 0, -180, 0, -0.01, 90, size=(36000, 18000)), (1113.2, 1105.7)),  # not around the globe
        (affine(UTM, 0.02, 0, 499_999, 0, -0.02, 5e6, size=(3, 1)), (0.02 / 0.9996, 0.02 / 0.9996)),
    ],
)
def test_gsd_is_in_true_metres(georef, expected):
    assert georef.gsd == (expected if expected is None else pytest.approx(expected, rel=1e-3))


def write(path, transform=None, crs=None, size=(1000, 1000), **profile):
    options = {"transform": transform} if transform else {}
    with rasterio.open(
        path, "w", driver="GTiff", width=size[0], height=size[1], count=1, dtype="uint8", crs=crs, sparse_ok=True,
        **options, **profile,
    ):  # fmt: skip
        pass
    return path


def read(path):
    with opened(path) as (_, header):
        return Georef.from_header(header)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("profile", "kind", "crs"),
    [
        ({"transform": Affine(1, 0, 5e5, 0, -1, 5e6), "crs": "EPSG:32633"}, "affine", UTM),
        ({"transform": Affine(1, 0, 5e5, 0, -1, 5e6)}, "affine", None),
        ({"transform": Affine(1, 0, 5e5, 0, -1, 5e6), "crs": "EPSG:32633+5773"}, "affine", UTM),  # the height part goes
        ({"crs": "EPSG:32633"}, "none", None),  # a system without a transform places nothing
        ({}, "none", None),
        ({"gcps": gcp_grid(3), "crs": "EPSG:32633"}, "gcps", UTM),
        ({"gcps": gcp_grid(3)[:2], "crs": "EPSG:32633"}, "none", None),
        ({"rpcs": RPCS}, "rpc", WGS84),
        ({"rpcs": RPCS, "transform": Affine(1, 0, 5e5, 0, -1, 5e6), "crs": "EPSG:32633"}, "affine", UTM),
    ],
)
def test_kind_and_system_of_a_file(tmp_path, profile, kind, crs):
    georef = read(write(tmp_path / "a.tif", **profile))
    assert georef.kind == kind
    assert georef.crs == crs
    assert (georef.width, georef.height) == (1000, 1000)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("profile", "kind", "words"),
    [
        (
            {"gcps": [GroundControlPoint(i, i, 5e5 + i, 5e6 - i) for i in range(5)], "crs": "EPSG:32633"},
            "none",
            "ignored",
        ),
        ({"gcps": gcp_grid(2), "crs": "EPSG:4326"}, "gcps", "not those of WGS 84"),
        ({"transform": Affine(1, 0, 5e5, 0, -1, 5e6), "crs": "EPSG:4326"}, "affine", "not those of WGS 84"),
    ],
)
def test_impossible_georeference_is_dropped_with_a_warning(tmp_path, profile, kind, words):
    georef = read(write(tmp_path / "a.tif", **profile))
    assert georef.kind == kind
    assert georef.crs is None
    assert [words in warning for warning in georef.warnings] == [True]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_control_points_are_cleaned(tmp_path):
    many = gcp_grid(30)
    georef = read(write(tmp_path / "a.tif", gcps=(*many, *many[:50]), crs="EPSG:32633"))
    assert len(set(georef.gcps)) == len(georef.gcps)
    assert len(georef.gcps) <= MAX_SPLINE_POINTS
    assert np.abs(georef.to_map([[333, 777]]) - [[503_330, 4_992_230]]).max() < 0.01


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_control_points_over_the_antimeridian(tmp_path):
    points = [
        GroundControlPoint(row, col, (179 + 0.002 * col + 180) % 360 - 180, 10 - 0.002 * row)
        for row in (0, 500, 1000)
        for col in (0, 500, 1000)
    ]
    georef = read(write(tmp_path / "a.tif", gcps=points, crs="EPSG:4326"))
    np.testing.assert_allclose(georef.to_lonlat([[250, 250], [750, 250]]), [[179.5, 9.5], [-179.5, 9.5]], atol=1e-6)
