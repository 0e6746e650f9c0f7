import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from legnet_cli.main import app

QUAD = "10 10 30 10 30 20 10 20"
OPTIONS = ["--tile", 64, "--overlap", 16]


@pytest.fixture
def dota(tmp_path):
    for split, name in (("train", "a"), ("train", "empty"), ("val", "b"), ("test", "c")):
        folder = tmp_path / "dota" / split
        (folder / "images").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"images/{name}.png"), np.full((90, 120, 3), 9, np.uint8))
        if split != "test":
            (folder / "labelTxt").mkdir(exist_ok=True)
            (folder / f"labelTxt/{name}.txt").write_text("" if name == "empty" else f"{QUAD} plane 0\n")
    return tmp_path / "dota"


def run(*args):
    return CliRunner().invoke(app, ["split", *map(str, args)])


def test_summary_and_warnings(tmp_path, dota):
    result = run(dota, "--out", tmp_path / "out", *OPTIONS, "--truncated", "recut")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    for words in (
        "without objects",
        "plane",
        "contact sheet →",
        "24 tiles, ",
        "no labels for 1 image, their folder is",
    ):
        assert words in result.stderr
    assert (tmp_path / "out/split.json").is_file()
    assert len(list((tmp_path / "out/train/images").iterdir())) == 12


def test_json(tmp_path, dota):
    result = run(dota, "-o", tmp_path / "out", *OPTIONS, "--json", "-q", "--background", 0)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["out"], found["resumed_tiles"]) == (f"{tmp_path}/out", 0)
    assert found["contact_sheet"] == f"{tmp_path}/out/contact_sheet.png"
    assert found["splits"]["train"] | {"sizes": 0} == {
        "tiles": 1, "empty": 0, "objects": 1, "cut": 0, "classes": {"plane": 1}, "sizes": 0, "source": 1,
    }  # fmt: skip
    assert found["splits"]["val"]["empty"] == 5  # what is measured there must count them
    assert result.stderr == ""


def test_several_scales(tmp_path, dota):
    result = run(dota, "-o", tmp_path / "out", *OPTIONS, "-q", "--scale", 1, "--scale", 0.5)
    assert result.exit_code == 0, result.output
    sizes = {path.name.split("__")[1] for path in (tmp_path / "out/train/images").iterdir()}
    assert sizes == {"64", "128"}


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nothing", "--out", "out"], 3, "nothing: does not exist"),
        (["dota", "--out", "dota/inside"], 2, "must be apart from"),
        (["dota", "--out", "taken"], 2, "--overwrite"),
        (["dota", "--out", "taken", "--overwrite"], 2, "taken: "),
        (["dota", "--out", "out", "--tile", "16"], 2, "--tile 16 is out of range: give 32"),
        (["dota", "--out", "out", "--truncated", "cut"], 2, "--truncated"),
        (["dota", "--out", "out", "--bands", "a"], 2, "--bands"),
        (["dota", "--out", "out", "--from", "coco"], 3, "no coco labels found but dota"),
    ],
)
def test_errors_are_one_line_with_their_code(tmp_path, dota, monkeypatch, args, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/notes.txt").touch()
    result = run(*args)
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "taken/notes.txt").exists()
