import json

import numpy as np
import pytest
from typer.testing import CliRunner

from legnet_cli.geo.crs import CRS
from legnet_cli.geo.raster import write_geotiff
from legnet_cli.geo.vector import Layer, write_layer
from legnet_cli.main import app


def run(*args):
    return CliRunner().invoke(app, ["review", *map(str, args)])


@pytest.fixture
def boxes(tmp_path):
    write_geotiff(tmp_path / "a.tif", np.full((300, 300, 3), 90, np.uint8), 1.0)
    corners = np.array([[0, 0], [20, 0], [20, 8], [0, 8]]) + np.array([[[40, 50]], [[150, 160]], [[250, 240]]])
    fields = {"class": np.array(["ship", "ship", "plane"]), "score": np.array([0.9, 0.3, 0.1])}
    path = tmp_path / "boxes.gpkg"
    write_layer(path, Layer(corners * (1.0, -1.0) + (500_000, 5_000_000), CRS.from_epsg(32631), fields))
    return path


def test_a_table_on_stderr(tmp_path, boxes):
    result = run(boxes, "--scenes", tmp_path / "*.tif", "--out", tmp_path / "r.gpkg", "--most", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    for words in ("uncertain", "missed", "2 of 3 objects, 2 squares in 1 scene,", "r.gpkg", "r.png"):
        assert words in result.stderr


def test_json(tmp_path, boxes):
    result = run(boxes, "--scenes", tmp_path / "a.tif", "-o", tmp_path / "r.gpkg", "--json", "-q")
    found = json.loads(result.stdout)
    assert (found["chosen"], found["places"], found["scenes"]) == (3, 3, 1)
    assert found["reasons"]["plane"]["missed"] == 1
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["boxes.gpkg", "-o", "r.shp"], 2, "need a GeoPackage"),
        (["boxes.gpkg", "-o", "r.gpkg"], 3, "boxes.gpkg: does not name its scenes"),
        (["nowhere.gpkg", "-o", "r.gpkg"], 3, "nowhere.gpkg: no such file"),
        (["boxes.gpkg", "--scenes", "x.tif", "-o", "r.gpkg"], 3, "x.tif: no such file"),
    ],
)
def test_errors_are_one_line(tmp_path, boxes, monkeypatch, args, code, words):
    monkeypatch.chdir(tmp_path)
    result = run(*args, "-q")
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1)
    assert words in result.stderr
    assert not (tmp_path / "r.gpkg").exists()
