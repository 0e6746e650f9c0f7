from pathlib import Path

import numpy as np
import pytest

from legnet_cli.data import yolo_obb
from legnet_cli.data.labels import Dataset, ImageLabels, LabelBuilder
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


@pytest.mark.parametrize(
    ("line", "fault"),
    [
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


@pytest.mark.parametrize("size", [(640, 512), (1333, 777), (13, 50001)])
def test_pixels_with_six_decimals_come_back_exactly(size):
    quads = np.random.default_rng(0).uniform(-5, max(size), (200, 4, 2)).round(6)
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
    ],
)
def test_class_names(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert list(yolo_obb.read_names(tmp_path).items()) == [("0", "plane"), ("1", "ship")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no class names: add data.yaml"),
        ({"a.yaml": "names: [x]", "b.yaml": "names: [y]"}, "a.yaml, b.yaml all name classes: keep one"),
        ({"a.yaml": "names: [x"}, "is not YAML"),
    ],
)
def test_class_names_missing(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        yolo_obb.read_names(tmp_path)


def test_data_yaml_names_splits_and_classes(tmp_path):
    dataset = Dataset((ImageLabels("a", split="train"), ImageLabels("b", split="val")), ("plane", "船"), "dota")
    text = yolo_obb.data_yaml(dataset)["data.yaml"]
    assert "train: images/train\nval: images/val\n" in text
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
    assert yolo_obb.read_names(tmp_path) == {"0": "plane", "1": "船"}
