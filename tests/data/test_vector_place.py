"""Polygons without a reference system or a column of classes: on which image they lie, and what they are."""

import json
import warnings

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from rasterio.transform import Affine

from legnet_cli.data.datasets import load_dataset
from legnet_cli.errors import DataError
from legnet_cli.geo.crs import CRS, WGS84, reproject

UTM = CRS.from_user_input("EPSG:32733")  # south of the equator: y in degrees is below 0
LEFT, TOP = 500000, 6500000
QUAD = np.array([[20.0, 20], [80, 20], [80, 40], [20, 40]])
ON_MAP = QUAD * (0.5, -0.5) + (LEFT, TOP)
IN_DEGREES = reproject(ON_MAP, UTM, WGS84)


def scene(path, crs="EPSG:32733", left=LEFT):
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"width": 200, "height": 100, "count": 3, "dtype": "uint8", "driver": "GTiff"}
    place = {"crs": crs, "transform": Affine(0.5, 0, left, 0, -0.5, TOP)} if crs else {}
    with rasterio.open(path, "w", **about, **place) as file:
        file.write(np.zeros((3, 100, 200), np.uint8))


def layer(path, polygons, fields, crs=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"field_data": [np.array(values, object) for values in fields.values()], "fields": list(fields)}
    geometry = shapely.to_wkb(shapely.polygons(np.array(polygons)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no reference system is given
        pyogrio.raw.write(path, geometry=geometry, **columns, geometry_type="Polygon", crs=crs)


@pytest.mark.parametrize("suffix", [".shp", ".gpkg"])
@pytest.mark.parametrize(
    ("polygon", "crs", "system"),
    [
        (ON_MAP, "EPSG:32733", None),
        (IN_DEGREES, "EPSG:4326", None),
        (ON_MAP, None, "WGS 84 / UTM zone 33S"),
        (IN_DEGREES, None, "WGS 84 (CRS84)"),
        (QUAD, None, None),  # pixels
        (QUAD * (1, -1), None, None),  # as QGIS places a picture
    ],
)
def test_what_a_layer_without_reference_system_is_in(tmp_path, suffix, polygon, crs, system):
    scene(tmp_path / "a.tif")
    layer(tmp_path / f"a{suffix}", [polygon], {"class": ["ship"]}, crs)
    dataset = load_dataset(tmp_path)
    np.testing.assert_allclose(dataset.images[0].quads[0], QUAD, atol=0.01)
    told = [problem.message for problem in dataset.problems]
    assert told == ([f"has no reference system (.prj): taken as {system}"] if system else [])


def test_a_layer_that_lies_nowhere_is_refused(tmp_path):
    scene(tmp_path / "a.tif")
    layer(tmp_path / "a.shp", [ON_MAP + 1e5], {"class": ["ship"]})
    with pytest.raises(DataError, match=r"a\.shp: has no reference system, and lies on none .*: add its \.prj"):
        load_dataset(tmp_path)


def test_geojson_that_does_not_name_its_system(tmp_path):
    scene(tmp_path / "a.tif")
    ring = [*ON_MAP.tolist(), ON_MAP[0].tolist()]
    shapes = {"type": "Polygon", "coordinates": [ring]}, {"type": "Point", "coordinates": ring[0]}
    features = [{"type": "Feature", "properties": {"class": "ship"}, "geometry": shape} for shape in shapes]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    dataset = load_dataset(tmp_path)
    np.testing.assert_allclose(dataset.images[0].quads[0], QUAD, atol=0.01)
    assert [problem.message for problem in dataset.problems] == [
        "has no reference system (.prj): taken as WGS 84 / UTM zone 33S",
        "1 feature without a polygon: 1",
    ]


def test_spacenet(tmp_path):
    names = ("AOI_2_Vegas_img1", "AOI_2_Vegas_img10")
    for number, name in enumerate(names):
        scene(tmp_path / f"RGB-PanSharpen/RGB-PanSharpen_{name}.tif", left=LEFT + 1000 * number)
        path = tmp_path / f"geojson/buildings/buildings_{name}.geojson"
        layer(path, [IN_DEGREES], {"OBJECTID": [1], "Notes": ["seen"], "Editor": ["x"]}, "EPSG:4326")
    path.write_text('{"type": "FeatureCollection", "features": []}')
    dataset = load_dataset(tmp_path)
    assert (dataset.classes, [len(image) for image in dataset.images]) == (("building",), [1, 0])
    np.testing.assert_allclose(dataset.images[0].quads[0], QUAD, atol=0.01)
    assert load_dataset(tmp_path, class_field="Editor").classes == ("x",)


def test_an_image_without_polygons(tmp_path):
    for name in "ab":
        scene(tmp_path / f"{name}.tif")
        layer(tmp_path / f"{name}.geojson", [IN_DEGREES], {"kind": ["ship"]}, "EPSG:4326")
    (tmp_path / "b.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    assert [len(image) for image in load_dataset(tmp_path).images] == [1, 0]
