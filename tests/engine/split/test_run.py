"""Splitting datasets: mmrotate's tiles, every layout, nothing lost, the same result however it is made."""

import json
import os
import struct
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine
from reviews import row, write_review

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.labels import LabelError
from legnet_cli.data.png import TileEncoder
from legnet_cli.engine.convert import ConvertConfig, convert
from legnet_cli.engine.split import SplitConfig, split
from legnet_cli.engine.split.draft import draft_place
from legnet_cli.errors import ConfigError, DataError

HIT_UAV = Path(__file__).parents[2] / "real" / "hit_uav"


def run(src, out, **options):
    return split(SplitConfig(Path(src), Path(out), **{"tile": 64, "overlap": 16, "workers": 2} | options))


def write_image(path, size, seed=0, channels=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    _, data = cv2.imencode(path.suffix.lower(), pixels)
    path.write_bytes(data.tobytes())


def write_labels(path, size, count, seed=0):
    rng = np.random.default_rng(seed)
    boxes = [
        *rng.uniform(0, size[0], (1, count)),
        *rng.uniform(0, size[1], (1, count)),
        *rng.uniform(4, 30, (2, count)),
    ]
    quads = boxes_to_polygons(np.stack([*boxes, rng.uniform(-1.5, 1.5, count)], 1)).round(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{' '.join(map(str, quad))} {rng.choice(['plane', 'ship'])} {rng.integers(2)}\n"
        for quad in quads.reshape(-1, 8)
    ]
    path.write_text("imagesource:GF2\ngsd:0.5\n" + "".join(lines), encoding="utf-8")


IMAGES = {"P1.png": (200, 150), "P2.png": (64, 64), "P3.jpg": (40, 200), "P4.bmp": (130, 50), "P5.png": (180, 170)}


@pytest.fixture
def dota(tmp_path):
    """Two splits with labels and one without."""
    root = tmp_path / "DOTA"
    for seed, (name, size) in enumerate(IMAGES.items()):
        part = "train" if seed < 3 else "val"
        write_image(root / part / "images" / name, size, seed, channels=1 if name == "P2.png" else 3)
        write_labels(root / part / "labelTxt" / f"{Path(name).stem}.txt", size, 0 if name == "P4.bmp" else 12, seed)
    write_image(root / "test" / "images" / "T1.png", (100, 64), 9)
    return root


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def mmrotate_split(mmrotate):
    """mmrotate's splitter: a function of two folders, the output and more options."""

    def split(images, labels, out, *options):
        script = mmrotate / ".mim/tools/data/dota/split/img_split.py"
        places = ["--img-dirs", images, "--ann-dirs", labels, "--save-dir", out, "--padding-value", "104", "116", "124"]
        subprocess.run([sys.executable, script, "--nproc", "1", *places, *options], check=True, capture_output=True)

    return split


@pytest.mark.parametrize("rates", [(1.0,), (0.5, 1.0, 1.5)])
def test_tiles_and_labels_are_mmrotates(tmp_path, dota, mmrotate_split, rates):
    options = ["--sizes", "64", "--gaps", "16", "--rates", *map(str, rates)]
    mmrotate_split(dota / "train" / "images", dota / "train" / "labelTxt", tmp_path / "theirs", *options)
    run(dota, tmp_path / "ours", scales=rates, like_mmrotate=True)
    theirs, ours = files(tmp_path / "theirs"), files(tmp_path / "ours" / "train")
    theirs = {name: data for name, data in theirs.items() if not name.endswith(".log")}
    assert ours.keys() == theirs.keys()
    for name, data in theirs.items():
        if name.endswith(".txt"):
            assert ours[name] == data, name
        else:
            pixels = [cv2.imdecode(np.frombuffer(d, np.uint8), cv2.IMREAD_UNCHANGED) for d in (ours[name], data)]
            np.testing.assert_array_equal(*pixels, err_msg=name)


def test_tree_of_splits_and_what_the_record_says(tmp_path, dota):
    result = run(dota, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "split.json").read_text(encoding="utf-8"))
    tiles = load_dataset(tmp_path / "out")
    assert tiles.classes == ("plane", "ship")
    assert tiles.splits() == ("train", "val", "test")
    for name, counts in result.splits.items():
        part = tiles.split(name)
        assert counts.tiles == len(part.images)
        assert counts.objects == sum(map(len, part.images)) == sum(counts.classes.values())
        assert counts.classes == part.counts()
        assert sum(counts.sizes.values()) == counts.objects
        assert counts.empty == sum(not len(image) for image in part.images)
        assert record["splits"][name] == vars(counts)
    assert result.splits["train"].source == 3
    assert record["settings"]["tile"] == 64
    assert not (tmp_path / "out" / "test" / "annfiles").exists()  # a test set without labels is not one without objects
    assert cv2.imread(str(result.contact_sheet)).shape[1] > 320
    assert not draft_place(tmp_path / "out").exists()


def test_the_same_files_however_many_workers(tmp_path, dota):
    run(dota, tmp_path / "one", workers=1, background=0.5)
    run(dota, tmp_path / "five", workers=5, background=0.5)
    assert files(tmp_path / "one") == files(tmp_path / "five")


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


def test_scenes_without_georeference_are_nothing_to_tell(tmp_path, dota, caplog):
    result = run(dota, tmp_path / "out")
    assert caplog.records == []
    assert not [problem for problem in result.problems if "georeference" in problem.message]


@pytest.mark.parametrize("options", [{}, {"val_fraction": 0.3}, {"format": "tif"}])
def test_a_damaged_header_is_named_or_left_out(tmp_path, write_scene, options):
    for name in ("a", "b"):
        write_scene(f"src/images/{name}.tif", np.full((3, 150, 150), 9, np.uint8))
        (tmp_path / "src/labelTxt").mkdir(exist_ok=True)
        (tmp_path / f"src/labelTxt/{name}.txt").write_text("10 10 30 10 30 20 10 20 car 0\n")
    path = tmp_path / "src/images/b.tif"
    path.write_bytes(path.read_bytes().replace(struct.pack("<HH", 277, 3), struct.pack("<HH", 277, 99)))  # bands
    with pytest.raises(DataError, match=r"b\.tif: "):
        run(tmp_path / "src", tmp_path / "out", **options)
    result = run(tmp_path / "src", tmp_path / "out", skip_bad=True, overwrite=True, **options)
    assert [problem.place for problem in result.problems if problem.left_out] == [str(path)]
    assert {file.name[0] for file in (tmp_path / "out").rglob("*__*")} == {"a"}


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


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_background_thins_training_tiles_only(tmp_path, dota, share):
    for name in ("P1", "P3", "P5"):
        for path in dota.rglob(f"{name}.txt"):
            path.write_text("1 1 9 1 9 9 1 9 ship 0\n" if name != "P5" else "")
    whole, thin = run(dota, tmp_path / "whole"), run(dota, tmp_path / "thin", background=share)
    assert thin.splits["train"].empty == round(share * whole.splits["train"].empty)
    assert thin.splits["train"].objects == whole.splits["train"].objects
    assert thin.splits["val"] == whole.splits["val"]
    assert thin.splits["test"] == whole.splits["test"]
    again = run(dota, tmp_path / "again", background=share)
    assert again.splits == thin.splits


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


def test_an_interrupted_split_goes_on(tmp_path, dota, monkeypatch):
    run(dota, tmp_path / "whole")
    count, real = 0, TileEncoder.encode

    def fails(*args):
        nonlocal count
        count += 1
        if count >= 30:  # no later job may end before the main thread hears of it
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(TileEncoder, "encode", fails)
    with pytest.raises(KeyboardInterrupt):
        run(dota, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(TileEncoder, "encode", real)
    with pytest.raises(ConfigError, match="unfinished split of other data or with other settings"):
        run(dota, tmp_path / "out", overlap=8)
    with (draft_place(tmp_path / "out") / "journal.jsonl").open("ab") as journal:
        journal.write(b"\0\0\0\n\xff\xfe\n[1, 2]\n{}\n" + b"[" * 9999 + b'\n["cut sho')  # by a crash
    result = run(dota, tmp_path / "out")
    assert 0 < result.resumed < 30
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert not draft_place(tmp_path / "out").exists()


def test_overwrite(tmp_path, dota):
    out = tmp_path / "out"
    run(dota, out)
    with pytest.raises(ConfigError, match="exists already"):
        run(dota, out)
    run(dota, out, overlap=0, overwrite=True)
    run(dota, tmp_path / "fresh", overlap=0)
    assert files(out) == files(tmp_path / "fresh")
    (out / "split.json").unlink()
    with pytest.raises(ConfigError, match="not an output of legnet split"):
        run(dota, out, overwrite=True)
    with pytest.raises(ConfigError, match="must be apart"):
        run(dota, dota / "tiles")


def damage(dota):
    path = dota / "train" / "images" / "P1.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_damaged_image_is_named_or_left_out(tmp_path, dota):
    damage(dota)
    with pytest.raises(DataError, match=r"P1\.png: cannot read rows .* damaged"):
        run(dota, tmp_path / "out")
    result = run(dota, tmp_path / "out", skip_bad=True, overwrite=True)
    assert [p.place.endswith("P1.png") for p in result.problems if p.left_out] == [True]
    assert not [name for name in files(tmp_path / "out") if "P1__" in name]
    assert result.splits["train"].source == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 1 9 1 9 9 ship 0", "6 coordinates where 4 points have 8"),
        ("1 1 9 1 9 9 1 9 5 5 ship 0", "10 coordinates where 4 points have 8"),
        ("1 1 9 1 nan 9 1 9 ship 0", "not a finite number"),
        ("1 1 5 1 9 1 3 1 ship 0", "the area is zero"),
    ],
)
def test_faulty_labels(tmp_path, dota, line, message):
    path = dota / "train" / "labelTxt" / "P2.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, line, ""]))
    with pytest.raises(LabelError, match=rf"P2\.txt:{len(lines) + 1}: .*{message}"):
        run(dota, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    result = run(dota, tmp_path / "out", skip_bad=True)
    assert [message in str(problem) for problem in result.problems if problem.left_out] == [True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "train/labelTxt/P2.txt").unlink(), "no labels for 1 image, counted as empty: P2"),
        (lambda d: (d / "train/images/P2.png").unlink(), "no image for the labels of P2"),
        (lambda d: _append(d, "1 1 20 20 20 1 1 20 ship 0"), "sides of the quad cross"),
        (lambda d: _append(d, "900 900 920 900 920 920 900 920 ship 0"), "lies outside of its image"),
        (lambda d: _append(d, "1 1 9 1 9 9 1 9 Ship 0"), "did you mean"),
        (lambda d: _append(d, "-90 -90 150 -90 150 150 -90 150 ship 0"), "no tile has 0.7 of the area of"),
    ],
)
def test_doubtful_labels_are_told(tmp_path, dota, change, message):
    change(dota)
    result = run(dota, tmp_path / "out")
    assert any(message in str(problem) for problem in result.problems)


def _append(dota, line):
    with (dota / "train" / "labelTxt" / "P2.txt").open("a") as file:
        file.write(f"{line}\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 8, "overlap": 0}, "--tile 8 is out of range: give 32 or more"),
        ({"tile": 64, "overlap": 64}, "does not fit"),
        ({"scales": (0.0,)}, "--scale"),
        ({"scales": ()}, "--scale"),
        ({"truncated": "cut"}, "--truncated cut: choose from keep, drop, recut"),
        ({"format": "jpg"}, "choose from png, tif"),
        ({"background": 1.5}, "--background 1.5"),
        ({"val_fraction": 1.0}, "--val-fraction 1.0"),
        ({"workers": 0}, "--workers 0"),
        ({"format": "tif", "stretch": "0,1"}, "tif keeps all values"),
        ({"format": "tif", "bands": (1,)}, "tif keeps all bands"),
    ],
)
def test_settings_are_checked_first(options, message):
    with pytest.raises(ConfigError, match=message):
        SplitConfig(Path("a"), Path("b"), **options)


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
    assert "left out 10 tiles with nothing but ignored ground" in told
    assert json.loads((tmp_path / "out/split.json").read_text())["problems"] == [str(p) for p in result.problems]


def test_no_tile_to_cut_is_told_with_its_reason(tmp_path):
    """A review that nobody has worked on, ground that is all ignored, and empty tiles that are not wanted."""
    write_image(tmp_path / "in/images/a.png", (100, 100))
    review = write_review(tmp_path / "review.gpkg", [row("r1", "todo", (50, 50)), row("r2", "todo", (60, 50))])
    with pytest.raises(DataError, match=r"review\.gpkg: no square is reviewed yet .*open it in QGIS and set"):
        run(tmp_path / "in", tmp_path / "out", labels=str(review))
    labels = tmp_path / "in/labelTxt/a.txt"
    labels.parent.mkdir()
    labels.write_text("0 0 100 0 100 100 0 100 ignored 0\n")
    with pytest.raises(DataError, match="in: all ground is ignored"):
        run(tmp_path / "in", tmp_path / "out")
    labels.write_text("")
    with pytest.raises(DataError, match=r"in: no tile holds an object: .*--background 1"):
        run(tmp_path / "in", tmp_path / "out", background=0.0)
    assert not (tmp_path / "out").exists()


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


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"gsd": 0.5, "format": "tif"}, ConfigError, "--gsd is for --format png"),
        ({"gsd": 0.0}, ConfigError, "--gsd 0.0: give metres per pixel"),
        ({"gsd": 0.02}, ConfigError, "too coarse for --gsd 0.02"),
        ({"gsd": 0.5}, DataError, "T1.png: its ground sampling distance is unknown: leave out --gsd"),
    ],
)
def test_a_scale_that_cannot_be_had(dota, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        run(dota, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_one_split_at_a_time_writes_a_folder(tmp_path, dota):
    """The second says who holds it, the first is not disturbed, and what it leaves is gone at its end."""
    config = SplitConfig(dota, tmp_path / "out", tile=64, overlap=0)
    seen = []

    def second(progress):
        if not seen:
            seen.append(progress)
            with pytest.raises(DataError, match=rf"out: is being written by process {os.getpid()} on .+: wait for"):
                split(config)

    split(config, second)
    assert seen
    assert (config.out / "split.json").exists()
    assert not [*tmp_path.glob(".legnet-*")]


def test_a_folder_made_meanwhile_stays(tmp_path, dota, monkeypatch):
    config = SplitConfig(dota, tmp_path / "out", tile=64, overlap=0)

    def load(*args, **kwargs):
        monkeypatch.setattr(place, real)
        split(config)
        return real(*args, **kwargs)

    place, real = "legnet_cli.engine.split.run.load_dataset", load_dataset
    monkeypatch.setattr(place, load)
    with pytest.raises(ConfigError, match="exists already"):
        split(config)
    assert (config.out / "split.json").exists()


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"\xff" * 10, b"[" * 100_000, b'{"a": 1}\n', b'"other"\n'])
def test_a_journal_of_any_content(tmp_path, dota, content):
    config = SplitConfig(dota, tmp_path / "out", tile=64, overlap=0)
    place = draft_place(config.out)
    place.mkdir()
    (place / "journal.jsonl").write_bytes(content)
    with pytest.raises(ConfigError, match="holds an unfinished split of other data"):
        split(config)
    split(replace(config, overwrite=True))
    assert (config.out / "split.json").exists()


@pytest.mark.parametrize("size", [((1 << 31) - 1, 1), ((1 << 31) - 1, (1 << 31) - 1)])
def test_a_header_of_an_image_that_cannot_be(tmp_path, size):
    """Told before any tile is planned."""
    (tmp_path / "in").mkdir()
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", *size) + b"\x08\0\0\0\0"
    (tmp_path / "in" / "a.png").write_bytes(png + bytes(64))
    (tmp_path / "in" / "a.txt").write_text("1 1 9 1 9 9 1 9 ship 0\n")
    with pytest.raises(DataError, match=r"a\.png: its header says 2,147,483,647 × [0-9,]+ pixels"):
        split(SplitConfig(tmp_path / "in", tmp_path / "out", tile=64, overlap=0))
