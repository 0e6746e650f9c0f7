"""What is split: any layout, georeferenced and reviewed scenes, pictures that are turned or resampled."""

import json
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine
from reviews import row, write_review
from splits import files, run, write_image, write_labels

from legnet_cli.data.datasets import load_dataset
from legnet_cli.engine.convert import ConvertConfig, convert

HIT_UAV = Path(__file__).parents[2] / "real" / "hit_uav"


@pytest.mark.parametrize("format", ["dior", "fair1m", "hrsc", "yolo-obb", "coco"])
def test_other_layouts(tmp_path, dota, format):
    run(dota / "train", tmp_path / "dota")
    convert(ConvertConfig(dota / "train", tmp_path / format, to_format=format))
    result = run(tmp_path / format, tmp_path / "out")
    images = {name for name in files(tmp_path / "dota") if name.startswith("images/")}
    found = {name.rpartition("/")[2] for name in files(tmp_path / "out") if "/images/" in f"/{name}"}
    assert found == {name.rpartition("/")[2] for name in images}
    (counts,) = result.splits.values()
    assert counts.objects > 20


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("format", ["png", "tif"])
def test_tiles_are_of_the_picture_as_it_is_shown(tmp_path, suffix, format):
    pixels = np.kron(np.arange(15, dtype=np.uint8).reshape(3, 5, 1) * [16, 8, 4], np.ones((32, 32, 1))).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # to be turned clockwise
    sharp = {"jpg": {"quality": 98, "subsampling": 0}, "webp": {"lossless": True}, "tif": {"tiffinfo": {274: 6}}}
    (tmp_path / "src/images").mkdir(parents=True)
    (tmp_path / "src/labelTxt").mkdir()
    picture = Image.fromarray(pixels)
    path = tmp_path / f"src/images/e.{suffix}"
    picture.save(path, **({} if suffix == "tif" else {"exif": exif.tobytes()}), **sharp.get(suffix, {}))
    (tmp_path / "src/labelTxt/e.txt").write_text("10 100 50 100 50 120 10 120 car 0\n")
    run(tmp_path / "src", tmp_path / "out", format=format)
    shown = np.rot90(pixels, -1)  # 96 × 160
    for file in (tmp_path / "out/images").iterdir():
        _, size, col, row = file.stem.replace("___", "__").split("__")
        with warnings.catch_warnings(), rasterio.open(file) as tile:
            found = np.moveaxis(tile.read(), 0, 2)
        part = shown[int(row) : int(row) + int(size), int(col) : int(col) + int(size)]
        np.testing.assert_allclose(found[: part.shape[0], : part.shape[1]], part, atol=3)
    assert (tmp_path / "out/annfiles/e__64__0___96.txt").read_text() == "10.0 4.0 50.0 4.0 50.0 24.0 10.0 24.0 car 0\n"


def test_labels_of_the_other_half_of_the_globe(tmp_path, write_scene):
    transform = Affine(1e-4, 0, 190, 0, -1e-4, 52)
    scene = write_scene("lon190.tif", np.full((3, 60, 80), 9, np.uint8), crs="EPSG:4326", transform=transform)
    ring = [[-169.9975 + x * 1e-4, 52 - y * 1e-4] for x, y in ((0, 10), (10, 10), (10, 20), (0, 20), (0, 10))]
    feature = {"type": "Feature", "properties": {"class": "tank"}}
    feature["geometry"] = {"type": "Polygon", "coordinates": [ring]}
    (tmp_path / "l.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    result = run(scene, tmp_path / "out", labels=str(tmp_path / "l.geojson"))
    assert result.objects == 1
    assert [part.objects for part in result.splits.values()] == [2]  # in two tiles


def test_map_polygons(tmp_path, write_scene):
    scene = write_scene("scene.tif", np.random.default_rng(0).integers(0, 256, (3, 150, 200), dtype=np.uint8))
    square = [
        [500_005, 4_999_990],
        [500_015, 4_999_990],
        [500_015, 4_999_980],
        [500_005, 4_999_980],
        [500_005, 4_999_990],
    ]
    feature = {
        "type": "Feature", "properties": {"kind": "tank"}, "geometry": {"type": "Polygon", "coordinates": [square]}
    }  # fmt: skip
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}
    (tmp_path / "t.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    run(scene, tmp_path / "out", labels=str(tmp_path / "t.geojson"), class_field="kind")
    text = (tmp_path / "out" / "annfiles" / "scene__64__0___0.txt").read_text()
    assert text == "10.0 20.0 30.0 20.0 30.0 40.0 10.0 40.0 tank 0\n"


def test_names_that_are_hard_to_take(tmp_path):
    root = tmp_path / "set"
    names = ["a__b c", "图 像", "P1__1024__0___0", "x.y", "sub/dir/z", "UPPER"]
    for seed, name in enumerate(names):
        write_image(root / "images" / f"{name}{'.PNG' if name == 'UPPER' else '.png'}", (70, 64), seed)
        write_labels(root / "labelTxt" / f"{name}.txt", (70, 64), 4, seed)
    run(root, tmp_path / "out")
    tiles = load_dataset(tmp_path / "out")
    expected = {f"{name}__64__{col}___0" for name in names for col in (0, 6)}
    assert {image.stem for image in tiles.images} == expected


def test_infrared_frames(tmp_path, mmrotate_split):
    mmrotate_split(HIT_UAV / "images", HIT_UAV / "labelTxt", tmp_path / "theirs", "--sizes", "256", "--gaps", "50")
    run(HIT_UAV, tmp_path / "ours", tile=256, overlap=50, like_mmrotate=True)
    theirs = {name: data for name, data in files(tmp_path / "theirs").items() if name.endswith(".txt")}
    ours = {name.partition("/")[2]: data for name, data in files(tmp_path / "ours").items()}
    assert len(theirs) == 7 * 9

    def parted(data):
        rows = data.splitlines()
        regions = [row for row in rows if row.split()[8] in (b"DontCare", b"ignored")]
        return [row for row in rows if row not in regions], len(regions)

    assert [parted(ours[name])[0] for name in theirs] == [parted(data)[0] for data in theirs.values()]
    # what HIT-UAV calls DontCare are ignored regions here, which a tile keeps however little of them it shows
    assert 0 < sum(parted(data)[1] for data in theirs.values()) < sum(parted(ours[name])[1] for name in theirs)


def test_reviewed_ground_becomes_tiles(tmp_path):
    """Tiles of reviewed ground alone, hard negatives too whatever --background says; the rest of them is ignored."""
    write_image(tmp_path / "scenes/a.png", (300, 200))
    write_image(tmp_path / "scenes/b.png", (300, 200))
    rows = [row("r1", "ok", (50, 50)), row("r2", "wrong", (250, 50)), row("r3", "todo", (250, 150))]
    review = write_review(tmp_path / "review.gpkg", rows)
    result = run(tmp_path / "scenes", tmp_path / "out", labels=str(review), tile=100, overlap=0, background=0.0)
    labels = {path.stem: path.read_text().split("\n")[:-1] for path in (tmp_path / "out").rglob("annfiles/*.txt")}
    assert sorted(labels) == ["a__100__0___0", "a__100__200___0"]
    images = {path.stem for path in (tmp_path / "out").rglob("images/*.png")}
    assert images == set(labels)
    for name, count in (("a__100__0___0", 1), ("a__100__200___0", 0)):
        quads = [(np.array(line.split()[:8], float).reshape(4, 2), line.split()[8]) for line in labels[name]]
        assert [kind for _, kind in quads].count("ship") == count
        ignored = np.zeros((100, 100), int)
        for quad, kind in quads:
            assert quad.min() >= 0
            assert quad.max() <= 100
            (left, top), (right, bottom) = quad.min(0).astype(int), quad.max(0).astype(int)
            ignored[top:bottom, left:right] += kind == "ignored"
        expected = np.ones((100, 100), int)
        expected[30:70, 30:70] = 0
        np.testing.assert_array_equal(ignored, expected)
    (counts,) = result.splits.values()
    assert (counts.tiles, counts.empty, counts.objects, counts.classes["ship"]) == (2, 1, 1, 1)
    assert result.objects == 1
    told = "\n".join(map(str, result.problems))
    assert "1 todo, 1 ok, 1 wrong" in told
    assert "left out 10 tiles with only ignored ground" in told
    assert json.loads((tmp_path / "out/split.json").read_text())["problems"] == [str(p) for p in result.problems]


@pytest.mark.parametrize("georeferenced", [True, False])
def test_images_and_labels_are_resampled_to_one_scale(tmp_path, write_scene, georeferenced):
    pixels = np.full((60, 90), 30, np.uint8)
    pixels[20:30, 40:60] = 220
    (tmp_path / "d" / "labelTxt").mkdir(parents=True)
    (tmp_path / "d" / "images").mkdir()
    if georeferenced:  # of 0.5 m
        Path(write_scene("a.tif", pixels)).rename(tmp_path / "d" / "images" / "a.tif")
    else:
        cv2.imwrite(str(tmp_path / "d" / "images" / "a.png"), pixels)
    head = "" if georeferenced else "gsd:0.5\n"
    (tmp_path / "d" / "labelTxt" / "a.txt").write_text(f"{head}40 20 60 20 60 30 40 30 ship 0\n")
    out = tmp_path / "out"
    run(tmp_path / "d", out, tile=200, gsd=0.25)
    assert json.loads((out / "split.json").read_text())["gsd"] == [0.25, 0.25]
    assert (out / "annfiles" / "a__200__0___0.txt").read_text() == "80.0 40.0 120.0 40.0 120.0 60.0 80.0 60.0 ship 0\n"
    tile = cv2.imread(str(out / "images" / "a__200__0___0.png"), 0)
    assert tile.shape == (200, 200)
    row, col = np.nonzero(tile[:120, :180] > 180)
    assert (col.min(), row.min(), col.max(), row.max()) == pytest.approx((80, 40, 119, 59), abs=1)
    run(tmp_path / "d", tmp_path / "plain", tile=200)
    assert json.loads((tmp_path / "plain" / "split.json").read_text())["gsd"] == pytest.approx([0.5, 0.5], rel=1e-3)
