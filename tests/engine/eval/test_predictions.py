import json
import stat
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from blobs import CLASSES, HALF_METRE, draw
from eval_set import NAMES, OBJECTS, SIZE, as_csv, as_task1, config, perfect, write_dota

from legnet_cli.boxes import Detections, boxes_to_polygons
from legnet_cli.data.tables import ImageDetections, write_task1
from legnet_cli.engine.eval import evaluate
from legnet_cli.engine.eval.truth import Source, load_truth
from legnet_cli.errors import DataError, GeoError, LegnetError
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.vector import Layer, write_layer


def as_zip(folder, inner=""):
    source = as_task1(folder)
    with zipfile.ZipFile(folder / "task1.zip", "w") as archive:
        for file in source.iterdir():
            archive.write(file, inner + file.name)
    return folder / "task1.zip"


def as_nested_zip(folder):
    return as_zip(folder, "results/")


def as_layer(folder, suffix=".gpkg"):
    rows = perfect(".png")
    found = Detections.concat([row.detections for row in rows])
    fields = {
        "class": np.array(CLASSES)[found.labels],
        "score": found.scores.astype(float),
        "scene": np.repeat([row.image for row in rows], [len(row.detections) for row in rows]),
    }
    path = folder / f"found{suffix}"
    write_layer(path, Layer(boxes_to_polygons(found.boxes), None, fields))
    return path


@pytest.mark.parametrize("write", [as_task1, as_csv, as_zip, as_nested_zip, as_layer])
def test_perfect_predictions_of_any_format(dota, tmp_path, write):
    result = evaluate(config(dota, tmp_path / "run", predictions=write(tmp_path)))
    saved = json.loads((tmp_path / "run/metrics.json").read_text())
    assert saved["map"]["voc07"]["0.50"] == saved["map"]["area"]["0.90"] == 1
    assert saved["ap"]["voc07"]["0.50"] == {"dim": 1, "bright": 1}
    assert saved["operating_point"]["overall"]["f1"] == 1
    assert saved["confusion"]["labels"] == ["bright", "dim", "background"]
    assert saved["confusion"]["matrix"] == [[2, 0, 0], [0, 3, 0], [0, 0, 0]]
    assert saved == json.loads(json.dumps(result.metrics))
    assert not list(tmp_path.glob(".legnet*"))


@pytest.mark.parametrize("weights", [True, False])
def test_tiles_are_put_together(tmp_path, detector, weights):
    data = write_dota(tmp_path / "tiles", tile=128)
    truth = load_truth(Source(data))
    assert truth.names == ("P1", "P2")
    assert len(truth.frames) == 24
    assert np.bincount(truth.truths.images).tolist() == [3, 2]
    predictions = {"weights": "w"} if weights else {"predictions": as_task1(tmp_path)}
    result = evaluate(config(data, tmp_path / "run", **predictions))
    assert result.metrics["images"] == 2
    assert result.metrics["map"]["area"]["0.70"] == 1
    assert sum(result.metrics["counts"]["predictions"].values()) == 5


@pytest.mark.parametrize(("name", "zoom"), [("P1__128__64___32", 1), ("P1__0.5__64___32", 0.5), ("P1__1__64___32", 1)])
def test_predictions_on_tiles_of_whole_images(tmp_path, name, zoom):
    data = write_dota(tmp_path / "dota", {"P1": OBJECTS["P1"]})
    row = perfect()[0].detections
    moved = row.boxes * [zoom, zoom, zoom, zoom, 1] - [64, 32, 0, 0, 0]
    parts = [ImageDetections(name, replace(row, boxes=moved)), ImageDetections("P1", row[1:])]
    write_task1(tmp_path / "found", parts, CLASSES)
    result = evaluate(config(data, tmp_path / "run", predictions=tmp_path / "found"))
    assert result.metrics["map"]["area"]["0.90"] == 1
    assert sum(result.metrics["counts"]["predictions"].values()) == 3


def map_layer(path, boxes, names, scores=None, crs=None, **fields):
    quads = boxes_to_polygons(np.array(boxes, float))
    georef = Georef("affine", SIZE[1], SIZE[0], transform=HALF_METRE)
    corners = georef.to_map(quads.reshape(-1, 2)).reshape(quads.shape)
    columns = {"class": np.array(names), **fields}
    if scores is not None:
        columns["score"] = np.array(scores, float)
    write_layer(path, Layer(corners, crs, columns))
    return path


@pytest.fixture
def utm():
    import pyproj

    return pyproj.CRS.from_epsg(32631)


@pytest.mark.parametrize("with_image", [True, False])
def test_layers_on_the_map(tmp_path, write_scene, utm, with_image):
    boxes, values = OBJECTS["P1"]
    names = [NAMES[value] for value in values]
    truth = map_layer(tmp_path / "data/truth.gpkg", boxes, names, crs=utm)
    found = map_layer(tmp_path / "found.gpkg", boxes, names, [0.9, 0.8, 0.7], utm, scene=np.array(["a.tif"] * 3))
    if with_image:
        write_scene("data/a.tif", draw(SIZE, boxes, values))
    result = evaluate(config(truth, tmp_path / "run", predictions=found))
    assert result.metrics["map"]["area"]["0.95"] == 1
    sizes = result.metrics["size"]
    assert (sizes["pixels"] is not None) == with_image
    # lengths are 40, 30 and 60 pixels of half a metre
    assert [part["truths"] for part in sizes["metres"].values()] == [0, 3, 0]


def test_layer_on_the_map_needs_a_map(dota, tmp_path, utm):
    boxes = OBJECTS["P1"][0]
    found = map_layer(tmp_path / "f.gpkg", boxes, ["dim"] * 3, [1, 1, 1], utm, scene=np.array(["P1.png"] * 3))
    with pytest.raises(GeoError, match=r"is in map coordinates, but image 'P1\.png' has none"):
        evaluate(config(dota, tmp_path / "run", predictions=found))


def bad_zip(folder, name, mode=0):
    with zipfile.ZipFile(folder / "bad.zip", "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, "P1 0.9 0 0 1 0 1 1 0 1\n")
    return folder / "bad.zip"


def text_file(folder, name, text):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


HEAD = "image,class,score,cx,cy,w,h,angle\n"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda d: bad_zip(d, "../Task1_dim.txt"), r"holds '\.\./Task1_dim\.txt', a path outside the zip"),
        (lambda d: bad_zip(d, "/etc/Task1_dim.txt"), "a path outside the zip"),
        (lambda d: bad_zip(d, "Task1_dim.txt", stat.S_IFLNK | 0o777), "a path outside the zip"),
        (lambda d: bad_zip(d, "dim.txt"), r"bad\.zip: holds no Task1_\*\.txt"),
        (lambda d: bad_zip(d, "Task1_dmi.txt"), r"bad\.zip: predictions of unknown class 'dmi': did you mean 'dim'\?"),
        (lambda d: text_file(d, "bad.zip", "no zip"), r"bad\.zip: cannot be unpacked"),
        (lambda d: d / "absent", "absent: does not exist"),
        (lambda d: text_file(d, "t/readme.txt", "x").parent, r"holds no Task1_\*\.txt"),
        (
            lambda d: text_file(d, "t/Task1_dim.txt", "P1 nan 0 0 1 0 1 1 0 1\n").parent,
            r"Task1_dim\.txt, line 1: ",
        ),
        (
            lambda d: text_file(d, "f.csv", HEAD + "P9.png,dim,0.9,1,1,5,5,0\n"),
            r"on image 'P9\.png'.*it has P1, P2",
        ),
        (lambda d: text_file(d, "f.csv", HEAD + "P1,dim,0.9,1,1,nan,5,0\n"), r"f\.csv, line 2: a number is missing"),
        (lambda d: text_file(d, "f.txt", ""), r"unknown format of predictions: give \.csv"),
    ],
)
def test_bad_predictions(dota, tmp_path, write, message):
    with pytest.raises(LegnetError, match=message) as caught:
        evaluate(config(dota, tmp_path / "run", predictions=write(tmp_path)))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code in (2, 3)
    assert not (tmp_path / "run").exists()


def test_zip_names_itself_not_a_temporary_file(dota, tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("Task1_dim.txt", "P1 0.9 0 0 1 0 1 1 0 1\nP1 0.9 oops\n")
    with pytest.raises(DataError, match=rf"^{tmp_path}/bad\.zip: Task1_dim\.txt, line 2: "):
        evaluate(config(dota, tmp_path / "run", predictions=tmp_path / "bad.zip"))
