import json

import cv2
import pytest
from typer.testing import CliRunner

from legnet_cli.detectors.weights.fetch import EMBEDDED
from legnet_cli.engine.sample_tiles import synthetic_tile
from legnet_cli.main import app


@pytest.fixture
def scene(tmp_path):
    cv2.imwrite(str(tmp_path / "scene.png"), synthetic_tile(300, 300))
    return str(tmp_path / "scene.png")


def test_command_prints_parity_and_json(tmp_path, scene):
    run = CliRunner().invoke
    out = str(tmp_path / "a.onnx")
    result = run(app, ["export", EMBEDDED, "--out", out, "--images", scene, "--tile", "128", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["parity"]["boxes"]["pytorch"] == found["parity"]["matched"]["exported"] > 0
    assert found["files"][out] > 1e6
    again = run(app, ["export", EMBEDDED, "--out", out])
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    wrong = run(app, ["export", EMBEDDED, "--out", str(tmp_path / "b.onnx"), "--tile", "big"])
    assert wrong.exit_code == 2
    assert "--tile big" in wrong.stderr
    shown = run(app, ["export", EMBEDDED, "--out", out, "--images", scene, "--overwrite"])
    assert shown.exit_code == 0
    for words in ("boxes over 0.1", "100.0 %", "largest difference in score", "MB →"):
        assert words in shown.stderr
