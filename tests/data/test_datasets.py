"""Loading a whole dataset: faults and what ``skip_bad`` makes of them, scenes with polygons, turned pictures."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine

from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.labels import LabelError
from legnet_cli.errors import DataError

DOTA = "10 10 30 10 30 20 10 20 plane 0\n"
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 96, "height": 64}],
    "categories": [{"id": 1, "name": "ship"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
}


def picture(path, orientation=1, size=(96, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", size).save(path, exif=exif.tobytes())


def coco(**changes):
    content = json.loads(json.dumps(COCO))
    for part, change in changes.items():
        content[part][0] |= change
    return json.dumps(content)


# file -> text; message of the first fault and its place; objects that are left, None where no image is
FAULTS = {
    "a number beyond 64 bits": ({"annotations/i.json": coco(annotations={"difficult": 10**30})}, "annotation 1: ", 0),
    "a category's id": ({"annotations/i.json": coco(categories={"id": {"a": 1}})}, "category {'a': 1}: its id", 0),
    "an image's id": ({"annotations/i.json": coco(images={"id": [1]})}, r"image \[1\]: its id is not a number", None),
    "half a letter": ({"annotations/i.json": coco(categories={"name": "\ud800x"})}, "category 1: its name", 0),
    "nested too deeply": ({"annotations/i.json": '{"images":' + "[" * 9999}, r"is not JSON \(nested too deeply", None),
    "a date of YAML": (
        {"data.yaml": "names: [a]\nx: 2024-13-45\n", "labels/a.txt": "0 .1 .1 .3 .1 .3 .4 .1 .4\n"},
        r"data.yaml:2: is not YAML \(month must be",
        1,
    ),
    "an encoding of XML": (
        {"Annotations/a.xml": '<?xml version="1.0" encoding="x-evil"?><annotation></annotation>'},
        "line 1 is not XML .unknown encoding",
        None,
    ),
    "a difficulty of DOTA": ({"labelTxt/a.txt": f"{DOTA}{DOTA[:-2]}{10**30}\n"}, "labelTxt/a.txt:2: 'difficult'", 1),
    "a digit too many": ({"labelTxt/a.txt": f"{DOTA}{DOTA[:-2]}{'9' * 5000}\n"}, "labelTxt/a.txt:2: 'difficult'", 1),
    "a control character": ({"labelTxt/a.txt": DOTA + DOTA.replace("plane", "pl\0ne")}, "a.txt:2: the class 'pl", 1),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_are_named_and_can_be_left_out(tmp_path, case):
    files, message, left = FAULTS[case]
    picture(tmp_path / "images/a.png")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    if left is None:
        with pytest.raises(DataError, match=f"no image is left|{message}"):
            load_dataset(tmp_path, skip_bad=True)
    else:
        dataset = load_dataset(tmp_path, skip_bad=True)
        assert sum(map(len, dataset.images)) == left
        assert any(problem.left_out for problem in dataset.problems)


def test_one_bad_coco_file_of_two(tmp_path):
    for split, text in (("train", '{"images": [{'), ("val", coco())):
        picture(tmp_path / split / "a.png")
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / f"annotations/instances_{split}.json").write_text(text)
    with pytest.raises(LabelError, match=r"instances_train\.json: is not JSON"):
        load_dataset(tmp_path)
    dataset = load_dataset(tmp_path, skip_bad=True)
    assert [(image.split, len(image)) for image in dataset.images] == [("val", 1)]


@pytest.mark.skipif(os.name != "posix", reason="names of files are text there")
def test_names_of_files_that_are_not_text(tmp_path):
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "images/b.png")
    (tmp_path / "labelTxt").mkdir()
    (tmp_path / "labelTxt/a.txt").write_text(DOTA)
    try:
        os.rename(tmp_path / "images/b.png", os.fsencode(tmp_path / "images") + b"/\xff.png")
    except OSError:
        pytest.skip("the file system has text alone")
    with pytest.raises(LabelError, match=r"\\udcff\.png: its name is not text in UTF-8"):
        load_dataset(tmp_path)
    dataset = load_dataset(tmp_path, skip_bad=True)
    assert [image.file for image in dataset.images] == ["a.png"]
    json.dumps([str(problem) for problem in dataset.problems], ensure_ascii=False).encode()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("format", ["dota", "yolo"])
def test_labels_are_on_the_picture_as_it_is_shown(tmp_path, orientation, format):
    shown = (64, 96) if orientation > 4 else (96, 64)
    picture(tmp_path / "images/a.jpg", orientation)
    (tmp_path / "labels").mkdir()
    quad = np.array([[0.25, 0.5], [0.5, 0.5], [0.5, 0.75], [0.25, 0.75]])
    corners = quad if format == "yolo" else quad * shown
    text = " ".join(map(str, corners.ravel()))
    (tmp_path / "labels/a.txt").write_text(f"0 {text}\n" if format == "yolo" else f"{text} car 0\n")
    if format == "yolo":
        (tmp_path / "data.yaml").write_text("names: [car]\n")
    dataset = load_dataset(tmp_path, sizes=True)
    assert dataset.images[0].size == shown
    np.testing.assert_allclose(dataset.images[0].quads[0], quad * shown)
    assert not dataset.problems


def scene(path, left):
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"driver": "GTiff", "width": 80, "height": 60, "count": 1, "dtype": "uint8", "crs": "EPSG:32631"}
    with rasterio.open(path, "w", transform=Affine(1, 0, left, 0, -1, 5_000_000), **options) as file:
        file.write(np.full((60, 80), 9, np.uint8), 1)


def polygons(path, left, name):
    ring = [[left + x, 5_000_000 - y] for x, y in ((10, 10), (30, 10), (30, 20), (10, 20), (10, 10))]
    feature = {"type": "Feature", "properties": {"class": name}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))


def test_scenes_with_polygons_of_the_same_name(tmp_path):
    for i, stem in enumerate("abc"):
        scene(tmp_path / f"{stem}.tif", 500_000 + 10 * i)  # they overlap: place alone would give polygons to several
    for i, (stem, name) in enumerate((("a", "ship"), ("b", "plane"))):
        polygons(tmp_path / f"{stem}.geojson", 500_000 + 10 * i, name)
    polygons(tmp_path / "other.geojson", 500_000, "car")
    dataset = load_dataset(tmp_path)
    assert (dataset.format, dataset.classes) == ("geojson", ("plane", "ship"))
    assert [(image.file, image.names) for image in dataset.images] == [
        ("a.tif", ("ship",)),
        ("b.tif", ("plane",)),
        ("c.tif", ()),
    ]
    for image in dataset.images[:2]:
        np.testing.assert_allclose(image.quads[0], [[10, 10], [30, 10], [30, 20], [10, 20]])
    assert sorted(map(str, dataset.problems)) == [
        f"{tmp_path}/other.geojson: no image has this name: left out",
        f"{tmp_path}: no labels for 1 image, counted as empty: c.tif",
    ]
    alone = load_dataset(tmp_path / "b.tif")
    assert [(image.file, image.names) for image in alone.images] == [("b.tif", ("plane",))]


def test_faults_in_polygons_of_several_scenes(tmp_path):
    for stem in "ab":
        scene(tmp_path / f"{stem}.tif", 500_000)
        polygons(tmp_path / f"{stem}.geojson", 500_000, "ship")
    (tmp_path / "b.geojson").write_text("{")
    with pytest.raises(LabelError, match=r"b\.geojson: cannot be read"):
        load_dataset(tmp_path)
    dataset = load_dataset(tmp_path, skip_bad=True)
    assert [(image.file, len(image)) for image in dataset.images] == [("a.tif", 1)]


def test_paths_are_paths():
    with pytest.raises(DataError, match="does not exist"):
        load_dataset(Path("nothing"))
