import json

import pytest
from typer.testing import CliRunner

from legnet_cli.main import app

QUICK = ("--recipe", "oriented-rcnn/legnet-nano", "--tile", "64", "--repeat", "1")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Matrices and arrays that take no time, and hardly any warm-up."""
    monkeypatch.setattr("legnet_cli.engine.benchmark.runs._WARM_SEARCHES", 1)
    monkeypatch.setattr("legnet_cli.engine.benchmark.roofline._SIDES", {"cpu": (32,)})
    monkeypatch.setattr("legnet_cli.engine.benchmark.roofline._TRIAD_MB", {"cpu": 1})


def run(*args):
    return CliRunner().invoke(app, ["benchmark", *map(str, args)])


def test_headline():
    result = run("--fps", *QUICK, "-q")
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    assert line.startswith("oriented-rcnn/legnet-nano fp32, batch 1, 64 × 64, ")
    assert " FPS with post-processing, " in line
    assert line.endswith(" without")
    assert result.stderr == ""


@pytest.mark.usefixtures("mmrotate")
def test_tables_and_files(tmp_path):
    result = run(*QUICK, "--layers", "--baseline", "--json-file", tmp_path / "r.json", "--plot", tmp_path / "r.png")
    assert result.exit_code == 0, result.output
    for words in (
        "2.39 M parameters",
        "p95",
        "backbone",
        "GFLOP/s",
        "scene (synthetic): 4 tiles",
        "× as fast",
    ):
        assert words in result.stdout, words
    assert "this project's operators" in result.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["fps"] > 0
    assert report["roofline"]["layers"][0]["name"].removeprefix("backbone.") in result.stdout
    assert "r.png" in result.stderr


def test_ci(tmp_path):
    path = tmp_path / "old.json"
    assert run("--fps", *QUICK, "--json-file", path).exit_code == 0
    assert run("--fps", *QUICK, "--compare", path, "--fail-if-slower", "100000%").exit_code == 0
    report = json.loads(path.read_text())
    report["runs"][0]["latency_ms"]["p50"] /= 1000
    path.write_text(json.dumps(report))
    result = run("--fps", *QUICK, "--compare", path, "--fail-if-slower", "10%")
    assert result.exit_code == 5
    assert "p50 ms before" in result.stdout
    assert "slower than" in result.stderr
    report["machine"]["cpu"] = "another"
    path.write_text(json.dumps(report))
    result = run("--fps", *QUICK, "--compare", path)
    assert result.exit_code == 0
    assert "not comparable" in result.stdout
    assert run("--fps", *QUICK, "--compare", path, "--fail-if-slower", "10%").exit_code == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--batch", "one"), "--batch: 'one' is not a whole number"),
        (("--tile", "5"), "--tile 5"),
        (("--fail-if-slower", "much"), "'much' is not a percentage"),
        (("--fps", "--layers"), "leave out --layers"),
        (("--precision", "int3"), "--precision int3"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_line(args, words):
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
