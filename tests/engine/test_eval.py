import json
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from blobs import CLASSES, HALF_METRE, BlobDetector, draw

from legnet_cli.boxes import Detections, boxes_to_polygons
from legnet_cli.data.tables import ImageDetections, write_csv, write_task1
from legnet_cli.engine.compare import CompareConfig, compare
from legnet_cli.engine.eval import EvalConfig, evaluate
from legnet_cli.engine.eval_data import Source, TileName, load_truth
from legnet_cli.errors import ConfigError, DataError, GeoError, LegnetError
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.vector import Layer, write_layer
from legnet_cli.tiles import tile_grid

SIZE = (220, 260)
# by image: boxes, and the grey values that the detector tells the classes by
OBJECTS = {
    "P1": ([(60, 60, 40, 20, 0.3), (180, 60, 30, 16, -0.4), (140, 150, 60, 24, 1.0)], (160, 250, 160)),
    "P2": ([(100, 100, 50, 20, 0.0), (200, 180, 24, 14, 0.7)], (250, 160)),
}
NAMES = {160: "dim", 250: "bright"}


def line(quad, name, difficult=0):
    return " ".join([*(f"{value:.3f}" for value in quad.ravel()), name, str(difficult)])


def write_dota(root, objects=OBJECTS, difficult=(), tile=None):
    """A DOTA folder; ``tile`` cuts each image into tiles of that side, named after their places."""
    for folder in ("images", "labelTxt"):
        (root / folder).mkdir(parents=True)
    for image, (boxes, values) in objects.items():
        pixels = draw(SIZE, boxes, values)
        quads = boxes_to_polygons(np.array(boxes, float))
        for place in tile_grid(*SIZE, tile or 1000, 64):
            name = f"{image}__{tile}__{place.col}___{place.row}" if tile else image
            window = pixels[place.row : place.row + place.height, place.col : place.col + place.width]
            assert cv2.imwrite(str(root / "images" / f"{name}.png"), window)
            lines = []
            for number, (quad, value) in enumerate(zip(quads - (place.col, place.row), values, strict=True)):
                seen = ((quad >= 0) & (quad <= (place.width, place.height))).all(1).mean()
                if seen > 0.5:
                    flag = 1 if (image, number) in difficult else 2 * (seen < 1)
                    lines.append(line(quad, NAMES[value], flag))
            (root / "labelTxt" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def dota(tmp_path):
    return write_dota(tmp_path / "dota")


@pytest.fixture
def detector(monkeypatch):
    found = BlobDetector()
    monkeypatch.setattr("legnet_cli.engine.eval.load_detector", lambda *_, **__: found)
    return found


def perfect(suffix="", objects=OBJECTS):
    rows = []
    for image, (boxes, values) in objects.items():
        labels = np.array([CLASSES.index(NAMES[value]) for value in values])
        scores = np.linspace(0.9, 0.5, len(labels)).astype(np.float32)
        rows.append(ImageDetections(image + suffix, Detections(np.array(boxes, float), scores, labels)))
    return rows


def config(data, out, **options):
    return EvalConfig(data=data, out=out, **options)


def map50(result):
    return result.metrics["summary"]["voc07"]["mAP50"]


# ---- predictions


def as_task1(folder):
    write_task1(folder / "task1", perfect(), CLASSES)
    return folder / "task1"


def as_csv(folder):
    write_csv(folder / "found.csv", perfect(".png"), CLASSES)
    return folder / "found.csv"


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


def test_difficult(tmp_path):
    data = write_dota(tmp_path / "dota", difficult=[("P1", 0), ("P2", 1)])
    rows = perfect()
    rows = [ImageDetections(row.image, row.detections[1:]) for row in rows]  # the first of each image is missed
    write_task1(tmp_path / "found", rows, CLASSES)
    plain, counted = (
        evaluate(config(data, tmp_path / f"run{mode}", predictions=tmp_path / "found", count_difficult=mode)).metrics
        for mode in (False, True)
    )
    assert plain["counts"]["truths"] == {"bright": 2, "dim": 1}
    assert plain["counts"]["ignored"] == {"bright": 0, "dim": 2}
    assert plain["ap"]["area"]["0.50"] == {"bright": 0.5, "dim": 1}
    assert counted["counts"]["truths"] == {"bright": 2, "dim": 3}
    assert counted["ap"]["area"]["0.50"] == {"bright": 0.5, "dim": pytest.approx(2 / 3)}
    assert (plain["rules"], counted["rules"]) == ("dota", "mmrotate")


def test_a_class_without_objects(dota, tmp_path, caplog):
    rows = perfect()
    extra = Detections(np.array([[20, 20, 10, 10, 0.0]]), np.array([0.9], np.float32), np.array([2]))
    rows[0] = ImageDetections("P1", Detections.concat([rows[0].detections, extra]))
    write_csv(tmp_path / "found.csv", rows, [*CLASSES, "ship"])
    with pytest.raises(DataError, match=r"found\.csv: predictions of unknown class 'ship': known are bright, dim"):
        evaluate(config(dota, tmp_path / "run", predictions=tmp_path / "found.csv"))
    classes = ("dim", "bright", "ship")
    result = evaluate(config(dota, tmp_path / "run", predictions=tmp_path / "found.csv", classes=classes))
    assert result.metrics["classes_without_truth"] == ["ship"]
    assert map50(result) == 1
    assert "no object of ship: not in any mean" in caplog.text


def test_dota_classes_without_objects_are_known(tmp_path):
    objects = {"P1": ([(60, 60, 40, 20, 0.3)], (160,))}
    data = write_dota(tmp_path / "dota", objects)
    text = data / "labelTxt/P1.txt"
    text.write_text(text.read_text().replace("dim", "plane"))
    write_task1(tmp_path / "found", perfect(objects=objects), ["plane", "ship"])
    result = evaluate(config(data, tmp_path / "run", predictions=tmp_path / "found"))
    assert result.metrics["classes"] == ["plane", "ship"]
    assert map50(result) == 1


def test_chosen_classes(dota, tmp_path):
    result = evaluate(config(dota, tmp_path / "run", predictions=as_csv(tmp_path), classes=("dim",)))
    assert result.metrics["ap"]["voc07"]["0.50"] == {"dim": 1}
    assert sum(result.metrics["counts"]["predictions"].values()) == 3


def test_no_predictions(dota, tmp_path):
    write_csv(tmp_path / "found.csv", [], CLASSES)
    result = evaluate(config(dota, tmp_path / "run", predictions=tmp_path / "found.csv"))
    assert map50(result) == 0
    assert result.metrics["operating_point"]["overall"] is None
    assert result.metrics["confusion"]["matrix"] == [[0, 0, 2], [0, 0, 3], [0, 0, 0]]
    assert (tmp_path / "run/report.html").exists()


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
    tile = TileName.parse(name)
    assert (tile.image, tile.col, tile.row, tile.zoom) == ("P1", 64, 32, zoom)
    row = perfect()[0].detections
    moved = row.boxes * [zoom, zoom, zoom, zoom, 1] - [64, 32, 0, 0, 0]
    parts = [ImageDetections(name, replace(row, boxes=moved)), ImageDetections("P1", row[1:])]
    write_task1(tmp_path / "found", parts, CLASSES)
    result = evaluate(config(data, tmp_path / "run", predictions=tmp_path / "found"))
    assert result.metrics["map"]["area"]["0.90"] == 1
    assert sum(result.metrics["counts"]["predictions"].values()) == 3


# ---- vector layers


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


def test_gsd_of_the_labels(tmp_path):
    data = write_dota(tmp_path / "dota", {"P1": OBJECTS["P1"]})
    text = data / "labelTxt/P1.txt"
    text.write_text("imagesource:GoogleEarth\ngsd:0.25\n" + text.read_text())
    truth = load_truth(Source(data))
    assert truth.truths.metres == pytest.approx([10, 7.5, 15], abs=1e-3)


# ---- weights


def test_weights(dota, tmp_path, detector):
    result = evaluate(config(dota, tmp_path / "run", weights="w", submission=tmp_path / "sub.zip"))
    assert result.metrics["map"]["area"]["0.70"] == 1
    with zipfile.ZipFile(tmp_path / "sub.zip") as archive:
        assert sorted(archive.namelist()) == ["Task1_bright.txt", "Task1_dim.txt"]
    again = evaluate(config(dota, tmp_path / "again", predictions=tmp_path / "sub.zip"))
    assert again.metrics["map"]["area"]["0.70"] == 1


def test_names_that_a_submission_cannot_hold(tmp_path, detector):
    data = write_dota(tmp_path / "dota", {"an image": OBJECTS["P1"]})
    with pytest.raises(ConfigError, match="'an image' has a space"):
        evaluate(config(data, tmp_path / "run", weights="w", submission=tmp_path / "sub.zip"))
    assert detector.batches == []
    result = evaluate(config(data, tmp_path / "run", weights="w"))
    assert result.metrics["map"]["area"]["0.70"] == 1


def test_label_without_image(dota, tmp_path, detector):
    (dota / "images/P2.png").unlink()
    with pytest.raises(DataError, match=r"P2\.txt: its image is missing"):
        evaluate(config(dota, tmp_path / "run", weights="w"))
    result = evaluate(config(dota, tmp_path / "run", predictions=as_task1(tmp_path)))
    assert map50(result) == 1  # predictions need no image


def test_any_worker_count_and_batch(dota, tmp_path, detector):
    runs = []
    for workers, batch in ((1, 1), (4, 3)):
        run = tmp_path / f"run{workers}"
        evaluate(config(dota, run, weights="w", tile=300, workers=workers, batch=batch, submission=run / "s.zip"))
        runs.append([file.read_bytes() for file in sorted(run.iterdir())])
    assert runs[0] == runs[1]
    assert max(detector.batches) == 2  # both images fit one tile, so they share a batch


def test_robustness(tmp_path, detector):
    data = write_dota(tmp_path / "dota", {"P1": OBJECTS["P1"]})
    steps = []
    result = evaluate(config(data, tmp_path / "run", weights="w", robustness=True, tile=300), steps.append)
    saved = json.loads((tmp_path / "run/metrics.json").read_text())["robustness"]
    assert len(saved["kinds"]) == 9
    assert saved["kinds"]["jpeg"]["relative_drop"] == 0
    assert saved["kinds"]["low-light"]["voc07"]["mAP50"][-1] == 0  # too dark for a detector by brightness
    assert 0 < saved["mean_relative_drop"] < 1
    assert saved["mean_relative_drop"] == result.robustness.drop
    assert steps[-1].tiles_done == steps[-1].tiles_total == 46
    assert (tmp_path / "run/robustness.png").exists()


def test_a_model_without_a_class_of_the_labels(dota, tmp_path, detector):
    text = dota / "labelTxt/P1.txt"
    text.write_text(text.read_text().replace("bright", "brihgt"))
    with pytest.raises(DataError, match=r"labels of unknown class 'brihgt': did you mean 'bright'\?.*--classes"):
        evaluate(config(dota, tmp_path / "run", weights="w"))


# ---- bad input


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
        (lambda d: bad_zip(d, "../Task1_dim.txt"), r"holds '\.\./Task1_dim\.txt', which leads out of the zip"),
        (lambda d: bad_zip(d, "/etc/Task1_dim.txt"), "which leads out of the zip"),
        (lambda d: bad_zip(d, "Task1_dim.txt", stat.S_IFLNK | 0o777), "which leads out of the zip"),
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either --weights or --predictions"),
        ({"weights": "w", "predictions": Path("p")}, "give either --weights or --predictions"),
        ({"predictions": Path("p"), "robustness": True}, "--robustness searches degraded images: give --weights"),
        ({"weights": "w", "score": 2}, "--score 2 is not a score"),
        ({"weights": "w", "workers": 0}, "--workers 0 is too small"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        config(Path("d"), Path("o"), **options)


def test_unlabelled_data(tmp_path):
    data = write_dota(tmp_path / "dota", {"P1": ([], ())})
    write_csv(tmp_path / "f.csv", [], CLASSES)
    with pytest.raises(DataError, match="holds no object to measure by"):
        evaluate(config(data, tmp_path / "run", predictions=tmp_path / "f.csv"))


def test_existing_report(dota, tmp_path):
    found = as_csv(tmp_path)
    evaluate(config(dota, tmp_path / "run", predictions=found))
    (tmp_path / "run/robustness.png").touch()  # of an earlier report
    with pytest.raises(ConfigError, match=r"exists already.*--overwrite"):
        evaluate(config(dota, tmp_path / "run", predictions=found))
    evaluate(config(dota, tmp_path / "run", predictions=found, overwrite=True))
    assert not (tmp_path / "run/robustness.png").exists()


def test_splits(tmp_path):
    for split in ("train", "val"):
        write_dota(tmp_path / "dota" / split, {split: OBJECTS["P1"]})
    assert load_truth(Source(tmp_path / "dota")).names == ("val",)
    assert load_truth(Source(tmp_path / "dota", split="train")).names == ("train",)


# ---- comparison


def test_compare(dota, tmp_path):
    write_csv(tmp_path / "none.csv", [], CLASSES)
    evaluate(config(dota, tmp_path / "good", predictions=as_csv(tmp_path)))
    evaluate(config(dota, tmp_path / "bad", predictions=tmp_path / "none.csv"))
    result = compare(CompareConfig((tmp_path / "good", tmp_path / "bad"), tmp_path / "both"))
    assert [run["mAP50"] for run in result.summary.values()] == [1, 0]
    assert result.classes == {"good": {"bright": 1, "dim": 1}, "bad": {"bright": 0, "dim": 0}}
    saved = json.loads((tmp_path / "both/compare.json").read_text())
    assert saved == result.to_dict()
    assert "good" in (tmp_path / "both/report.html").read_text()


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_compare_what_is_no_report(tmp_path, text):
    text_file(tmp_path, "run/metrics.json", text)
    with pytest.raises(DataError, match=r"metrics\.json: cannot be read as metrics"):
        compare(CompareConfig((tmp_path / "run", tmp_path / "run"), tmp_path / "both"))
