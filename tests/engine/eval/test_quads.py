"""Quadrilaterals that are no rectangles: predictions are compared as they were drawn, whatever file they come in."""

import csv
import shutil
import zipfile

import numpy as np
import pytest
import shapely
from eval_set import config, write_dota

from legnet_cli.boxes import Detections, boxes_to_polygons, polygons_to_boxes
from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.tables import ImageDetections, write_csv, write_task1
from legnet_cli.engine.convert import ConvertConfig, convert
from legnet_cli.engine.eval import evaluate
from legnet_cli.engine.eval.matching import iou_pairs
from legnet_cli.geo.vector import Layer, write_layer
from legnet_cli.ops.quads import quad_iou

PARALLELOGRAM = [(20, 20), (90, 20), (130, 60), (60, 60)]
TRAPEZIUM = [(60, 110), (100, 110), (140, 150), (40, 150)]
KITE = [(160, 30), (200, 80), (160, 180), (150, 60)]
ARROW = [(20, 160), (70, 190), (20, 205), (35, 185)]  # not convex
CROSSED = [(200, 20), (240, 60), (240, 20), (200, 60)]  # the corners of a square in a wrong order
RECTANGLE = [(150, 190), (200, 190), (200, 210), (150, 210)]
QUADS = np.array([PARALLELOGRAM, TRAPEZIUM, KITE, ARROW, CROSSED, RECTANGLE], float)
CLASSES = ("bridge", "ship")
LABELS = np.array([0, 1, 0, 1, 0, 1])


@pytest.fixture
def data(tmp_path):
    """Two images in DOTA's layout: the quads, and the same a little to the right."""
    root = write_dota(tmp_path / "data", {name: ([(9, 9, 4, 4, 0)], (250,)) for name in ("P1", "P2")})
    for name, quads in zip(("P1", "P2"), (QUADS, QUADS + (7, 0)), strict=True):
        rows = zip(quads.reshape(-1, 8).tolist(), LABELS, strict=True)
        text = "".join(f"{' '.join(map(str, quad))} {CLASSES[label]} 0\n" for quad, label in rows)
        (root / "labelTxt" / f"{name}.txt").write_text(text)
    return root


def labels_as_predictions(root):
    return [
        ImageDetections(
            image.stem,
            Detections(
                image.boxes,
                np.linspace(0.9, 0.5, len(image)).astype(np.float32),
                np.array([CLASSES.index(name) for name in image.names]),
                image.quads,
            ),
        )
        for image in load_dataset(root).images
    ]


def as_task1(folder, rows):
    write_task1(folder / "task1", rows, CLASSES)
    return folder / "task1"


def as_zip(folder, rows):
    with zipfile.ZipFile(folder / "task1.zip", "w") as archive:
        for file in as_task1(folder, rows).iterdir():
            archive.write(file, file.name)
    return folder / "task1.zip"


def as_csv(folder, rows):
    write_csv(folder / "found.csv", rows, CLASSES)
    return folder / "found.csv"


def as_csv_of_corners(folder, rows):
    with as_csv(folder, rows).open(newline="") as file:
        lines = [
            {k: v for k, v in row.items() if k not in ("cx", "cy", "w", "h", "angle")} for row in csv.DictReader(file)
        ]
    with (folder / "corners.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return folder / "corners.csv"


def as_layer(suffix):
    def write(folder, rows):
        found = Detections.concat([row.detections for row in rows])
        fields = {
            "class": np.array(CLASSES)[found.labels],
            "score": found.scores.astype(float),
            "scene": np.repeat([row.image for row in rows], [len(row.detections) for row in rows]),
        }
        write_layer(folder / f"found{suffix}", Layer(found.corners, None, fields))
        return folder / f"found{suffix}"

    return pytest.param(write, id=f"as_layer{suffix}")


WRITERS = [as_task1, as_zip, as_csv, as_csv_of_corners, *map(as_layer, (".geojson", ".gpkg", ".fgb", ".shp"))]


def values(found):
    """All numbers in nested dicts."""
    return [number for part in found.values() for number in (values(part) if isinstance(part, dict) else [part])]


@pytest.mark.parametrize("count_difficult", [False, True])
@pytest.mark.parametrize("write", WRITERS)
def test_labels_as_predictions(tmp_path, data, write, count_difficult):
    found = write(tmp_path, labels_as_predictions(data))
    metrics = evaluate(config(data, tmp_path / "run", predictions=found, count_difficult=count_difficult)).metrics
    assert set(values(metrics["ap"])) == {1.0}
    assert metrics["confusion"]["matrix"] == [[6, 0, 0], [0, 6, 0], [0, 0, 0]]


@pytest.mark.parametrize("format", ["dota", "dior", "fair1m", "hrsc", "yolo-obb", "coco", "gpkg", "geojson"])
def test_labels_of_any_format_as_predictions(tmp_path, data, format):
    labelled = tmp_path / "labelled"
    if format in ("gpkg", "geojson"):
        shutil.copytree(data / "images", labelled / "images")
    out = labelled / f"labels.{format}" if labelled.exists() else labelled
    convert(ConvertConfig(data, out, to_format=format))
    found = as_task1(tmp_path, labels_as_predictions(labelled))
    metrics = evaluate(config(labelled, tmp_path / "run", predictions=found)).metrics
    assert set(values(metrics["ap"])) == {1.0}


def test_a_box_around_a_parallelogram_is_not_it(tmp_path, data):
    """Boxes score what their IoU with the outline is worth by the rules of the devkit; for mmrotate all are boxes."""
    rows = [
        ImageDetections(row.image, Detections(row.detections.boxes, row.detections.scores, row.detections.labels))
        for row in labels_as_predictions(data)
    ]
    found = as_task1(tmp_path, rows)
    run = config(data, tmp_path / "run", predictions=found)
    assert evaluate(run).metrics["summary"]["area"]["mAP75"] < 0.6
    run = config(data, tmp_path / "boxes", predictions=found, count_difficult=True)
    assert evaluate(run).metrics["summary"]["area"]["mAP50:95"] == 1


def test_predictions_on_tiles(tmp_path, data):
    """Quads of overlapping tiles are put together; neighbours are one object only if their outlines overlap."""
    nested = np.array([[(20, 20), (90, 20), (130, 60), (60, 60)], [(20, 26), (20, 90), (60, 90), (50, 57)]], float)
    assert quad_iou(nested[:1], nested[1:])[0] < 0.1
    text = "".join(f"{' '.join(map(str, quad))} ship 0\n" for quad in nested.reshape(-1, 8).tolist())
    for name in ("P1", "P2"):
        (data / "labelTxt" / f"{name}.txt").write_text(text if name == "P1" else "")
    rows = []
    for col in (0, 10):
        quads = nested - (col, 0)
        found = Detections(polygons_to_boxes(quads), np.array([0.9, 0.8], np.float32), np.array([1, 1]), quads)
        rows.append(ImageDetections(f"P1__200__{col}___0", found))
    result = evaluate(config(data, tmp_path / "run", predictions=as_task1(tmp_path, rows)))
    assert result.metrics["counts"]["predictions"]["ship"] == 2
    assert result.metrics["summary"]["area"]["mAP50:95"] == 1


def test_a_submission_holds_the_quads(tmp_path, data):
    found = as_task1(tmp_path, labels_as_predictions(data))
    evaluate(config(data, tmp_path / "run", predictions=found, submission=tmp_path / "out.zip"))
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        lines = archive.read("Task1_bridge.txt").decode().splitlines()
    assert "P1 0.9 20.0 20.0 90.0 20.0 130.0 60.0 60.0 60.0" in lines


def test_pairs_are_those_of_exact_polygons():
    rng = np.random.default_rng(3)
    n = 400
    sizes = [rng.uniform(0, 300, (2, n)), rng.uniform(8, 40, (2, n)), rng.uniform(-1.5, 1.5, (1, n))]
    quads = boxes_to_polygons(np.concatenate(sizes).T)
    quads[::2] += rng.uniform(-9, 9, quads[::2].shape)
    outlines = quads + rng.uniform(-3, 3, (n, 1, 2))
    outlines[::3] += rng.uniform(-4, 4, outlines[::3].shape)
    simple = [shapely.is_valid(shapely.polygons(some)) for some in (outlines, quads)]
    outlines, quads = outlines[simple[0]], quads[simple[1]]
    groups = [np.arange(len(some)) % 3 for some in (outlines, quads)]
    one, two, iou = iou_pairs(polygons_to_boxes(outlines), quads, *groups, outlines)
    shapes = [shapely.polygons(some) for some in (outlines, quads)]
    shared = shapely.area(shapely.intersection(shapes[0][:, None], shapes[1][None]))
    whole = shapely.area(shapes[0])[:, None] + shapely.area(shapes[1])[None] - shared
    expected = np.where(groups[0][:, None] == groups[1][None], shared / whole, 0)
    assert len(one) > 100
    assert set(zip(one.tolist(), two.tolist(), strict=True)) == set(zip(*np.nonzero(expected >= 0.5), strict=True))
    np.testing.assert_allclose(iou, expected[one, two], atol=2e-5)
