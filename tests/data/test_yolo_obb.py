from pathlib import Path

import numpy as np
import pytest

from legnet_cli.data import yolo_obb
from legnet_cli.data.builder import LabelBuilder
from legnet_cli.data.labels import Dataset, ImageLabels
from legnet_cli.errors import DataError

NAMES = {"0": "plane", "1": "ship"}


def parse(text, size=(640, 480), names=NAMES):
    problems = []
    builder = LabelBuilder(Path("a.txt"), problems, size, names)
    yolo_obb.parse(text.encode(), builder)
    return builder.build("a.png", None, ""), [str(problem) for problem in problems]


def test_fractions_become_pixels():
    image, problems = parse("1 0.25 0.5 0.5 0.5 0.5 0.75 0.25 0.75\r\n\r\n")
    assert not problems
    assert image.names == ("ship",)
    np.testing.assert_array_equal(image.quads[0], [[160, 240], [320, 240], [320, 360], [160, 360]])


QUAD = [[160, 240], [320, 240], [320, 360], [160, 360]]


@pytest.mark.parametrize(
    "line",
    [
        "1 0.25 0.5 0.5 0.5 0.5 0.75 0.25 0.75",
        "1.0 0.25 0.5 0.5 0.5 0.5 0.75 0.25 0.75",
        "1.000000e+00 2.5e-1 5e-1 .5 .5 5.0E-01 0.75 0.25 0.75",
        "01 0.25 0.5 0.5 0.5 0.5 0.75 0.25 0.75",
        "1,0.25,0.5,0.5,0.5,0.5,0.75,0.25,0.75",
        "1, 0.25, 0.5, 0.5, 0.5, 0.5, 0.75, 0.25, 0.75,",
        "1;0.25;0.5;0.5;0.5;0.5;0.75;0.25;0.75",
        "1\t0.25\t0.5\t0.5\t0.5\t0.5\t0.75\t0.25\t0.75",
        "1 160 240 320 240 320 360 160 360",
        "1.0,160.0,240.0,320.0,240.0,320.0,360.0,160.0,360.0",
    ],
)
@pytest.mark.parametrize("confidence", [None, 0.75, 1.0, 0.0])
def test_dialects(line, confidence):
    separator = next((mark for mark in ",;" if mark in line), " ")
    image, problems = parse(line if confidence is None else f"{line}{separator}{confidence}")
    assert image.names == ("ship",)
    np.testing.assert_array_equal(image.quads[0], QUAD)
    assert image.attributes == (({"confidence": confidence} if confidence is not None else {}),)
    assert problems == (["a.txt: " + yolo_obb._PIXELS] if "160" in line else [])


def test_fractions_may_lie_outside_and_pixels_near_the_corner():
    image, problems = parse("0 -1.5 0.1 2.5 0.1 2.5 0.2 -1.5 0.2")
    assert not problems
    np.testing.assert_allclose(image.quads[0], [[-960, 48], [1600, 48], [1600, 96], [-960, 96]])
    rows = ["0 1 1 3 1 3 2 1 2", "1 100 90 120 90 120 95 100 95", "1 200 90 220 90 220 95 200 95"]
    image, _ = parse("\n".join(rows))
    np.testing.assert_array_equal(image.quads[0], [[1, 1], [3, 1], [3, 2], [1, 2]])


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("0 0.5 0.5 0.1 0.1 0.9", "an upright box, not an oriented one"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2 7", "9 coordinates where 4 points have 8"),
        ("1.5 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "unknown class '1.5'"),
        ("-1 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "unknown class '-1'"),
        ("1e9 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "unknown class '1000000000'"),
        ("inf 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "unknown class 'inf'"),
        ("0 0.1 0.1 0.2 1e999 0.2 0.2 0.1 0.2", "a corner is not a finite number"),
        ("0 0.1 0.1 0.2 1e308 0.2 0.2 0.1 0.2", "a corner is not a finite number"),
        ("0 0.1 0.1 0.2 1e9 0.2 0.2 0.1 0.2", "a corner is over 2e+09 pixels away"),
        ("0 0.5 0.5 0.1 0.1", "an upright box, not an oriented one"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2", "3 points where an oriented box has 4"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2 0.1 0.15", "5 points where an oriented box has 4"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1", "7 coordinates where 4 points have 8"),
        ("0 0.1 0.1 0.2 x 0.2 0.2 0.1 0.2", "'x' is not a number"),
        ("7 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "unknown class '7': known are 0 (plane), 1 (ship)"),
        ("0 0.1 0.1 0.2 nan 0.2 0.2 0.1 0.2", "a corner is not a finite number"),
        ("0 0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1", "the area is zero"),
    ],
)
def test_bad_lines(line, fault):
    _, problems = parse(f"0 0.25 0.5 0.5 0.5 0.5 0.75 0.25 0.75\n{line}")
    assert len(problems) == 1
    assert problems[0].startswith(f"a.txt:2: {fault}")


def test_pixels_among_fractions_are_neither():
    fractions, pixels = "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "1 160 240 320 240 320 360 160 360"
    for rows, fault in (
        ([fractions, fractions, pixels], "a.txt:3: coordinates in pixels, where other lines have fractions"),
        ([pixels, pixels, fractions], "a.txt:3: fractions of the image, where other lines have coordinates in pixels"),
    ):
        image, problems = parse("\n".join(rows))
        assert len(image) == 2
        assert problems[-1].startswith(fault)


@pytest.mark.parametrize("size", [(640, 512), (1333, 777), (13, 50001)])
def test_pixels_with_six_decimals_come_back_exactly(size):
    quads = np.random.default_rng(0).uniform(-5, size, (200, 4, 2)).round(6)
    quads[:100] = quads[:100].round()
    image = ImageLabels("a.png", quads, ("ship",) * 200, np.zeros(200, int), ({},) * 200, size=size, places=("",) * 200)
    again, problems = parse(yolo_obb.render(image, {"ship": "1"}), size)
    assert not problems
    np.testing.assert_array_equal(again.quads, quads)


def test_size_is_needed():
    with pytest.raises(DataError, match="no image beside it"):
        parse("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", None)
    with pytest.raises(DataError, match=r"a\.png: its size is unknown"):
        yolo_obb.render(ImageLabels("a.png"), {})


@pytest.mark.parametrize(
    "files",
    [
        {"data.yaml": "names: [plane, ship]\n"},
        {"data.yml": "train: images\nnc: 2\nnames:\n  1: ship\n  0: plane\n", "other.yaml": "a: 1\n"},
        {"classes.txt": "plane\n\nship\n"},
        {"data.yaml": "names:\n  0: plane\n  '1': ship\n"},
        {"data.yaml": "names: {1: ship, '0': plane}\n", "broken.yaml": "a: [\n"},
        {"data.yaml": "a: &n [plane, ship]\nnames: *n\n"},
    ],
)
def test_class_names(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert list(yolo_obb.read_names(tmp_path, []).items()) == [("0", "plane"), ("1", "ship")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no class names: add data.yaml"),
        ({"a.yaml": "names: [x]", "b.yaml": "names: [y]"}, "a.yaml, b.yaml all name classes: keep one"),
        ({"a.yaml": "names: [x"}, "a.yaml: is not YAML"),
        ({"a.yaml": "names: " + "[" * 5000}, "a.yaml: is not YAML"),
        ({"a.yaml": "names: {? [0] : x}"}, "a.yaml: is not YAML"),
        ({"a.yaml": "names: {a: x}"}, "a.yaml: class number 'a' is not a whole number"),
        ({"a.yaml": "names: {1.5: x}"}, "a.yaml: class number '1.5' is not a whole number"),
        ({"a.yaml": "names: {10000000000: x}"}, "a.yaml: class number '10000000000' is not a whole number"),
        ({"a.yaml": "names: [x, [y]]"}, "a.yaml: the name of class 1 is not text"),
        ({"a.yaml": 'names: ["\\ud800"]'}, "a.yaml: the name of class 0 is not text"),
        ({"a.yaml": "b: &b [x, x]\nc: &c [*b, *b]\nnames: [*c, *c]"}, "a.yaml: the name of class 0 is not text"),
        ({"a.yaml": "names: 5"}, r"a.yaml: names is '5', not a list: write names: \[5\]"),
        ({"a.yaml": "\0"}, "a.yaml: is not YAML"),
    ],
)
def test_class_names_missing(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        yolo_obb.read_names(tmp_path, [])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [no, yes, on, 1, 1.0, null, 2024-01-02]", ["no", "yes", "on", "1", "1.0", "null", "2024-01-02"]),
        ("names: {0: 007, 1: ~}", ["007", "~"]),
    ],
)
def test_names_are_what_stands_there(tmp_path, text, names):
    (tmp_path / "data.yaml").write_text(text)
    assert list(yolo_obb.read_names(tmp_path, []).values()) == names


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("x: 2024-13-45", "month must be in 1..12"),
        ("x: !!int a", "invalid literal"),
        ("? [a]\n: 1", "found unhashable key"),
        ("x: !!python/object:os.system 1", "could not determine a constructor"),
        ("x: " + "9" * 5000, "is not YAML"),
    ],
)
def test_other_faults_of_the_yaml_file_are_told_by_line(tmp_path, line, fault):
    (tmp_path / "data.yaml").write_text(f"names: [a]\n{line}\n")
    problems = []
    if line.startswith("?"):  # not even its names can be read
        with pytest.raises(DataError, match=fault):
            yolo_obb.read_names(tmp_path, problems)
        return
    assert yolo_obb.read_names(tmp_path, problems) == {"0": "a"}
    ((place, message, left_out),) = ((p.place, p.message, p.left_out) for p in problems)
    assert (place, left_out) == (f"{tmp_path}/data.yaml:2", True)
    assert fault in message


def test_data_yaml_names_splits_and_classes(tmp_path):
    dataset = Dataset((ImageLabels("a", split="train"), ImageLabels("b", split="val")), ("plane", "船"), "dota")
    text = yolo_obb.data_yaml(dataset)["data.yaml"]
    assert "train: images/train\nval: images/val\n" in text
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
    assert yolo_obb.read_names(tmp_path, []) == {"0": "plane", "1": "船"}
