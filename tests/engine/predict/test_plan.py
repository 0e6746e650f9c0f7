"""Which tiles of a scene are searched."""

import numpy as np
import pytest
import shapely
from blobs import BlobDetector

from legnet_cli.engine.predict import PredictConfig
from legnet_cli.engine.predict.plan import plan_scene, shares
from legnet_cli.errors import ConfigError
from legnet_cli.geo.aoi import Aoi, read_aoi, tiles_touching
from legnet_cli.geo.crs import WGS84
from legnet_cli.tiles import TileGrid

CARD = BlobDetector().card
LARGEST = 2**31 - 1
VRT = f"""<VRTDataset rasterXSize="{LARGEST}" rasterYSize="{LARGEST}">
<SRS>EPSG:32631</SRS><GeoTransform>500000, 0.001, 0, 5000000, 0, -0.001</GeoTransform>
<VRTRasterBand dataType="Byte" band="1"/></VRTDataset>"""


def plan(path, aoi=None, **values):
    return plan_scene(str(path), "a", "", PredictConfig((str(path),), "out.gpkg", **values), CARD, aoi)


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
