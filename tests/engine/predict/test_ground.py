"""The ground that was searched, as a layer of its own."""

import numpy as np
import pyogrio
import pyproj
import shapely
from blobs import draw
from rasterio.transform import Affine
from searches import BOXES, SHAPE, VALUES, on_ground, run


def searched(path):
    meta, _, wkb, values = pyogrio.raw.read(path, layer="searched")
    return meta, shapely.from_wkb(wkb), dict(zip(meta["fields"], values, strict=True))


def test_ground_searched_is_that_with_data(tmp_path, blobs, write_scene):
    image = draw((128, 384), BOXES[:1], VALUES[:1])
    image[0, :128], image[:, 256:] = 40, 255  # data, nodata
    image[:, 128:256] = 30  # of one colour: skipped
    run(tmp_path, write_scene("a.tif", image, nodata=255), overlap=0)
    meta, (area,), fields = searched(tmp_path / "out.gpkg")
    assert meta["crs"] == "EPSG:32631"
    assert area.symmetric_difference(on_ground(0, 0, 128, 128)).area < 1e-6
    assert (fields["scene"].tolist(), fields["objects"].tolist()) == (["a.tif"], [1])


def test_ground_searched_is_inside_the_area_of_interest(tmp_path, blobs, scene):
    area = on_ground(10, 20, 200, 100).difference(on_ground(50, 50, 60, 60))
    aoi = tmp_path / "aoi.gpkg"
    pyogrio.raw.write(aoi, shapely.to_wkb([area]), [], [], driver="GPKG", geometry_type="Polygon", crs="EPSG:32631")
    run(tmp_path, scene, aoi=aoi, crs="EPSG:32632")
    meta, (found,), _ = searched(tmp_path / "out.gpkg")
    assert meta["crs"] == "EPSG:32632"
    back = pyproj.Transformer.from_crs(32632, 32631, always_xy=True)
    found = shapely.transform(found, lambda xy: np.stack(back.transform(*xy.T), 1))
    assert found.symmetric_difference(area).area < 1e-3 * area.area


def test_ground_searched_over_the_antimeridian(tmp_path, blobs, write_scene):
    image = draw((100, 200), [(60, 50, 40, 12, 0)], [160])
    run(tmp_path, write_scene("a.tif", image, crs="EPSG:4326", transform=Affine(0.01, 0, 179, 0, -0.01, 10)), stac=True)
    _, (area,), _ = searched(tmp_path / "out.gpkg")
    assert sorted(part.bounds for part in area.geoms) == [(-180, 9, -179, 10), (179, 9, 180, 10)]


def test_ground_searched_of_a_plain_picture(tmp_path, blobs, write_scene):
    run(tmp_path, write_scene("a.png", draw(SHAPE, BOXES, VALUES), crs=None, transform=None))
    _, (area,), _ = searched(tmp_path / "out.gpkg")
    assert area.bounds == (0, -SHAPE[0], SHAPE[1], 0)


def test_a_layer_may_be_called_searched(tmp_path, blobs, scene):
    run(tmp_path, scene, "searched.gpkg")
    layers = [str(name) for name in pyogrio.list_layers(tmp_path / "searched.gpkg")[:, 0]]
    assert layers == ["searched", "searched_ground", "layer_styles"]
