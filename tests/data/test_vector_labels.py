"""Polygons on scenes as labels: found by place or by name, in map coordinates or pixels."""

import json

import cv2
import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from legnet_cli.data.datasets import load_dataset
from legnet_cli.engine.convert import ConvertConfig, convert
from legnet_cli.errors import DataError, GeoError

QUADS = np.array([[[10, 10], [30, 12], [29, 22], [9, 20]], [[40.5, 10], [60, 10], [60, 20], [40.5, 20]]])
ROTATED = Affine(0.26, 0.15, 500_000, 0.15, -0.26, 5_000_000)
AWAY = Affine(0.5, 0, 501_000, 0, -0.5, 5_000_000)


def write_scene(path, transform=ROTATED, crs="EPSG:32631"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((60, 80), 9, np.uint8)
    if transform is None:
        path.write_bytes(cv2.imencode(".tif", pixels)[1].tobytes())
        return
    options = {"driver": "GTiff", "width": 80, "height": 60, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", transform=transform, crs=crs, **options) as file:
        file.write(pixels, 1)


def dota_text(quads, name="car"):
    return "".join(f"{' '.join(map(str, quad.ravel().tolist()))} {name} {i}\n" for i, quad in enumerate(quads))


@pytest.fixture
def scenes(tmp_path):
    """A DOTA folder of two georeferenced scenes."""
    root = tmp_path / "scenes"
    write_scene(root / "images/a.tif")
    write_scene(root / "images/b.TIF", AWAY)
    (root / "labelTxt").mkdir()
    (root / "labelTxt/a.txt").write_text("gsd:0.3\n" + dota_text(QUADS))
    (root / "labelTxt/b.txt").write_text(dota_text(QUADS[:1] + 3, "large car"))
    return root


@pytest.mark.parametrize(("suffix", "named"), [(".gpkg", True), (".geojson", True), (".geojson", False)])
def test_round_trip_in_map_coordinates(tmp_path, scenes, suffix, named):
    file = tmp_path / f"cars{suffix}"
    convert(ConvertConfig(scenes, file))
    if not named:
        content = json.loads(file.read_text())
        for feature in content["features"]:
            del feature["properties"]["image"]
        file.write_text(json.dumps(content))
    before, after = load_dataset(scenes), load_dataset(scenes, labels=str(file), skip_bad=True)
    assert after.classes == ("car", "large car")
    assert [image.path for image in after.images] == [image.path for image in before.images]
    for one, other in zip(before.images, after.images, strict=True):
        assert one.names == other.names
        assert one.difficult.tolist() == other.difficult.tolist()
        np.testing.assert_array_equal(one.quads, other.quads)
    assert after.images[0].meta == {"gsd": "0.3"}


def test_geojson_is_in_degrees(tmp_path, scenes):
    convert(ConvertConfig(scenes, tmp_path / "cars.geojson"))
    (lon, lat), *_ = json.loads((tmp_path / "cars.geojson").read_text())["features"][0]["geometry"]["coordinates"][0]
    assert lon == pytest.approx(3.0, abs=0.01)
    assert lat == pytest.approx(45.15, abs=0.05)


def geojson(path, features, **more):
    rows = [
        {"type": "Feature", "properties": p, "geometry": None if c is None else {"type": "Polygon", "coordinates": [c]}}
        for c, p in features
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", **more, "features": rows}))


PIXELS = {"crs": {"type": "name", "properties": {"name": "Image pixels"}}}
SQUARE = [[10, 10], [30, 10], [30, 20], [10, 20], [10, 10]]


def test_other_polygons_become_boxes_and_columns_attributes(tmp_path):
    write_scene(tmp_path / "a.tif", None)
    ell = [[10, 10], [30, 10], [30, 15], [20, 15], [20, 20], [10, 20], [10, 10]]
    rows = [(SQUARE[::-1], {"kind": "tank", "height": 3.5}), (ell, {"kind": "pier", "height": None})]
    geojson(tmp_path / "a.geojson", rows, **PIXELS)
    (image,) = load_dataset(tmp_path).images
    assert image.names == ("tank", "pier")
    np.testing.assert_allclose(image.boxes, [[20, 15, 20, 10, 0]] * 2, atol=1e-9)
    np.testing.assert_array_equal(image.quads[0], SQUARE[:4])  # clockwise on the screen
    assert [dict(attributes) for attributes in image.attributes] == [{"height": 3.5}, {}]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([0, 1, None], [0, 1, 0]),
        (["0", "1", None], [0, 1, 0]),
        (["0", "1", ""], [0, 1, 0]),
        ([0.0, 1.0, None], [0, 1, 0]),
        ([False, True, None], [0, 1, 0]),
        ([0, "1", None], [0, 1, 0]),  # a column of two types is text
    ],
)
def test_difficulty_in_any_column(tmp_path, values, expected):
    write_scene(tmp_path / "a.tif", None)
    columns = zip(values, (3, None, 5), strict=True)
    rows = [(SQUARE, {"class": "x", "difficult": value, "floors": floors}) for value, floors in columns]
    geojson(tmp_path / "a.geojson", rows, **PIXELS)
    (image,) = load_dataset(tmp_path).images
    assert image.difficult.tolist() == expected
    assert [dict(attributes) for attributes in image.attributes] == [{"floors": 3}, {}, {"floors": 5}]


@pytest.mark.parametrize("value", ["easy", 0.5, "1.5", "nan"])
def test_difficulty_that_is_none(tmp_path, value):
    write_scene(tmp_path / "a.tif", None)
    geojson(tmp_path / "a.geojson", [(SQUARE, {"class": "x"}), (SQUARE, {"class": "x", "difficult": value})], **PIXELS)
    with pytest.raises(DataError, match=rf"a\.geojson: feature 1: 'difficult' is .*{value}.*, not a whole number"):
        load_dataset(tmp_path)
    (image,) = load_dataset(tmp_path, skip_bad=True).images
    assert len(image) == 1


def test_each_part_of_a_multipolygon_is_an_object(tmp_path):
    write_scene(tmp_path / "a.tif", None)
    geojson(tmp_path / "a.geojson", [(SQUARE, {"class": "x"})], **PIXELS)
    content = json.loads((tmp_path / "a.geojson").read_text())
    parts = [[SQUARE], [[[x + 40, y + 30] for x, y in SQUARE]]]
    content["features"][0]["geometry"] = {"type": "MultiPolygon", "coordinates": parts}
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    (image,) = load_dataset(tmp_path).images
    assert image.names == ("x", "x")
    np.testing.assert_array_equal(image.quads, [SQUARE[:4], np.add(SQUARE[:4], [40, 30])])


@pytest.mark.parametrize(("lon", "left"), [(-169.9975, 190), (190.0025, -170), (-169.9975, -170), (550.0025, 190)])
def test_longitudes_of_either_convention_fall_on_the_scene(tmp_path, lon, left):
    write_scene(tmp_path / "a.tif", Affine(1e-4, 0, left, 0, -1e-4, 52), "EPSG:4326")
    ring = [[lon + x * 1e-4, 52 - y * 1e-4] for x, y in ((0, 10), (10, 10), (10, 20), (0, 20), (0, 10))]
    geojson(tmp_path / "a.geojson", [(ring, {"class": "tank"})])
    dataset = load_dataset(tmp_path)
    assert not dataset.problems
    np.testing.assert_allclose(dataset.images[0].quads[0], [[25, 10], [35, 10], [35, 20], [25, 20]], atol=1e-3)


@pytest.mark.parametrize("left", [179.996, -180.004])
def test_a_scene_over_the_antimeridian_and_back(tmp_path, left):
    write_scene(tmp_path / "scenes/images/a.tif", Affine(1e-4, 0, left, 0, -1e-4, 52), "EPSG:4326")
    quads = np.array([[[35, 10], [46, 14], [44, 22], [33, 18]], [[5.0, 5], [15, 5], [15, 9], [5, 9]]])
    (tmp_path / "scenes/labelTxt").mkdir()
    (tmp_path / "scenes/labelTxt/a.txt").write_text(dota_text(quads))
    for suffix in (".geojson", ".gpkg"):
        convert(ConvertConfig(tmp_path / "scenes", tmp_path / f"a{suffix}"))
        (image,) = load_dataset(tmp_path / "scenes", labels=str(tmp_path / f"a{suffix}")).images
        assert image.difficult.tolist() == [0, 1]
        for found, expected in zip(image.quads, quads, strict=True):
            assert sorted(found.tolist()) == pytest.approx(np.array(sorted(expected.tolist())), abs=2e-3)
    shapes = [f["geometry"] for f in json.loads((tmp_path / "a.geojson").read_text())["features"]]
    assert [shape["type"] for shape in shapes] == ["MultiPolygon", "Polygon"]
    longitudes = np.array([x for part in shapes[0]["coordinates"] for x, _ in part[0]])
    assert np.abs(longitudes).max() == 180


def test_geojson_of_unknown_coordinates_is_in_pixels_if_no_image_has_others(tmp_path):
    write_scene(tmp_path / "a.tif", None)
    geojson(tmp_path / "a.geojson", [(SQUARE, {"class": "x"})])
    dataset = load_dataset(tmp_path)
    np.testing.assert_array_equal(dataset.images[0].quads[0], SQUARE[:4])
    assert "taken as pixels" in str(dataset.problems[0])


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [(SQUARE, {"a": "x", "b": "y"})],
            {},
            "does not say which column holds the classes: choose with --class-field from a, b",
        ),
        ([(SQUARE, {"n": 1})], {}, "--class-field from n"),
        ([(SQUARE, {"class": "x"})], {"class_field": "kind"}, "has no column 'kind'"),
        ([(None, {"class": "x"})], {}, r"feature 0: is not a polygon"),
        ([(SQUARE, {"class": None, "image": "a.tif"})], {}, "feature 0: the class is missing"),
        ([(SQUARE, {"class": "x", "image": "c.tif"})], {}, "feature 0: there is no image 'c.tif'"),
        ([([[1, 1], [5, 5], [9, 9], [1, 1]], {"class": "x"})], {}, "feature 0: the area is zero"),
    ],
)
def test_bad_layers(tmp_path, rows, options, message):
    write_scene(tmp_path / "a.tif", None)
    geojson(tmp_path / "a.geojson", [(c, {**p, "image": p.get("image", "a.tif")}) for c, p in rows], **PIXELS)
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path, **options)


def test_pixels_of_which_image(tmp_path):
    write_scene(tmp_path / "a.tif", None)
    write_scene(tmp_path / "b.tif", None)
    geojson(tmp_path / "a.geojson", [(SQUARE, {"class": "x"})], **PIXELS)
    with pytest.raises(DataError, match="no column 'image' that says of which image"):
        load_dataset(tmp_path)


def test_polygons_that_lie_on_no_image_are_told(tmp_path, scenes):
    geojson(tmp_path / "far.geojson", [([[0, 0], [1, 0], [1, 1], [0, 0]], {"class": "x"})])
    dataset = load_dataset(scenes, labels=str(tmp_path / "far.geojson"))
    assert [str(p) for p in dataset.problems] == [
        f"{tmp_path}/far.geojson: 1 polygon on none of the images: features 0"
    ]


def test_some_scenes_without_georeference(tmp_path, scenes):
    write_scene(scenes / "images/b.TIF", None)
    with pytest.raises(GeoError, match=r"b\.TIF: has no georeference as other images have"):
        convert(ConvertConfig(scenes, tmp_path / "cars.gpkg"))
    assert not (tmp_path / "cars.gpkg").exists()


def test_scenes_of_two_zones_go_into_degrees(tmp_path, scenes):
    write_scene(scenes / "images/b.TIF", AWAY, "EPSG:32632")
    convert(ConvertConfig(scenes, tmp_path / "cars.gpkg"))
    before, after = load_dataset(scenes), load_dataset(scenes, labels=str(tmp_path / "cars.gpkg"))
    for one, other in zip(before.images, after.images, strict=True):
        np.testing.assert_allclose(one.quads, other.quads, atol=1e-4)


def test_one_scene_with_polygons_given_apart(tmp_path, scenes):
    convert(ConvertConfig(scenes, tmp_path / "cars.gpkg"))
    dataset = load_dataset(scenes / "images/a.tif", labels=str(tmp_path / "cars.gpkg"), skip_bad=True)
    assert [(image.stem, len(image)) for image in dataset.images] == [("a", 2)]


def test_damaged_file(tmp_path):
    write_scene(tmp_path / "a.tif")
    (tmp_path / "a.gpkg").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(tmp_path)
