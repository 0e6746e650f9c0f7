import json

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import CRS
from rasterio import Affine

from legnet_cli.errors import DataError
from legnet_cli.geo.crs import WGS84
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.polygons import read_polygons, to_pixels
from legnet_cli.geo.vector import About, Areas, Layer, write_layer

SQUARE = [[0, 0], [2, 0], [2, 1], [0, 1]]


def moved(x, y=0, ring=SQUARE):
    return [[a + x, b + y] for a, b in [*ring, ring[0]]]


def write(path, *features):
    """GeoJSON of (properties, geometry) pairs."""
    rows = [{"type": "Feature", "properties": fields, "geometry": shape} for fields, shape in features]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": rows}))
    return path


def polygon(*rings):
    return {"type": "Polygon", "coordinates": [*rings]}


def multi(*rings):
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([0, None, 2], [0, None, 2]),
        ([True, None, False], [True, None, False]),
        ([0.5, None, 2], [0.5, None, 2.0]),
        (["0", None, "x"], ["0", None, "x"]),
        ([2**40, None, 1], [2**40, None, 1]),
    ],
)
@pytest.mark.parametrize("suffix", ["geojson", "gpkg"])
def test_columns_keep_their_type_whatever_is_missing(tmp_path, values, expected, suffix):
    path = write(tmp_path / "a.geojson", *(({"v": value}, polygon(moved(0))) for value in values))
    if suffix == "gpkg":
        meta, _, wkb, columns = pyogrio.raw.read(path)
        path = tmp_path / "a.gpkg"
        masks = [np.array([value is None for value in values])]
        whole = [np.nan_to_num(columns[0]).astype(meta["dtypes"][0])] if columns[0].dtype.kind == "f" else columns
        options = {"crs": meta["crs"], "geometry_type": "Polygon", "field_mask": masks}
        pyogrio.raw.write(path, wkb, whole, meta["fields"], driver="GPKG", **options)
    found = read_polygons(path).fields["v"]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_each_part_of_a_multipolygon_is_an_object(tmp_path):
    shapes = [polygon(moved(0)), multi(moved(5), moved(9)), {"type": "Point", "coordinates": [0, 0]}, None]
    table = read_polygons(write(tmp_path / "a.geojson", *(({"class": str(i)}, s) for i, s in enumerate(shapes))))
    assert [points.tolist() for points in table.points] == [SQUARE, moved(5)[:-1], moved(9)[:-1], [], []]
    assert table.fields["class"] == ["0", "1", "1", "2", "3"]
    assert table.ids == ["0", "1", "1", "2", "3"]


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
def test_what_the_antimeridian_cut_is_whole_again(tmp_path, suffix):
    quad = np.array([[179.9, 0], [-179.8, 0.1], [-179.9, 0.3], [179.8, 0.2]])
    write_layer(tmp_path / f"a{suffix}", Layer(np.stack([quad, quad + [0, 5]]), WGS84, {"class": np.array(["a", "b"])}))
    assert (shapely.get_num_geometries(shapely.from_wkb(pyogrio.raw.read(tmp_path / f"a{suffix}")[2])) == 2).all()
    table = read_polygons(tmp_path / f"a{suffix}")
    assert table.fields["class"] == ["a", "b"]
    for points, north in zip(table.points, (0, 5), strict=True):
        around = points % 360
        expected = np.array([[179.9, 0], [180.2, 0.1], [180.1, 0.3], [179.8, 0.2]]) + [0, north]
        assert sorted(np.round(around, 6).tolist()) == sorted(np.round(expected, 6).tolist())


def test_pixels_count_rows_down_or_as_minus_y(tmp_path):
    quad = np.array([[4, 1], [9, 1], [9, 5], [4, 5]], float)
    for name, sign in (("down", 1), ("up", -1)):
        write_layer(tmp_path / f"{name}.gpkg", Layer(quad[None] * (1, sign), None, {"class": np.array(["a"])}))
        (points,) = read_polygons(tmp_path / f"{name}.gpkg").points
        assert sorted(points.tolist()) == sorted(quad.tolist())


def test_of_several_layers_that_of_the_objects_is_read(tmp_path):
    layer = Layer(np.array([SQUARE], float), WGS84, {"class": np.array(["a"])})
    ground = Areas(np.array([shapely.box(0, 0, 9, 9)]), {"scene": np.array(["s"])})
    write_layer(tmp_path / "a.gpkg", layer, About(searched=ground))
    with pytest.raises(DataError, match=r"has 2 layers of geometries \(a, searched\)"):
        read_polygons(tmp_path / "a.gpkg")
    write_layer(tmp_path / "a.gpkg", layer, About("{}", "<qgis/>", ground))
    assert read_polygons(tmp_path / "a.gpkg").fields == {"class": ["a"]}


def test_parts_on_both_sides_of_the_antimeridian_stay_apart(tmp_path):
    table = read_polygons(write(tmp_path / "a.geojson", ({"class": "a"}, multi(moved(178), moved(-180, 5)))))
    assert [points.tolist() for points in table.points] == [moved(178)[:-1], moved(-180, 5)[:-1]]


MERCATOR = CRS.from_epsg(3857)
TURN = 40075016.68557849


def scene(crs, left):
    pixel = 0.01 if crs.is_geographic else 0.01 * TURN / 360
    return Georef("affine", 400, 300, crs=crs, transform=Affine(pixel, 0, left, 0, -pixel, 0))


@pytest.mark.parametrize("lon", [-170.0, 190.0, -530.0])
@pytest.mark.parametrize(
    ("crs", "left"),
    [
        (WGS84, 189), (WGS84, -171), (WGS84, -531), (CRS.from_epsg(4326), 189),
        (MERCATOR, 189 / 360 * TURN), (MERCATOR, -171 / 360 * TURN),
    ],
)  # fmt: skip
def test_longitudes_of_any_convention(lon, crs, left):
    ring = np.array([[lon, -1], [lon + 0.1, -1], [lon + 0.1, -1.1], [lon, -1.1]])
    (found,) = to_pixels([ring], WGS84, scene(crs, left))
    assert np.abs(found[:, 0] - [100, 110, 110, 100]).max() < 1e-4


def test_polygons_without_corners():
    assert to_pixels([], WGS84, scene(WGS84, 189)) == []
    ring = np.array([[-170, -1], [-169.9, -1], [-169.9, -1.1]])
    none, found = to_pixels([np.zeros((0, 2)), ring], WGS84, scene(WGS84, 189))
    assert (len(none), len(found)) == (0, 3)


@pytest.mark.parametrize("left", [178, -182])
def test_polygons_that_jump_at_the_antimeridian(left):
    ring = np.array([[179.9, -1], [-179.9, -1], [-179.9, -1.1], [179.9, -1.1]])
    (found,) = to_pixels([ring], WGS84, scene(WGS84, left))
    assert np.abs(found[:, 0] - [190, 210, 210, 190]).max() < 1e-6
    (found,) = to_pixels([ring], WGS84, scene(WGS84, -2))  # on the other side of the globe
    assert (np.abs(found[:, 0]) > 10_000).all()


@pytest.mark.parametrize("text", ["", "{", '{"type": "FeatureCollection", "features": 5}', "\x00\x01"])
def test_no_vector_file(tmp_path, text):
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises(DataError, match=r"a\.geojson: ") as caught:
        read_polygons(tmp_path / "a.geojson")
    assert "\n" not in str(caught.value)
