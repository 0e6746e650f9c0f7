import csv
from dataclasses import replace

import numpy as np
import pytest

from legnet_cli.boxes import Detections, boxes_to_polygons, to_le90
from legnet_cli.data.tables import ImageDetections, check_task1, read_csv, read_task1, write_csv, write_task1
from legnet_cli.errors import ConfigError, DataError

CLASSES = ["ship", "large-vehicle", 'odd, "name"']


def detections(n, seed=0):
    rng = np.random.default_rng(seed)
    boxes = np.c_[rng.random((n, 2)) * 40_000, rng.random((n, 2)) * 200 + 1, rng.uniform(-9, 9, n)]
    return Detections(to_le90(boxes), rng.random(n).astype(np.float32), rng.integers(0, len(CLASSES), n))


def images(*names, n=20):
    return [ImageDetections(name, detections(n, seed)) for seed, name in enumerate(names)]


def assert_same(found, expected, *, in_order=True):
    assert [image.image for image in found] == [image.image for image in expected]
    for one, other in zip(found, expected, strict=True):
        a, b = one.detections, other.detections
        if not in_order:  # the files of one class each
            a, b = (found[np.argsort(found.labels, kind="stable")] for found in (a, b))
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_array_equal(a.scores, b.scores)
        np.testing.assert_allclose(a.boxes[:, :4], b.boxes[:, :4], rtol=0, atol=2e-4)
        np.testing.assert_allclose(boxes_to_polygons(a.boxes), boxes_to_polygons(b.boxes), rtol=0, atol=4e-4)


def by_class(images, classes, wanted):
    """``images`` with labels that index ``wanted`` in place of ``classes``, those of an image in that order."""
    index = np.array([wanted.index(name) for name in classes], int)
    own = (replace(image.detections, labels=index[image.detections.labels]) for image in images)
    return [replace(image, detections=found) for image, found in zip(images, own, strict=True)]


# ---- CSV


def test_csv_columns_and_values(tmp_path):
    found = Detections(np.array([[10, 20, 8, 4, 0.0]]), np.array([0.9], np.float32), np.array([1]))
    write_csv(tmp_path / "a.csv", [ImageDetections("a.tif", found)], CLASSES)
    assert (tmp_path / "a.csv").read_text() == (
        "image,class,score,cx,cy,w,h,angle,x1,y1,x2,y2,x3,y3,x4,y4\n"
        "a.tif,large-vehicle,0.9,10.0,20.0,8.0,4.0,0.0,6.0,18.0,14.0,18.0,14.0,22.0,6.0,22.0\n"
    )


def test_csv_lonlat_columns_only_with_a_georeference(tmp_path):
    found = detections(1)
    located = ImageDetections("a", found, np.array([[12.3456789012, -45.1]]))
    write_csv(tmp_path / "a.csv", [located, ImageDetections("b", found)], CLASSES, located=True)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["lon"], row["lat"]) for row in rows] == [("12.345678901", "-45.1"), ("", "")]
    assert_same(by_class(*read_csv(tmp_path / "a.csv"), CLASSES), [located, ImageDetections("b", found)])


@pytest.mark.parametrize("names", [("a",), ("a.tif", "b, c.tif", 'd "e" f.tif', "œ.tif"), ("one\nline",)])
def test_csv_round_trip(tmp_path, names):
    expected = images(*names)
    write_csv(tmp_path / "a.csv", expected, CLASSES)
    assert_same(by_class(*read_csv(tmp_path / "a.csv"), CLASSES), expected)


@pytest.mark.parametrize("kind", ["csv", "task1"])
def test_chunks_leave_no_trace(tmp_path, monkeypatch, kind):
    def write(folder):
        images = [ImageDetections(name, detections(n), np.full((n, 2), 1.5)) for name, n in (("a", 7), ("b", 6))]
        if kind == "task1":
            write_task1(tmp_path / folder, images, ["x", "y", "z"])
            return [file.read_text() for file in sorted((tmp_path / folder).iterdir())]
        write_csv(tmp_path / folder / "a.csv", images, CLASSES, located=True)
        return (tmp_path / folder / "a.csv").read_text()

    whole = write("one")
    monkeypatch.setattr("legnet_cli.data.tables._CHUNK", 3)
    assert write("two") == whole


def test_csv_finds_the_classes(tmp_path):
    write_csv(tmp_path / "a.csv", images("a"), CLASSES)
    found, classes = read_csv(tmp_path / "a.csv")
    assert classes == sorted(CLASSES)
    names = [CLASSES[label] for label in detections(20).labels]
    assert [classes[label] for label in found[0].detections.labels] == names


@pytest.mark.parametrize("scenes", [[], [ImageDetections("a", Detections.empty())]])
def test_csv_of_nothing(tmp_path, scenes):
    write_csv(tmp_path / "a.csv", scenes, CLASSES)
    assert (tmp_path / "a.csv").read_text().startswith("image,class,score,")
    assert read_csv(tmp_path / "a.csv") == ([], [])


def test_csv_of_a_spreadsheet(tmp_path):
    """A byte-order mark, carriage returns, columns in another order and a box with w < h."""
    text = "class,score,image,angle,h,w,cy,cx,note\r\nship,0.5,a,0,8,4,2,1,x\r\n"
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (image,), _ = read_csv(tmp_path / "a.csv")
    np.testing.assert_allclose(image.detections.boxes, [[1, 2, 8, 4, -np.pi / 2]])


HEAD = "image,class,score,cx,cy,w,h,angle\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"image,score\n", "lacks the column 'class'"),
        (HEAD + "a,ship,0.5,1,2,3,2,0\na,ship,high,1,2,3,2,0\n", "line 3: a number is missing"),
        (HEAD + "a,ship,0.5,1\n", "line 2: a number is missing"),
        (HEAD + "a,ship,nan,1,2,3,2,0\n", "line 2: a number is missing"),
        ("score,cx,cy,w,h,angle,image,class\n0.5,1,2,3,2,0,a\n", "line 2: the image or class is missing"),
    ],
)
def test_csv_damage(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path / "a.csv")


def test_csv_missing(tmp_path):
    with pytest.raises(DataError, match=r"a\.csv: cannot be read \(No such file"):
        read_csv(tmp_path / "a.csv")


# ---- DOTA Task1

DOTA = ["ship", "large-vehicle", "storage tank"]


def test_task1_files(tmp_path):
    found = Detections(np.array([[10, 20, 8, 4, 0.0]]), np.array([0.9], np.float32), np.array([1]))
    write_task1(tmp_path / "out", [ImageDetections("P0001", found)], DOTA)
    assert {file.name: file.read_text() for file in (tmp_path / "out").iterdir()} == {
        "Task1_ship.txt": "",
        "Task1_large-vehicle.txt": "P0001 0.9 6.0 18.0 14.0 18.0 14.0 22.0 6.0 22.0\n",
        "Task1_storage tank.txt": "",
    }


def test_task1_round_trip(tmp_path):
    expected = images("P0001", "P0002.v2", "P0003")
    write_task1(tmp_path / "out", expected, DOTA)
    found, classes = read_task1(tmp_path / "out")
    assert classes == sorted(DOTA)
    assert_same(by_class(found, classes, DOTA), expected, in_order=False)


def test_task1_of_nothing(tmp_path):
    write_task1(tmp_path / "out", [], DOTA)
    assert read_task1(tmp_path / "out") == ([], sorted(DOTA))


def test_task1_replaces_only_its_own_files(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("notes.txt", "Task1_ship.txt", "Task1_tree.txt"):
        (folder / name).write_text("old")
    write_task1(folder, images("P1"), DOTA)
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        ["notes.txt", *(f"Task1_{name}.txt" for name in DOTA)]
    )
    assert (folder / "notes.txt").read_text() == "old"
    assert (folder / "Task1_ship.txt").read_text() != "old"
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (["a b"], DOTA, "'a b' has a space.*write .csv"),
        (["a", "b", "a"], DOTA, "'a' comes twice"),
        ([""], DOTA, "has a space"),
        (["a"], ["ship/boat"], "class name 'ship/boat'"),
    ],
)
def test_task1_names(tmp_path, names, classes, message):
    with pytest.raises(ConfigError, match=message):
        check_task1(names, classes)
    with pytest.raises(ConfigError, match=message):
        write_task1(tmp_path / "out", images(*names), classes)
    assert not list(tmp_path.iterdir())


LINE = "P1 0.5 0 0 8 0 8 4 0 4\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"holds no Task1_\*\.txt"),
        ({"Task1_ship.txt": LINE + "P1 0.5 0 0 8 0\n"}, r"Task1_ship\.txt, line 2"),
        ({"Task1_ship.txt": LINE + "\n"}, r"Task1_ship\.txt, line 2"),
        ({"Task1_ship.txt": "\udcff"}, r"Task1_ship\.txt: cannot be read"),
    ],
)
def test_task1_damage(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError, match=message):
        read_task1(tmp_path)


def test_task1_reads_any_quadrilateral(tmp_path):
    (tmp_path / "Task1_ship.txt").write_text("P1 0.5 8 4 0 4 0 0 8 0\n")
    (image,), _ = read_task1(tmp_path)
    np.testing.assert_allclose(image.detections.boxes, [[4, 2, 8, 4, 0]], atol=1e-9)
