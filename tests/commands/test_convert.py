import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from legnet_cli.main import app

QUAD = "10 10 30 10 30 20 10 20"


@pytest.fixture
def dota(tmp_path):
    for split, text in (("train", f"{QUAD} plane 0\n{QUAD} small ship 1\n"), ("val", f"{QUAD} plane 0\n")):
        for folder in ("images", "labelTxt"):
            (tmp_path / "dota" / split / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "dota" / split / "images/a.png"), np.full((60, 80, 3), 9, np.uint8))
        (tmp_path / "dota" / split / "labelTxt/a.txt").write_text(text)
    return tmp_path / "dota"


def run(*args):
    return CliRunner().invoke(app, ["convert", *map(str, args)])


def test_table_and_warnings(tmp_path, dota):
    result = run(dota, tmp_path / "out", "--to", "yolo-obb")
    assert result.exit_code == 0, result.output
    for words in ("dota to yolo-obb", "train", "val"):
        assert words in result.output
    assert f"warning: {tmp_path}/out: yolo-obb cannot hold the difficulty of 1 object" in result.stderr
    assert (tmp_path / "out/data.yaml").is_file()


def test_out_is_another_way_to_say_dst(tmp_path, dota):
    assert run(dota, "-o", tmp_path / "out", "--to", "coco", "-q").exit_code == 0
    assert (tmp_path / "out/annotations").is_dir()
    for args in ((), (tmp_path / "a", "--out", tmp_path / "b")):
        result = run(dota, *args, "--to", "coco")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert "give what to create once" in result.stderr


def test_json(tmp_path, dota):
    result = run(dota, tmp_path / "out", "--to", "coco", "--json", "-q")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["out"], found["from"], found["to"]) == (f"{tmp_path}/out", "dota", "coco")
    assert found["splits"] == {"train": {"images": 1, "objects": 2}, "val": {"images": 1, "objects": 1}}
    assert found["classes"] == {"plane": 2, "small ship": 1}
    assert result.stderr == ""


def test_suffix_chooses_the_format(tmp_path, dota):
    assert run(dota, tmp_path / "out.geojson", "-q").exit_code == 0
    assert len(json.loads((tmp_path / "out.geojson").read_text())["features"]) == 3
    assert run(dota, tmp_path / "out.geojson", "-q").exit_code == 2
    assert run(dota, tmp_path / "out.geojson", "-q", "--overwrite").exit_code == 0


def test_all_faults_are_listed_the_first_one_last(tmp_path, dota):
    (dota / "val/labelTxt/a.txt").write_text("1 2 3 4 5 6 plane 0\n1 2 3 4 5 x 7 8 plane 0\n")
    result = run(dota, tmp_path / "out", "--to", "dota")
    assert result.exit_code == 3
    other, first = result.stderr.splitlines()
    assert other == f"error: {dota}/val/labelTxt/a.txt:2: 'x' is not a number"
    assert first.startswith(
        f"error: {dota}/val/labelTxt/a.txt:1: 6 coordinates where 4 points have 8 (and 1 more fault)"
    )
    assert not (tmp_path / "out").exists()
    result = run(dota, tmp_path / "out", "--to", "dota", "--skip-bad")
    assert result.exit_code == 0
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()][:2] == ["left out", "left out"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nothing", "out", "--to", "dota"], 3, "nothing: does not exist"),
        (["dota", "out"], 2, "--to"),
        (["dota", "out", "--to", "voc"], 2, "voc"),
        (["dota", "dota/inside", "--to", "dota"], 2, "must be apart from"),
        (["dota", "out", "--to", "dota", "--from", "coco"], 3, "no coco labels found but dota"),
        (["dota", "out", "--to", "dota", "--images", "move"], 2, "move"),
    ],
)
def test_errors_are_one_line_with_their_code(tmp_path, dota, monkeypatch, args, code, words):
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_chosen_classes(tmp_path, dota):
    flags = ("--classes", "ship", "--rename", "small ship=ship", "--ignore-others")
    assert run(dota, tmp_path / "out", "--to", "dota", "-q", *flags).exit_code == 0
    assert (tmp_path / "out/classes.txt").read_text() == "ship\nignored\n"
    lines = (tmp_path / "out/train/labelTxt/a.txt").read_text().splitlines()
    assert [line.split()[8:] for line in lines] == [["ignored", "0"], ["ship", "1"]]
    for more, words in (
        (("--ignore-others",), "name them with --classes"),
        (("--classes", "plnae"), "did you mean 'plane'?"),
    ):
        result = run(dota, tmp_path / "other", "--to", "dota", *more)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert words in result.stderr
