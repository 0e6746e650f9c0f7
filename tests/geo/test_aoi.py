import json
import logging

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from rasterio import Affine

from legnet_cli.errors import DataError, GeoError
from legnet_cli.geo.aoi import Aoi, aoi_in_pixels, centres_inside, read_aoi, tiles_touching
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.vector import Layer, write_layer
from legnet_cli.tiles import tile_grid

UTM = pyproj.CRS.from_epsg(32633)
LONLAT = pyproj.CRS.from_epsg(4326)
MERCATOR = pyproj.CRS.from_epsg(3857)


def scene(crs, left, top, pixel, width=1000, height=500):
    """A north-up scene whose first pixel's corner is at (left, top)."""
    return Georef("affine", width, height, crs=crs, transform=Affine(pixel, 0, left, 0, -pixel, top))


def write(path, *geometries, crs="EPSG:4326", driver=None, layer=None, **options):
    kind = geometries[0].geom_type if len({g.geom_type for g in geometries}) == 1 else "Unknown"
    wkb = shapely.to_wkb(np.array(geometries, object))
    extra = {"append": path.exists()} if layer else {}
    pyogrio.raw.write(path, wkb, [], [], driver=driver, crs=crs, geometry_type=kind, layer=layer, **extra, **options)
    return path


BOX = shapely.box(14.9, 49.9, 15.1, 50.1)


@pytest.mark.parametrize(
    ("name", "driver"),
    [
        ("a.geojson", "GeoJSON"),
        ("a.gpkg", "GPKG"),
        ("a.shp", "ESRI Shapefile"),
        ("a.fgb", "FlatGeobuf"),
        ("a.kml", "KML"),
    ],
)
def test_reads_every_vector_format(tmp_path, name, driver):
    aoi = read_aoi(write(tmp_path / name, BOX, driver=driver))
    assert aoi.geometry.normalize().equals_exact(BOX.normalize(), 1e-9)
    assert aoi.crs is not None
    assert aoi.crs.equals(LONLAT, ignore_axis_order=True)
    assert aoi.path == tmp_path / name


@pytest.mark.parametrize(
    ("geometries", "area"),
    [
        ([shapely.box(0, 0, 2, 2), shapely.box(1, 0, 3, 2)], 6),  # the union counts the overlap once
        ([shapely.box(0, 0, 1, 1), shapely.box(5, 5, 6, 6), shapely.Point(3, 3)], 2),
        ([shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])], 2),  # a bow tie
        ([shapely.GeometryCollection([shapely.Point(0, 0), shapely.MultiPolygon([shapely.box(0, 0, 1, 1)])])], 1),
        ([shapely.box(0, 0, 3, 3).difference(shapely.box(1, 1, 2, 2))], 8),
        ([shapely.force_3d(shapely.box(0, 0, 1, 1), 7)], 1),
    ],
)
def test_polygons_become_one_valid_geometry(tmp_path, geometries, area):
    path = tmp_path / "a.geojson"
    path.write_text(shapely.to_geojson(shapely.GeometryCollection(geometries)))
    geometry = read_aoi(path).geometry
    assert geometry.is_valid
    assert not geometry.has_z
    assert geometry.geom_type in ("Polygon", "MultiPolygon")
    assert geometry.area == pytest.approx(area)


def test_first_layer_with_polygons_is_taken(tmp_path, caplog):
    path = tmp_path / "a.gpkg"
    write(path, shapely.Point(0, 0), layer="points", driver="GPKG")
    write(path, BOX, layer="field", driver="GPKG")
    write(path, shapely.box(0, 0, 1, 1), layer="other", driver="GPKG")
    with caplog.at_level(logging.WARNING):
        assert read_aoi(path).geometry.equals(BOX)
    assert "'field', not 'other'" in caplog.text


@pytest.mark.parametrize("geometry", [shapely.Point(0, 0), shapely.LineString([(0, 0), (1, 1), (1, 0), (0, 0)])])
def test_no_polygons_is_refused(tmp_path, geometry):
    with pytest.raises(GeoError, match=r"a\.gpkg: has no polygons"):
        read_aoi(write(tmp_path / "a.gpkg", geometry, driver="GPKG"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.geojson", b'{"type": "FeatureCollection", "features": [{"type": "Feat'),
        ("a.geojson", b""),
        ("a.gpkg", b"SQLite format 3\0 and then nothing"),
        ("a.shp", b"\0" * 50),
        ("a.fgb", b"fgb\3fgb\0" + b"\xff" * 40),
        ("a.txt", b"lorem ipsum"),
    ],
)
def test_unreadable_file_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_aoi(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_aoi(tmp_path / "a.geojson")


def test_pixels_of_a_georeferenced_scene():
    georef = scene(UTM, 500_000, 5_500_000, 2)
    inside = aoi_in_pixels(Aoi(shapely.box(500_200, 5_499_700, 600_000, 5_499_900), UTM, "a"), georef)
    assert inside.symmetric_difference(shapely.box(100, 50, 1000, 150)).area < 1e-3


def test_edges_bend_with_the_projection():
    """A parallel of 50 degrees north is no straight line in UTM: its middle sags by some 20 pixels here."""
    lon, lat = 12.5, 50.0
    x, y = pyproj.Transformer.from_crs(4326, UTM, always_xy=True).transform([12.0, 13.0, 12.5], [lat] * 3)
    chord = (y[0] + y[1]) / 2
    georef = scene(UTM, x[0], chord + 5000, 10, 7200, 1000)
    inside = aoi_in_pixels(Aoi(shapely.box(0, 0, 90, lat), LONLAT, "a"), georef)
    col, row = georef.to_pixel([[x[2], y[2]]])[0]
    assert abs(y[2] - chord) > 100  # the case is worth its name
    edge = inside.intersection(shapely.LineString([(col, 0), (col, 1000)])).bounds[1]
    assert edge == pytest.approx(row, abs=0.05)
    assert lon == 12.5


# scenes on both sides of the antimeridian, in each way of counting; the area is 179.95 to -179.95 east
HALVES = shapely.MultiPolygon([shapely.box(179.95, 0, 180, 1), shapely.box(-180, 0, -179.95, 1)])


@pytest.mark.parametrize(
    ("shape", "left"),
    [
        (HALVES, 179.9),
        (HALVES, -180.1),
        (shapely.box(179.95, 0, 180.05, 1), 179.9),
        (shapely.box(179.95, 0, 180.05, 1), -180.1),
        (shapely.box(-180.05, 0, -179.95, 1), 179.9),
    ],
)
def test_longitudes_are_brought_to_the_scene(shape, left):
    georef = scene(LONLAT, left, 0.5, 0.0002)
    inside = aoi_in_pixels(Aoi(shape, LONLAT, "a"), georef)
    assert inside.bounds == pytest.approx((250, 0, 750, 500), abs=1e-6)
    assert inside.area == pytest.approx(500 * 500)


@pytest.mark.parametrize("east", [-175, 185])
@pytest.mark.parametrize(("crs", "left"), [(LONLAT, 184), (LONLAT, -176), (MERCATOR, 184), (MERCATOR, -176)])
@pytest.mark.parametrize("area", [LONLAT, MERCATOR])
def test_either_convention_in_degrees_and_metres(east, crs, left, area):
    unit, scene_unit = (1 if system is LONLAT else 40075016.68557849 / 360 for system in (area, crs))
    georef = scene(crs, left * scene_unit, 1 * scene_unit, 0.004 * scene_unit)
    shape = shapely.box(east * unit, -9 * unit, (east + 0.4) * unit, 9 * unit)
    inside = aoi_in_pixels(Aoi(shape, area, "a"), georef)
    assert inside.bounds == pytest.approx((250, 0, 350, 500), abs=1e-3)


def test_projected_scene_over_the_antimeridian():
    utm60 = pyproj.CRS.from_epsg(32660)
    x, y = pyproj.Transformer.from_crs(4326, utm60, always_xy=True).transform(180, 0.5)
    georef = scene(utm60, x - 10_000, y + 5_000, 20)
    inside = aoi_in_pixels(Aoi(HALVES, LONLAT, "a"), georef)
    assert inside.geom_type == "Polygon"
    assert inside.bounds[0] == pytest.approx(500 - 0.05 * 111_300 / 20, abs=3)
    assert inside.bounds[2] == pytest.approx(500 + 0.05 * 111_300 / 20, abs=3)


@pytest.mark.parametrize("epsg", [4326, 3857])
@pytest.mark.parametrize("left", [-180, 0])
def test_the_whole_world_covers_any_scene(epsg, left):
    world = Aoi(shapely.box(-180, -90, 180, 90), LONLAT, "a")
    if epsg == 4326:
        georef = scene(LONLAT, left, 90, 0.36)
    else:
        georef = scene(pyproj.CRS.from_epsg(3857), left / 180 * 20037508, 10_000_000, 20_000)
    georef = Georef("affine", georef.width if left else 500, 500, crs=georef.crs, transform=georef.transform)
    assert aoi_in_pixels(world, georef).area == pytest.approx(georef.width * 500, rel=1e-5)


def test_scene_around_the_pole():
    georef = scene(pyproj.CRS.from_epsg(3413), -100_000, 100_000, 400, 500, 500)
    cap = aoi_in_pixels(Aoi(shapely.box(-180, 89.5, 180, 90), LONLAT, "a"), georef)
    radius = 0.5 * 111_694 / 400 * 0.9698  # half a degree at the projection's scale there
    assert cap.symmetric_difference(shapely.Point(250, 250).buffer(radius, 256)).area < 0.002 * cap.area


def test_pixel_areas(tmp_path):
    """Without a reference system on both sides, and in a file that says so for any scene."""
    corners = np.array([[[10, 10], [20, 10], [20, 40], [10, 40]]], float)
    for name in ("a.geojson", "a.gpkg", "a.shp"):
        write_layer(tmp_path / name, Layer(corners, None, {"class": np.array(["field"])}))
    for name in ("a.geojson", "a.gpkg", "a.shp"):
        inside = aoi_in_pixels(read_aoi(tmp_path / name), Georef("none", 100, 30))
        assert inside.bounds == (10, 10, 20, 30)
    assert aoi_in_pixels(read_aoi(tmp_path / "a.geojson"), scene(UTM, 0, 0, 1)).bounds == (10, 10, 20, 40)
    # a world file without a reference system
    assert aoi_in_pixels(read_aoi(tmp_path / "a.gpkg"), scene(None, 0, 110, 10)).bounds == (1, 7, 2, 10)


@pytest.mark.parametrize("name", ["a.geojson", "a.gpkg"])
def test_areas_drawn_on_a_plain_picture_count_rows_as_minus_y(tmp_path, name):
    corners = np.array([[[10, -10], [20, -10], [20, 2], [10, 2]], [[10, -40], [20, -40], [20, -10], [10, -10]]], float)
    write_layer(tmp_path / name, Layer(corners, None, {"class": np.array(["field"] * 2)}))
    assert aoi_in_pixels(read_aoi(tmp_path / name), Georef("none", 100, 30)).bounds == (10, 0, 20, 30)
    if name == "a.gpkg":  # a map of its own, that begins at y = 0
        assert aoi_in_pixels(read_aoi(tmp_path / name), scene(None, 0, 0, 10)).bounds == (1, 0, 2, 4)


@pytest.mark.parametrize(
    ("shape", "crs", "georef", "message"),
    [
        (BOX, None, scene(UTM, 0, 0, 1), "names no reference system.*WGS 84 / UTM zone 33N"),
        (BOX, LONLAT, Georef("none", 10, 10), "the scene has no reference system"),
        (
            shapely.box(0, 0, 9, 9),
            LONLAT,
            scene(LONLAT, 15, 50, 0.001),
            r"x 0 to 9, y 0 to 9.*x 15 to 16, y 49\.5 to 50",
        ),
        (shapely.box(20, 20, 30, 30), None, Georef("none", 10, 10), "x 20 to 30.*x 0 to 10.*no reference system"),
        (shapely.box(-10, 0, 0, 10), None, Georef("none", 10, 10), "outside"),  # only an edge is shared
        (shapely.box(-10, 5, 0, 9), pyproj.CRS.from_epsg(3413), scene(UTM, 5e5, -4e6, 1), "outside"),
    ],
)
def test_areas_that_do_not_fit(shape, crs, georef, message):
    with pytest.raises(GeoError, match=message) as caught:
        aoi_in_pixels(Aoi(shape, crs, "area.gpkg"), georef)
    assert str(caught.value).startswith("area.gpkg: ")
    assert "\n" not in str(caught.value)


def test_tiles_touching():
    tiles = tile_grid(100, 100, 50, 0)
    corner = shapely.box(0, 0, 50, 50)  # shares only edges with the others
    assert tiles_touching(corner, tiles).tolist() == [True, False, False, False]
    assert tiles_touching(shapely.Point(50, 50).buffer(5), tiles).all()
    assert tiles_touching(corner, []).shape == (0,)


def test_centres_inside():
    ring = shapely.box(0, 0, 9, 9).difference(shapely.box(3, 3, 6, 6))
    points = np.array([[1.0, 1], [4, 4], [8, 8], [10, 1]])
    assert centres_inside(ring, points).tolist() == [True, False, True, False]
    assert centres_inside(ring, np.zeros((0, 2))).shape == (0,)


def test_geojson_without_crs_is_wgs84(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}))
    crs = read_aoi(path).crs
    assert crs is not None
    assert crs.equals(LONLAT, ignore_axis_order=True)
