"""Which classes are kept, renamed, or become ignored regions, in every verb."""

import json

import numpy as np
import pytest

from legnet_cli.data.classes import ClassChoice
from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.labels import IGNORED, nearest_class
from legnet_cli.data.png import encode_png
from legnet_cli.engine.convert import ConvertConfig, convert
from legnet_cli.errors import ConfigError

NAMES = ("ship", "small-vehicle", "large-vehicle", "DontCare", "ship")


@pytest.fixture
def dota(tmp_path):
    for folder in ("images", "labelTxt"):
        (tmp_path / "dota" / folder).mkdir(parents=True)
    (tmp_path / "dota/images/a.png").write_bytes(encode_png(np.zeros((100, 100, 3), np.uint8)))
    lines = (f"{x} 10 {x + 9} 10 {x + 9} 20 {x} 20 {name} 0" for x, name in zip(range(5, 95, 15), NAMES, strict=False))
    (tmp_path / "dota/labelTxt/a.txt").write_text("\n".join(lines))
    return tmp_path / "dota"


@pytest.mark.parametrize(
    ("choice", "names", "classes"),
    [
        ({}, ["ship", "small-vehicle", "large-vehicle", IGNORED, "ship"], ["large-vehicle", "ship", "small-vehicle"]),
        ({"keep": ("ship",)}, ["ship", IGNORED, "ship"], ["ship"]),
        ({"keep": ("ship",), "ignore_others": True}, ["ship", IGNORED, IGNORED, IGNORED, "ship"], ["ship"]),
        (
            {"rename": ("small-vehicle=vehicle", "large-vehicle=vehicle")},
            ["ship", "vehicle", "vehicle", IGNORED, "ship"],
            ["vehicle", "ship"],
        ),
        (
            {"keep": ("vehicle", "ship"), "rename": ("small-vehicle=vehicle",)},
            ["ship", "vehicle", IGNORED, "ship"],
            ["vehicle", "ship"],
        ),
        ({"keep": ("DontCare",)}, ["DontCare"], ["DontCare"]),
        (
            {"rename": ("DontCare=clutter", "ship=ignored")},
            [IGNORED, "small-vehicle", "large-vehicle", "clutter", IGNORED],
            ["clutter", "large-vehicle", "small-vehicle"],
        ),
    ],
)
def test_what_becomes_of_classes(dota, choice, names, classes):
    found = load_dataset(dota, choice=ClassChoice(**choice))
    assert list(found.images[0].names) == names
    assert list(found.classes) == classes
    told = any("class 'DontCare' (1 object) stands for ignored regions" in str(problem) for problem in found.problems)
    assert told == (not {"DontCare"} & {*choice.get("keep", ()), *(t[:8] for t in choice.get("rename", ()))})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"keep": ("shp",)}, r"--classes: unknown class 'shp': did you mean 'ship'\?"),
        ({"keep": ("ship", "crane")}, "--classes: unknown class 'crane': known are "),
        ({"keep": ("mid-vehicle",)}, "unknown class 'mid-vehicle': known are "),
        (
            {"keep": ("small-vehicle",), "rename": ("small-vehicle=car",)},
            "unknown class 'small-vehicle': known are DontCare, large-vehicle, ship, car",
        ),
        ({"rename": ("Ship=boat",)}, r"--rename: unknown class 'Ship': did you mean 'ship'\?"),
        ({"rename": ("ship",)}, "--rename 'ship': write old=new"),
        ({"rename": ("ship=a", "ship=b")}, "--rename: 'ship' is renamed twice"),
        ({"keep": ("ignored",)}, "stands for ignored regions"),
    ],
)
def test_unknown_classes(dota, choice, message):
    with pytest.raises(ConfigError, match=message):
        load_dataset(dota, choice=ClassChoice(**choice))


def test_classes_without_objects_are_for_training(dota):
    assert load_dataset(dota, choice=ClassChoice(("crane", "ship")), complete=False).classes == ("crane", "ship")
    with pytest.raises(ConfigError, match="did you mean 'ship'"):  # a misspelling would leave out the ships
        load_dataset(dota, choice=ClassChoice(("shp",)), complete=False)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("sihp", ["ship", "plane"], "ship"),
        ("Small Vehicle", ["small-vehicle", "large-vehicle"], "small-vehicle"),
        ("smal-vehicle", ["small-vehicle", "large-vehicle"], "small-vehicle"),
        ("medium-vehicle", ["small-vehicle", "large-vehicle"], None),
        ("small-vehicle", ["large-vehicle"], None),
        ("A320", ["A220", "A330"], None),
        ("Boeing757", ["Boeing737", "Boeing747", "Boeing777"], None),
        ("airplanes", ["airplane", "airport"], "airplane"),
        ("plane", ["airplane", "helicopter"], "airplane"),
        ("warship", ["ship"], None),
        ("ships", ["ship", "shops"], None),
        ("car", ["Car", "cars"], "Car"),
        ("Car", ["car", "CAR"], None),
    ],
)
def test_the_nearest_class_is_the_right_one_or_none(name, known, expected):
    assert nearest_class(name, known) == expected


@pytest.mark.parametrize("target", ["dota", "dior", "fair1m", "hrsc", "labelme", "coco", "yolo-obb", "gpkg", "geojson"])
def test_formats_keep_ignored_regions_where_they_can(dota, tmp_path, target):
    out = tmp_path / (f"out.{target}" if target in ("gpkg", "geojson") else "out")
    choice = {"classes": ("ship",), "ignore_others": True}
    result = convert(ConvertConfig(dota, out, to_format=target, images="copy", **choice))
    told = [problem.message for problem in result.warnings]
    assert ("yolo-obb cannot hold 3 ignored regions" in told) == (target == "yolo-obb")
    labels = {"labels": str(out)} if out.is_file() else {}
    again = load_dataset(dota if labels else out, **labels)
    assert again.classes == ("ship",)
    kept = 0 if target == "yolo-obb" else 3
    assert sorted(again.images[0].names) == sorted([*["ship"] * 2, *[IGNORED] * kept])


def test_coco_says_that_regions_are_crowds(dota, tmp_path):
    convert(ConvertConfig(dota, tmp_path / "out", to_format="coco"))
    content = json.loads((tmp_path / "out/annotations/instances.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert [(names[a["category_id"]] == IGNORED) == a["iscrowd"] for a in content["annotations"]] == [True] * 5
