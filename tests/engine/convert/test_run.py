"""Converting datasets: nothing lost on the way through any format, nothing half-written, every fault told."""

import itertools
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from legnet_cli.data.classes import without_regions
from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.labels import LabelError
from legnet_cli.data.sniff import FORMATS
from legnet_cli.engine.convert import ConvertConfig, convert
from legnet_cli.errors import ConfigError, DataError

REAL = Path(__file__).parents[2] / "real"

LABELS = {
    "train/labelTxt/a b.txt": (
        "imagesource:GF2\ngsd:0.5\n"
        "10.5 10 30.25 12 29 22.125 9 20 ship 0\n40 10 60 10 60 20 40 20 Cargo-Truck 1\n0 0 9 0 9 5 0 5 ship 2\n"
    ),
    "train/labelTxt/dir/P1__1__0___0.txt": "-3.5 4 20 4.5 20 14 -3.5 14 plane 0\n",
    "train/labelTxt/empty.txt": "",
    "val/labelTxt/图.txt": "5 5 25 5 25 15 5 15 plane 1\n",
    "classes.txt": "ship\nunused\nplane\nCargo Truck\n",
}
IMAGES = ["train/images/a b.PNG", "train/images/dir/P1__1__0___0.jpg", "train/images/empty.bmp", "val/images/图.tif"]


def write_image(path, size=(80, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(path.suffix.lower(), np.full((size[1], size[0], 3), 90, np.uint8))
    path.write_bytes(data.tobytes())


@pytest.fixture
def dota(tmp_path):
    root = tmp_path / "dota"
    for name, text in LABELS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for name in IMAGES:
        write_image(root / name)
    return root


def run(src, dst, **options):
    return convert(ConvertConfig(Path(src), Path(dst), **options))


def same(first, second, *, difficult=True, exact=True, files=True):
    """Assert that two datasets say the same."""
    assert [(i.split, i.stem) for i in first.images] == [(i.split, i.stem) for i in second.images]
    for one, other in zip(first.images, second.images, strict=True):
        assert one.names == other.names
        if files:
            assert one.file == other.file
            assert one.path.read_bytes() == other.path.read_bytes()
        if difficult:
            assert one.difficult.tolist() == other.difficult.tolist()
        if exact:
            np.testing.assert_array_equal(one.quads, other.quads)
        else:
            np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-5)


@pytest.mark.parametrize("format", [*FORMATS, "coco"])
def test_round_trip_from_dota(tmp_path, dota, format):
    there, back = tmp_path / "there", tmp_path / "back"
    result = run(dota, there, to_format=format)
    assert result.splits == {"train": (3, 4), "val": (1, 1)}
    assert result.classes == {"ship": 2, "unused": 0, "plane": 2, "Cargo Truck": 1}
    assert not result.left_out
    original, found = load_dataset(dota), load_dataset(there)
    assert (found.format, found.classes) == (format, original.classes)
    run(there, back, to_format="dota")
    for dataset in (found, load_dataset(back)):
        same(original, dataset, difficult=format not in ("yolo-obb", "labelme"), exact=format != "hrsc")
        flags = [(image.difficult > 0).tolist() for image in dataset.images]
        assert format == "yolo-obb" or flags == [(image.difficult > 0).tolist() for image in original.images]
    if format not in ("yolo-obb", "dior", "labelme"):
        assert (found.images[0].meta["imagesource"]) == "GF2"
    if format in ("hrsc", "coco", "dota"):
        assert (found.images[0].meta["gsd"]) == "0.5"


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_round_trip_of_polygons_in_pixels(tmp_path, dota, suffix):
    file = tmp_path / f"all{suffix}"
    result = run(dota, file)
    assert [str(warning) for warning in result.warnings] == [
        f"{dota}/train/labelTxt/dir/P1__1__0___0.txt:1: reaches over the edge of its image",
        f"{file}: {suffix[1:]} cannot hold 1 image without objects",
    ]
    run(dota, tmp_path / "back", labels=str(file), to_format="dota")
    same(load_dataset(dota), load_dataset(tmp_path / "back"), exact=True)


def test_a_chain_through_all_formats_keeps_every_corner(tmp_path, dota):
    chain = ["fair1m", "coco", "dior", "dota", "yolo-obb", "coco"]
    places = [dota, *(tmp_path / f"{i}-{name}" for i, name in enumerate(chain))]
    for (src, dst), name in zip(itertools.pairwise(places), chain, strict=True):
        run(src, dst, to_format=name)
    same(load_dataset(dota), load_dataset(places[-1]), difficult=False)


def test_what_is_lost_is_told(tmp_path, dota):
    warnings = [str(warning) for warning in run(dota, tmp_path / "y", to_format="yolo-obb").warnings]
    assert f"{tmp_path}/y: yolo-obb cannot hold the difficulty of 3 objects" in warnings
    warnings = [str(warning) for warning in run(dota, tmp_path / "h", to_format="hrsc").warnings]
    assert f"{tmp_path}/h: hrsc cannot hold the corners of 2 objects of another shape than a rectangle" in warnings
    warnings = [str(warning) for warning in run(tmp_path / "h", tmp_path / "d", to_format="dota").warnings]
    assert f"{tmp_path}/d: dota cannot hold blanks in class names: 'Cargo Truck' get '-'" in warnings[1]


@pytest.mark.parametrize(("how", "links"), [("link", 2), ("copy", 1), ("none", None)])
def test_images(tmp_path, dota, how, links):
    (dota / "train/images/a b.pgw").write_text("0.5\n0\n0\n-0.5\n0\n0\n")
    run(dota, tmp_path / "out", to_format="coco", images=how)
    image, world = tmp_path / "out/train/a b.PNG", tmp_path / "out/train/a b.pgw"
    assert image.exists() == world.exists() == (links is not None)
    if links:
        assert image.stat().st_nlink == links
    assert (dota / "train/images/a b.PNG").exists()


def test_yolo_layout_is_what_ultralytics_asks_for(tmp_path, dota):
    run(dota, tmp_path / "out", to_format="yolo-obb")
    assert (tmp_path / "out/labels/val/图.txt").read_text(encoding="utf-8").startswith("2 0.0625 0.08333333333333333 ")
    assert (tmp_path / "out/images/val/图.tif").is_file()
    assert "val: images/val" in (tmp_path / "out/data.yaml").read_text(encoding="utf-8")


def test_an_unlabelled_test_set_stays_one(tmp_path, dota):
    write_image(dota / "test/images/t.png")
    assert run(dota, tmp_path / "out", to_format="dota").splits["test"] == (1, 0)
    assert not (tmp_path / "out/test/labelTxt").exists()
    assert (tmp_path / "out/test/images/t.png").is_file()
    assert load_dataset(tmp_path / "out").splits() == ("train", "val", "test")


BAD = [
    "10 10 30 10 30 20 ship 0",
    "10 10 30 10 40 15 30 20 10 20 ship 0",
    "nan 10 30 10 30 20 10 20 ship 0",
    "10 10 10 10 10 10 10 10 ship 0",
    "10 10 30 10 30 20 10 20 shiip 0",
]


@pytest.mark.parametrize("line", BAD)
@pytest.mark.parametrize("format", ["coco", "yolo-obb"])
def test_bad_labels_stop_it_or_are_listed(tmp_path, dota, line, format):
    path = dota / "val/labelTxt/图.txt"
    path.write_text(f"5 5 25 5 25 15 5 15 plane 1\n{line}\n", encoding="utf-8")
    with pytest.raises(LabelError, match=r"图\.txt:2: .*--skip-bad") as caught:
        run(dota, tmp_path / "out", to_format=format)
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dota"]
    result = run(dota, tmp_path / "out", to_format=format, skip_bad=True)
    assert [problem.place for problem in result.left_out] == [f"{path}:2"]
    assert result.splits["val"] == (1, 1)
    assert json.loads((tmp_path / "out/convert.json").read_text())["left_out"] == [str(result.left_out[0])]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("10 10 30 20 30 10 10 20 ship 0", "the sides of the quad cross each other"),
        ("210 10 230 10 230 20 210 20 ship 0", "lies outside of its image of 80 × 60 pixels"),
    ],
)
def test_doubtful_labels_are_told_and_kept(tmp_path, dota, line, message):
    path = dota / "val/labelTxt/图.txt"
    path.write_text(f"5 5 25 5 25 15 5 15 plane 1\n{line}\n", encoding="utf-8")
    result = run(dota, tmp_path / "out", to_format="dota")
    assert [warning.place for warning in result.warnings if message in warning.message] == [f"{path}:2"]
    assert result.splits["val"] == (1, 2)


def test_a_stated_size_that_is_wrong_is_told_and_mended(tmp_path, dota):
    run(dota, tmp_path / "dior", to_format="dior")
    write_image(tmp_path / "dior/JPEGImages/图.tif", (160, 120))
    result = run(tmp_path / "dior", tmp_path / "out", to_format="coco")
    assert "states 80 × 60 pixels where the image has 160 × 120" in "".join(map(str, result.warnings))
    assert json.loads((tmp_path / "out/annotations/instances_val.json").read_text())["images"][0]["width"] == 160


def test_an_image_that_is_none(tmp_path, dota):
    (dota / "val/images/图.tif").write_bytes(b"no image")
    with pytest.raises(LabelError, match=r"图\.tif: is not a PNG"):
        run(dota, tmp_path / "out", to_format="dota")


def test_existing_outputs(tmp_path, dota):
    out = tmp_path / "out"
    out.mkdir()
    run(dota, out, to_format="yolo-obb")
    with pytest.raises(ConfigError, match=r"exists already: .*--overwrite"):
        run(dota, out, to_format="dota")
    run(dota, out, to_format="dota", overwrite=True)
    assert not (out / "data.yaml").exists()
    same(load_dataset(dota), load_dataset(out))
    (out / "convert.json").unlink()
    with pytest.raises(ConfigError, match="not an output of legnet convert"):
        run(dota, out, to_format="dota", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dota", "out"]


def test_a_failure_leaves_the_old_output(tmp_path, dota, monkeypatch):
    out = tmp_path / "out"
    run(dota, out, to_format="dota")
    before = sorted(path.relative_to(out) for path in out.rglob("*"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(DataError, match="No space left"):
        run(dota, out, to_format="coco", images="copy", overwrite=True)
    assert sorted(path.relative_to(out) for path in out.rglob("*")) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dota", "out"]


@pytest.mark.parametrize(
    ("dst", "options", "message"),
    [
        ("out", {}, "say the format to write with --to: dota, dior"),
        ("out", {"to_format": "voc"}, "--to voc: choose from dota"),
        ("out", {"to_format": "gpkg"}, r"give it the suffix \.gpkg"),
        ("out.gpkg", {"to_format": "geojson"}, r"give it the suffix \.geojson"),
        ("out", {"to_format": "coco", "images": "move"}, "--images move: choose from"),
        ("dota", {"to_format": "coco"}, "must be apart from"),
        ("dota/inside", {"to_format": "coco"}, "must be apart from"),
        (".", {"to_format": "coco", "overwrite": True}, "must be apart from"),
    ],
)
def test_wrong_settings(tmp_path, dota, dst, options, message):
    with pytest.raises(ConfigError, match=message):
        run(dota, tmp_path / dst, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["dota"]


def test_one_image_in_two_splits_of_a_flat_format(tmp_path, dota):
    shutil.copy(dota / "train/labelTxt/a b.txt", dota / "val/labelTxt/a b.txt")
    with pytest.raises(DataError, match="a b: is in two splits, which dior keeps together"):
        run(dota, tmp_path / "out", to_format="dior")
    assert [p.name for p in tmp_path.iterdir()] == ["dota"]


@pytest.mark.parametrize("folder", ["hit_uav", "mmrotate/dior", "torchgeo/dior"])
@pytest.mark.parametrize("format", ["dota", "fair1m", "coco", "dior", "yolo-obb"])
def test_round_trips_of_published_labels(tmp_path, folder, format):
    source = REAL / folder
    if format == "dior" and folder == "torchgeo/dior":  # its test images have the names of others
        with pytest.raises(DataError, match="000000: is in two splits"):
            run(source, tmp_path / "out", to_format=format)
        return
    run(source, tmp_path / "out", to_format=format)
    original = load_dataset(source)
    kept = without_regions(original) if format == "yolo-obb" else original
    same(kept, load_dataset(tmp_path / "out"), difficult=format != "yolo-obb")
    assert folder != "hit_uav" or original.splits() == ("train", "val", "test")  # found by its lists
