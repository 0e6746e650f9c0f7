"""Which tiles of a scene are searched."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from blobs import BlobDetector

from legnet_cli.engine.predict import PredictConfig
from legnet_cli.engine.predict.plan import plan_scene, scene_names, shares
from legnet_cli.errors import ConfigError
from legnet_cli.geo.aoi import Aoi, read_aoi, tiles_touching
from legnet_cli.geo.crs import WGS84
from legnet_cli.tiles import TileGrid

CARD = BlobDetector().card
LARGEST = 2**31 - 1
VRT = f"""<VRTDataset rasterXSize="{LARGEST}" rasterYSize="{LARGEST}">
<SRS>EPSG:32631</SRS><GeoTransform>500000, 0.001, 0, 5000000, 0, -0.001</GeoTransform>
<VRTRasterBand dataType="Byte" band="1"/></VRTDataset>"""


def plan(path, aoi=None, card=CARD, **values):
    return plan_scene(str(path), "a", "", PredictConfig((str(path),), "out.gpkg", **values), card, aoi)


@pytest.mark.parametrize("values", [{}, {"gsd": 0.01}, {"tile": 16384, "overlap": 0}])
@pytest.mark.parametrize("inside", [False, True])
def test_a_boundless_scene_is_refused_before_its_tiles_are_listed(tmp_path, monkeypatch, values, inside):
    (tmp_path / "a.vrt").write_text(VRT)
    area = Aoi(shapely.box(-10, 20, 40, 60), WGS84, tmp_path) if inside else None
    monkeypatch.setattr(TileGrid, "__getitem__", lambda *_: pytest.fail("a tile was listed"))
    with pytest.raises(ConfigError, match=r"a: has [\d,]{12,} tiles: search a part"):
        plan(tmp_path / "a.vrt", area, **values)


def test_a_part_of_a_boundless_scene_can_be_searched(tmp_path):
    (tmp_path / "a.vrt").write_text(VRT)
    found = plan(tmp_path / "a.vrt", Aoi(shapely.box(3.1, 45, 3.10001, 45.00001), WGS84, tmp_path))
    assert 50 < len(found.tiles) < 500
    assert [tile for _, block in shares([found], None) for tile in found.block(block)] == list(found.tiles)


@pytest.mark.parametrize("seed", range(8))
def test_tiles_inside_an_area_are_those_that_touch_it(tmp_path, write_scene, seed):
    rng = np.random.default_rng(seed)
    path = write_scene("a.tif", np.zeros((700, 900), np.uint8), crs=None, transform=None)
    triangle = shapely.Polygon(rng.uniform(-50, 800, (3, 2)))
    (tmp_path / "area.geojson").write_text(
        '{"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": "ENGCRS[\\"p\\",EDATUM[\\"i\\"],'
        'CS[Cartesian,2],AXIS[\\"x\\",east],AXIS[\\"y\\",south],LENGTHUNIT[\\"pixel\\",1]]"}}, "features": '
        f'[{{"type": "Feature", "properties": {{}}, "geometry": {shapely.to_geojson(triangle)}}}]}}'
    )
    found = plan(path, read_aoi(tmp_path / "area.geojson"))
    every = list(TileGrid(700, 900, 128, 48))
    inside = shapely.intersection(triangle, shapely.box(0, 0, 900, 700))
    expected = [tile for tile, touches in zip(every, tiles_touching(inside, every), strict=True) if touches]
    assert list(found.tiles) == expected
    assert found.tiles[0] == expected[0]


@pytest.mark.parametrize(
    ("trained", "told"),
    [
        (None, None),
        (0.3, None),
        ((0.1, 0.3), None),
        (0.2, "2.5 times coarser than those that blobs learned from: --gsd model searches at 0.2 m"),
        ((2, 4), "4 times finer than those that blobs learned from: --gsd model searches at 2 m"),
    ],
)
def test_pixels_far_from_those_of_training_are_told(write_scene, caplog, trained, told):
    path = write_scene("a.tif", np.zeros((300, 400), np.uint8))
    card = replace(CARD, name="blobs", gsd=trained)
    assert plan(path, card=card).scene.width == 400
    assert [record.getMessage() for record in caplog.records if "learned" in record.getMessage()] == (
        [f"a: its pixels of 0.5 m are {told}"] if told else []
    )


@pytest.mark.parametrize(
    ("trained", "size"),
    [
        (0.25, (800, 600)),
        ((0.1, 0.25), (800, 600)),
        ((0.4, 1.0), (400, 300)),
        ((1, 2), (200, 150)),
        (0.498, (400, 300)),
    ],
)
def test_a_search_at_the_models_scale(write_scene, caplog, trained, size):
    path = write_scene("a.tif", np.zeros((300, 400), np.uint8))
    scene = plan(path, card=replace(CARD, gsd=trained), gsd="model").scene
    assert (scene.width, scene.height) == size
    assert "learned" not in caplog.text


def test_a_model_that_does_not_say_its_scale(write_scene):
    path = write_scene("a.tif", np.zeros((300, 400), np.uint8))
    with pytest.raises(ConfigError, match="does not say its ground sampling distance: give metres per pixel"):
        plan(path, gsd="model")


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.tif", "b/y.tif"], ["x.tif", "y.tif"]),
        (["n/ortho.tif", "s/ortho.tif", "s/b.tif"], ["n/ortho.tif", "s/ortho.tif", "b.tif"]),
        (["1/n/o.tif", "2/n/o.tif", "2/s/o.tif"], ["1/n/o.tif", "2/n/o.tif", "s/o.tif"]),
        (["/vsis3/b/o.tif", "o.tif"], ["b/o.tif", "o.tif"]),
        (["/vsicurl/https://x/a.tif?key=b/c", "/vsis3/b/d.tif"], ["a.tif", "d.tif"]),
        (["/vsicurl/https://x/a?band=1", "/vsicurl/https://x/a?band=2"], ["a?band=1", "a?band=2"]),
    ],
)
def test_names_are_the_shortest_that_tell_scenes_apart(paths, names):
    assert scene_names(paths) == names
