import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from blobs import draw
from typer.testing import CliRunner

from legnet_cli.main import app

BOXES = [(60, 50, 40, 12, 0.4), (128, 100, 44, 16, -0.7)]


@pytest.fixture
def scene(write_scene):
    return write_scene("a.tif", draw((160, 200), BOXES, [160, 250]))


def run(*args):
    return CliRunner().invoke(app, ["predict", *map(str, args)])


def test_summary_goes_to_stderr_and_stdout_stays_empty(tmp_path, blobs, scene):
    result = run(scene, "--weights", "any", "--out", tmp_path / "o.gpkg", "--preview", tmp_path / "p.png")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    for words in (
        "blobs: 2 objects",
        "bright",
        "km²",
        "o.gpkg, in WGS 84 / UTM zone 31N (EPSG:32631)",
        "p.png",
        "4 of 4 tiles",
    ):
        assert words in result.stderr
    assert (tmp_path / "o.gpkg").exists()
    assert (tmp_path / "p.png").exists()


def test_json(tmp_path, blobs, scene):
    result = run(scene, "-w", "any", "-o", tmp_path / "o.csv", "--json", "-q")
    found = json.loads(result.stdout)
    assert found["objects"] == {"bright": 1, "dim": 1}
    assert (found["outputs"], found["crs"]) == ([str(tmp_path / "o.csv")], None)
    assert found["scenes"] == [
        {
            "path": scene,
            "name": "a.tif",
            "objects": 2,
            "tiles": 4,
            "empty_tiles": 0,
            "km2": pytest.approx(0.008, rel=0.01),
        }
    ]
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--bands", "a,b"], 2, "--bands"),
        (["--bands", "1,7,2"], 2, "band"),
        (["--classes", "brihgt"], 2, "did you mean 'bright'"),
        (["--tile", "64", "--overlap", "80"], 2, "--overlap"),
        (["--aoi", "nowhere.shp"], 3, "nowhere.shp"),
        (["--out", "o.doc"], 2, ".doc"),
    ],
)
def test_errors_are_one_line_with_their_code(tmp_path, blobs, scene, args, code, words):
    result = run(scene, "-w", "any", "-o", tmp_path / "o.gpkg", "-q", *args)
    assert result.exit_code == code
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert not (tmp_path / "o.gpkg").exists()


def test_verbose_tells_of_weights_tiles_and_time(tmp_path, scene, blobs):
    plain = run(scene, "-w", "any", "-o", tmp_path / "a.csv").stderr
    more = run(scene, "-w", "any", "-o", tmp_path / "b.csv", "-v").stderr
    for words in ("2 classes, by torch in fp32 on cpu", "tiles of 128 pixels, overlap 48", "a.tif: 2 objects"):
        assert words in more
        assert words not in plain


def test_replay_needs_no_scene_and_all_else_an_output(tmp_path, blobs, scene, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert run(scene, "-w", "any", "-o", tmp_path / "a.gpkg", "-q").exit_code == 0
    result = run("--replay", tmp_path / "a.gpkg", "-o", tmp_path / "b" / "a.gpkg", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (tmp_path / "b" / "a.gpkg").read_bytes() == (tmp_path / "a.gpkg").read_bytes()
    for args, words in (((scene,), "--out"), (("-o", tmp_path / "c.gpkg"), "no scene given")):
        result = run(*args, "-w", "any")
        assert result.exit_code == 2
        assert words in result.stderr


def test_missing_scene(tmp_path, blobs):
    result = run(tmp_path / "no.tif", "-w", "any", "-o", tmp_path / "o.gpkg")
    assert result.exit_code == 3
    assert "no.tif" in result.stderr


def test_a_bug_keeps_its_traceback(tmp_path, scene, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("boom")

    monkeypatch.setattr("legnet_cli.engine.predict.run.load_ensemble", broken)
    result = run(scene, "-w", "any", "-o", tmp_path / "o.gpkg")
    assert isinstance(result.exception, RuntimeError)
    assert result.exit_code == 1


SLEEPER = """
import time, blobs
import legnet_cli.engine.predict.run as engine
class Slow(blobs.BlobDetector):
    def detect(self, images):
        print("searching", flush=True)
        time.sleep(600)
engine.load_ensemble = lambda *_, **__: Slow()
from legnet_cli.main import app
app(["predict", {scene!r}, "-w", "any", "-o", {out!r}])
"""


def test_interrupt_leaves_nothing(tmp_path, scene):
    tests = str(Path(__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {tests!r})" + SLEEPER.format(scene=scene, out=str(tmp_path / "o.gpkg"))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "searching\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)  # half of what the search takes
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_dark_scene_gives_an_empty_layer(tmp_path, blobs, write_scene):
    scene = write_scene("dark.tif", np.zeros((100, 100), np.uint8))
    result = run(scene, "-w", "any", "-o", tmp_path / "o.geojson")
    assert result.exit_code == 0
    assert json.loads((tmp_path / "o.geojson").read_text())["features"] == []


def test_scenes_to_look_at_come_first(tmp_path, blobs, scene, write_scene):
    half = draw((160, 200), BOXES, [160, 250])
    half[:, 72:] = 0  # all that the right half of the tiles shows
    many = [
        scene,
        write_scene("half.tif", half, nodata=0),
        *(write_scene(f"{n}.tif", half[:99, :99]) for n in range(9)),
    ]
    (tmp_path / "note.tif").write_text("no raster")
    result = run(*many, tmp_path / "note.tif", "-w", "any", "-o", tmp_path / "o.gpkg")
    assert result.exit_code == 3
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stderr.splitlines() if "│" in line]
    rows = [row for row in table if len(row) == 4]
    assert rows[0] == ["note.tif", "not searched", "", ""]
    assert (rows[1][0], rows[1][2:]) == ("half.tif", ["4", "50%"])
    assert len(rows) == 10
    assert "and 2 more scenes" in result.stderr
    assert "not searched: " in result.stderr


def test_status_of_a_job(tmp_path, blobs, scene):
    (tmp_path / "note.tif").write_text("no raster")
    assert run(scene, tmp_path / "note.tif", "-w", "any", "-o", tmp_path / "o.gpkg", "-q").exit_code == 3
    result = run("--status", tmp_path / "o.gpkg")
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first.endswith(": done: 4 of 4 tiles, 1 of 2 scenes, 8 boxes, 1 failed")  # in tiles that overlap
    assert second.startswith("process ")
    found = json.loads(run("--status", tmp_path / ".o.gpkg.legnet-job", "--json").stdout)
    assert (found["state"], found["tiles_done"], found["processes"][0]["state"]) == ("done", 4, "done")
    for args, code in (((tmp_path,), 3), ((tmp_path / "o.gpkg", scene), 2)):
        result = run("--status", *args)
        assert result.exit_code == code
        assert result.stderr.count("\n") == 1
