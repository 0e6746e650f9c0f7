import json
import os
import signal

import pytest
import typer
import yaml
from blobs import write_tiles
from forks import Fork
from typer.testing import CliRunner

from legnet_cli.commands.console import TERMINATED, report_errors
from legnet_cli.commands.train import score_line, train
from legnet_cli.engine.train import Score

NANO = "oriented-rcnn/legnet-nano"
app = typer.Typer(pretty_exceptions_enable=False)
app.callback()(lambda: None)
app.command()(report_errors(train))


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return write_tiles(tmp_path_factory.mktemp("data") / "blobs", (("train", 4), ("val", 1)))


def flags(tiles, out, *more):
    fixed = ("--data", tiles, "--out", out, "--recipe", NANO, "--weights", "none", "--batch", "2")
    return ["train", *map(str, (*fixed, "--workers", "0", "--device", "cpu", *more))]


def run(tiles, out, *more):
    return CliRunner().invoke(app, flags(tiles, out, *more))


@pytest.mark.usefixtures("mmrotate")
def test_progress_and_summary_go_to_stderr(tiles, tmp_path):
    result = run(tiles, tmp_path / "run", "--epochs", "1")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    for words in ("img/s", "waiting for data", "MB", "epoch 1: mAP50", "bright", "1 epochs, 2 steps, best mAP50"):
        assert words in result.stderr


@pytest.mark.parametrize(
    ("ignored", "expected"),
    [((0, {}), "mAP50 0.512, mAP50:95 0.250 (car 0.512)"), ((3, {"car": 1, "van": 2}), ", ignored 3 (car 1, van 2)")],
)
def test_line_of_an_epoch(ignored, expected):
    assert score_line(Score(0.512, 0.25, {"car": 0.512}, *ignored)).endswith(expected)


@pytest.mark.usefixtures("mmrotate")
def test_json(tiles, tmp_path):
    found = json.loads(run(tiles, tmp_path / "run", "--epochs", "1", "--json", "-q").stdout)
    assert found["steps"] == 2
    assert found["data"]["objects"] == {"bright": 3, "dim": 3}
    assert found["plan"]["classes"] == ["bright", "dim"]
    assert found["best"]["epoch"] == 1


@pytest.mark.usefixtures("mmrotate")
def test_dry_run_shows_recipe_data_and_cost(tiles, tmp_path):
    result = run(tiles, tmp_path / "run", "--dry-run", "--set", "ema=0.5")
    assert result.exit_code == 0, result.output
    plan = yaml.safe_load(result.stdout)
    assert (plan["recipe"], plan["ema"], plan["batch"]) == (NANO, 0.5, 2)
    for words in (
        "4 images, 1 without objects, 1 for validation",
        "96×96 (4)",
        "bright",
        "50.0%",
        "a step of 2 images",
    ):
        assert words in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("mmrotate")
@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--epochs", "0"), 2, "--epochs 0"),
        (("--set", "lrr=1"), 2, "there is no lrr"),
        (("--classes", "ship"), 3, "no object of ship"),
    ],
)
def test_errors_are_one_line(tiles, tmp_path, more, code, words):
    result = run(tiles, tmp_path / "run", *more)
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stderr.strip().count("\n") == 0


@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
@pytest.mark.usefixtures("mmrotate")
def test_signal_to_all_processes_saves_and_resumes(tiles, tmp_path):
    """A cluster's notice reaches the processes that read images, too."""
    more = ("--epochs", "3000", "--workers", "1")
    process = Fork(app, flags(tiles, tmp_path / "run", *more))
    assert any("1 of 6,000 steps" in line for line in process.stderr)
    os.killpg(process.pid, signal.SIGTERM)
    code, rest = process.communicate()
    assert code == TERMINATED, rest
    assert f"legnet train --out {tmp_path / 'run'} --resume continues" in rest
    assert (tmp_path / "run" / "last.ckpt").exists()
