"""The whole way with real weights: a drawn scene, the detector of the package, a layer in map coordinates."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from make_scene import CLASSES, draw_scene, main, record

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.engine.predict import PredictConfig, predict
from legnet_cli.ops.iou import rotated_iou

SIDE = 640


@pytest.fixture(scope="module")
def drawn():
    return draw_scene(SIDE, 0.5, seed=11)


def recall(found, truth, label, classes):
    boxes = found.boxes[found.labels == classes.index(CLASSES[label])]
    wanted = truth.boxes[truth.labels == label]
    iou = rotated_iou(torch.from_numpy(wanted), torch.from_numpy(boxes)).numpy()
    return (iou.max(1, initial=0) > 0.5).mean()


@pytest.mark.parametrize("tile", [1024, 384])
def test_drawn_objects_are_found(tmp_path, write_scene, drawn, tile):
    image, truth = drawn
    scene = write_scene("a.tif", image.transpose(2, 0, 1))
    result = predict(PredictConfig(scenes=(scene,), out=tmp_path / "o.geojson", tile=tile))
    found = result.scenes[0].detections
    assert recall(found, truth, CLASSES.index("ship"), result.classes) > 0.9
    assert recall(found, truth, CLASSES.index("storage-tank"), result.classes) > 0.9
    features = json.loads((tmp_path / "o.geojson").read_text())["features"]
    assert len(features) == len(found)
    # the layer's first polygon, back in pixels
    georef = result.scenes[0].georef
    corners = np.array(shapely.geometry.shape(features[0]["geometry"]).exterior.coords)[:4]
    pixels = [georef.to_lonlat(corner[None])[0] for corner in boxes_to_polygons(found.boxes[:1])[0]]
    assert {tuple(p) for p in np.round(pixels, 6)} == {tuple(p) for p in np.round(corners, 6)}


def test_same_file_whatever_the_batch(tmp_path, write_scene, drawn):
    scene = write_scene("a.tif", drawn[0].transpose(2, 0, 1))
    files = []
    for batch in (1, 3):
        out = tmp_path / f"{batch}" / "o.geojson"
        predict(PredictConfig(scenes=(scene,), out=out, tile=384, batch=batch))
        files.append(out.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("sensor", "bands", "kind"), [("rgb", 3, "u1"), ("panchromatic", 1, "u1"), ("multispectral", 4, "u2")]
)
def test_sensors_store_the_same_scene(drawn, sensor, bands, kind):
    stored = record(drawn[0], sensor)
    assert stored.shape == (bands, SIDE, SIDE)
    assert stored.dtype == np.dtype(kind)
    red = stored[2 if sensor == "multispectral" else 0]
    assert np.corrcoef(red.ravel(), drawn[0][..., 0].ravel())[0, 1] > 0.9


def test_corrupted_scene_has_the_same_objects(tmp_path):
    for name, corruption in (("clean", None), ("hazy", "haze:5")):
        main(tmp_path / f"{name}.tif", tmp_path / f"{name}.geojson", size=256, seed=3, corruption=corruption)
    truths = [json.loads((tmp_path / f"{name}.geojson").read_text())["features"] for name in ("clean", "hazy")]
    assert truths[0] == truths[1] != []
    import rasterio

    clean, hazy = (rasterio.open(tmp_path / f"{name}.tif").read().astype(float) for name in ("clean", "hazy"))
    assert hazy.std() < clean.std()
    assert hazy.mean() > clean.mean() + 50


def test_the_example_scene_is_small_enough_to_ship():
    assert (Path(__file__).parents[3] / "examples" / "scene.tif").stat().st_size < 500_000
