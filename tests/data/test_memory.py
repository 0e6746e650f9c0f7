"""What is read takes little more memory than its file, and a small file never takes much."""

import itertools
import os
import tracemalloc

import cv2
import numpy as np
import pytest

from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.detect import find_parts
from legnet_cli.data.parts import load_parts
from legnet_cli.data.tables import read_csv, read_task1
from legnet_cli.data.yaml_names import yaml_fault, yaml_names
from legnet_cli.errors import DataError
from legnet_cli.untrusted import walk

MANY = 20_000
CORNERS = "1021.25 331.5 1043.75 332.5 1042.5 341.25 1020.5 340.75"


def peak(read):
    """Most bytes allocated at a time while ``read`` runs."""
    tracemalloc.start()
    try:
        kept = read()
        return tracemalloc.get_traced_memory()[1] if kept is not None else 0
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["Task1_a.txt", "a.csv"])
def test_tables(tmp_path, name):
    line = f"P0001,a,0.91,{CORNERS.replace(' ', ',')}\n" if name == "a.csv" else f"P0001 0.91 {CORNERS}\n"
    head = "image,class,score,x1,y1,x2,y2,x3,y3,x4,y4\n" if name == "a.csv" else ""
    text = head + line * MANY
    (tmp_path / name).write_text(text)
    assert peak(lambda: read_csv(tmp_path / name) if head else read_task1(tmp_path)) < 10 * len(text)


@pytest.mark.parametrize("format", ["dota", "yolo-obb", "dior"])
def test_labels(tmp_path, format):
    line = {
        "dota": f"{CORNERS} small-vehicle 0\n",
        "yolo-obb": "0 0.11111 0.22222 0.33333 0.22222 0.33333 0.44444 0.11111 0.44444\n",
        "dior": "<object><name>small-vehicle</name><difficult>0</difficult><bndbox><xmin>101</xmin><ymin>102</ymin>"
        "<xmax>151</xmax><ymax>153</ymax></bndbox></object>\n",
    }[format]
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "data.yaml").write_text("names: [a]\n")
    text = f"<annotation>{line * MANY}</annotation>" if format == "dior" else line * MANY
    (tmp_path / ("a.xml" if format == "dior" else "a.txt")).write_text(text)
    found, parts = find_parts(tmp_path, format)
    load_parts(tmp_path, found, parts)  # what is loaded once is not counted
    most = 20 if format == "dior" else 10  # of a tree with an object for each tag
    assert peak(lambda: load_parts(tmp_path, found, parts)) < most * len(text)


@pytest.mark.parametrize("line", ["a\n", "1 2 3\n", "1 2 3 4 5 6 7 8 a b c\n"])
def test_a_file_of_faults_is_left_out_as_a_whole(tmp_path, line):
    (tmp_path / "labelTxt").mkdir()
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "labelTxt" / "a.txt").write_text(line * 200_000)
    (tmp_path / "labelTxt" / "b.txt").write_text("1 1 5 1 5 5 1 5 a 0\n")
    dataset = load_dataset(tmp_path, format="dota", skip_bad=True)
    assert any("has over 10,000 faults" in problem.message for problem in dataset.problems)


def test_a_bomb_of_elements(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "a.xml").write_text("<annotation>" + "<a/>" * 1_000_001 + "</annotation>")
    with pytest.raises(DataError, match=r"a\.xml: has over 1,000,000 elements"):
        load_dataset(tmp_path, format="dior")


PAIRS = [*itertools.pairwise("abcdefghij")]
ALIASES = "".join(f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in PAIRS)
MERGES = "".join(
    f"{new}: &{new}\n  <<: [{', '.join(['*' + old] * 9)}]\n" for old, new in itertools.pairwise("abcdefghij")
)


@pytest.mark.parametrize("bomb", [f"a: &a [x]\n{ALIASES}", f"a: &a {{k: x}}\n{MERGES}"])
def test_aliases_that_multiply(tmp_path, bomb):
    path = tmp_path / "data.yaml"
    path.write_text(f"names: [a]\n{bomb}")
    with pytest.raises(DataError, match=r"is not YAML \(its aliases stand for over"):
        yaml_names(path)
    assert "its aliases stand for over" in yaml_fault(path)[0].message


@pytest.mark.parametrize("text", ["[" * 2000, "{a: " * 2000, "- " * 5000, "names: " + "[" * 3000 + "]" * 3000])
def test_values_nested_in_each_other(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match="is not YAML"):
        yaml_names(tmp_path / "data.yaml")


def test_links_that_lead_back(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").touch()
    for number in range(8):  # by as many ways as there are orders of them, if each were followed
        (tmp_path / f"l{number}").symlink_to(tmp_path)
        (tmp_path / "a" / f"l{number}").symlink_to(tmp_path / "a")
    (tmp_path / "self").symlink_to("self")
    os.mkfifo(tmp_path / "pipe.txt")
    found = [(place.relative_to(tmp_path).as_posix(), files) for place, _, files in walk(tmp_path)]
    assert found == [(".", []), ("a", ["x.txt"])]


@pytest.mark.parametrize("name", ["a.txt", "data.yaml", "a.xml", "a.json", "a.geojson", "a.gpkg", "a.png"])
def test_what_is_no_regular_file_is_passed_over_or_refused(tmp_path, name):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "b.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "data.yml").write_text("names: [a]\n")
    (tmp_path / "labels" / "b.txt").write_text("0 .1 .1 .9 .1 .9 .9 .1 .9\n")
    for folder in (tmp_path, tmp_path / "images", tmp_path / "labels"):
        os.mkfifo(folder / name)
        (folder / f"zero{name}").symlink_to("/dev/zero")
    assert load_dataset(tmp_path).counts() == {"a": 1}
