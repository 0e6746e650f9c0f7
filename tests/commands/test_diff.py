import json

import numpy as np
import pytest
from typer.testing import CliRunner

from legnet_cli.main import app

RING = np.array([[0, 0], [3, 0], [3, 1], [0, 1], [0, 0]]) * 1e-4


def write(path, *places):
    features = [
        {
            "type": "Feature",
            "properties": {"class": "ship", "score": 0.9},
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    (np.array([[0, 0], [3, 0], [3, 1], [0, 1], [0, 0]]) * 1e-4 + [place * 1e-3, 0]).tolist()
                ],
            },
        }
        for place in places
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


def run(*args):
    return CliRunner().invoke(app, ["diff", *map(str, args)])


@pytest.fixture
def dates(tmp_path):
    return write(tmp_path / "2024.geojson", *range(9)), write(tmp_path / "2025.geojson", *range(1, 9))


def test_a_table_on_stderr(tmp_path, dates):
    result = run(*dates, "--out", tmp_path / "o.gpkg", "--report", tmp_path / "r.html")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    for words in ("ship", "gone", "unseen", "2025: shift of +0.00 m east", "o.gpkg", "report →"):
        assert words in result.stderr


def test_json(tmp_path, dates):
    result = run(*dates, "-o", tmp_path / "o.gpkg", "--json", "-q")
    found = json.loads(result.stdout)
    assert (found["changes"]["ship"]["gone"], found["changes"]["ship"]["same"]) == (1, 8)
    assert [date["objects"] for date in found["dates"]] == [9, 8]
    assert found["dates"][1]["registration"]["pairs"] == 8
    assert result.stderr == ""


def test_three_dates_in_json(tmp_path, dates):
    third = write(tmp_path / "2026.geojson", *range(2, 12))
    found = json.loads(run(*dates, third, "-o", tmp_path / "o.gpkg", "--json", "-q").stdout)
    assert found["tracks"] == 12
    assert [date["found"] for date in found["over_time"]["ship"]] == [9, 8, 10]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 2, "one date is not a change"),
        (["nowhere.gpkg"], 3, "nowhere.gpkg: no such file"),
        (["2025.geojson", "--mask", "nowhere.gpkg"], 3, "nowhere.gpkg: no such file"),
        (["2025.geojson", "--mask", "5:nowhere.gpkg"], 2, "no date of that number"),
    ],
)
def test_errors_are_one_line(tmp_path, dates, monkeypatch, args, code, words):
    monkeypatch.chdir(tmp_path)
    result = run("2024.geojson", *args, "-o", "o.gpkg", "-q")
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1)
    assert words in result.stderr
    assert not (tmp_path / "o.gpkg").exists()
