import json

import numpy as np
import pytest
from typer.testing import CliRunner

from legnet_cli.boxes import Detections
from legnet_cli.data.tables import ImageDetections, write_csv
from legnet_cli.main import app


@pytest.fixture
def case(tmp_path):
    """A folder of labels without images, and predictions of it."""
    (tmp_path / "labelTxt").mkdir()
    (tmp_path / "labelTxt/a.txt").write_text("10 10 30 10 30 20 10 20 ship 0\n50 50 90 50 90 60 50 60 plane 0\n")
    boxes = np.array([[20, 15, 20, 10, 0], [70, 55, 40, 10, 0.0]])
    found = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([1, 1]))
    write_csv(tmp_path / "found.csv", [ImageDetections("a", found)], ["plane", "ship"])
    return tmp_path


def run(folder, *args):
    options = ["--data", folder / "labelTxt", "--predictions", folder / "found.csv", "--out", folder / "run"]
    return CliRunner().invoke(app, ["eval", *map(str, [*options, *args])])


def test_summary_goes_to_stderr_and_stdout_stays_empty(case):
    result = run(case)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    for words in ("mAP50 0.500", "ship", "plane", "precision", "1 image, ", "report.html"):
        assert words in result.stderr
    assert (case / "run/report.html").exists()


def test_ignored_objects_are_counted_by_class(case):
    for name in ("b", "c"):
        (case / f"labelTxt/{name}.txt").write_text("10 10 30 10 30 20 10 20 ship 1\n50 50 90 50 90 60 50 60 plane 0\n")
    lines = [line.split() for line in run(case).stderr.splitlines()]
    assert [words[:3] for words in lines if words[:1] in (["class"], ["plane"], ["ship"], ["all"])] == [
        ["class", "objects", "ignored"],
        ["plane", "3", "0"],
        ["ship", "1", "2"],
        ["all", "4", "2"],
    ]


def test_json(case):
    found = json.loads(run(case, "--json", "-q").stdout)
    assert found["ap"]["voc07"]["0.50"] == {"plane": 0, "ship": 1}
    assert found["out"] == str(case / "run")


def test_compare(case):
    for name in ("one", "two"):
        assert run(case, "--out", case / name, "-q").exit_code == 0
    runs = ["--compare", case / "one", case / "two", "--out", case / "both"]
    result = CliRunner().invoke(app, ["eval", *map(str, runs)])
    assert result.exit_code == 0, result.output
    assert "one" in result.stderr
    assert (case / "both/report.html").exists()
    result = CliRunner().invoke(app, ["eval", *map(str, runs), "--overwrite", "--json", "-q"])
    assert json.loads(result.stdout)["summary"]["two"]["mAP50"] == 0.5


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--weights", "w"], 2, "either --weights or --predictions"),
        (["--compare", "x"], 2, "--compare takes earlier reports alone"),
        (["--classes", "shp"], 2, "did you mean 'ship'?"),
        (["--data", "nowhere"], 3, "nowhere: does not exist"),
        (["--predictions", "nowhere"], 3, "nowhere: does not exist"),
        (["--submission", "out.tar"], 2, ".tar"),
        (["--bands", "a"], 2, "--bands"),
    ],
)
def test_errors_are_one_line_with_their_code(case, args, code, words):
    result = run(case, "-q", *args)
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (case / "run").exists()


def test_no_data():
    result = CliRunner().invoke(app, ["eval", "--out", "x"])
    assert result.exit_code == 2
    assert "--data" in result.stderr
