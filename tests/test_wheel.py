"""The wheel, installed whole on each Python of the machine: every command runs, and doctor's commands work.

What is built from source is built anew, in an empty cache; PyTorch and other wheels come from uv's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from legnet_cli.engine.doctor import EXTRAS

REPOSITORY = Path(__file__).parents[1]
NANO = "legnet-nano"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
TRAIN = ("train", "--data", "tiles", "--recipe", "oriented-rcnn/legnet-nano", "--out", "run", "--dry-run")
COMMANDS = [
    ("models",),
    ("split", "scene.tif", "--labels", "truth.geojson", "--out", "tiles", "--tile", "256", "--overlap", "64"),
    ("convert", "tiles", "coco", "--to", "coco"),
    ("predict", "scene.tif", "--weights", NANO, "--out", "boxes.geojson", "--preview", "boxes.png"),
    ("eval", "--weights", NANO, "--data", "scene.tif", "--labels", "truth.geojson", "--out", "evaluated"),
    ("export", NANO, "--out", "nano.onnx", "--tile", "256"),
    ("predict", "scene.tif", "--weights", "nano.onnx", "--tile", "256", "--out", "exported.geojson"),
    ("benchmark", "--fps", "--recipe", "oriented-rcnn/legnet-nano", "--tile", "256", "--repeat", "2"),
]


def find_python(version: str) -> str | None:
    """The interpreter of that version: pyenv's commands on the PATH answer only for those it has switched on."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for candidate in (*map(str, pyenv.glob(f"{version}.*/bin/python")), shutil.which(f"python{version}")):
        command = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if candidate and subprocess.run(command, capture_output=True, text=True).stdout.strip() == version:
            return candidate
    return None


def run(*command: str, cwd: Path, code: int = 0, **environment: str) -> str:
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def fixes(legnet: str, cwd: Path) -> dict[str, str | None]:
    return {found["name"]: found["fix"] for found in json.loads(run(legnet, "doctor", "--json", cwd=cwd))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the wheel and a scene."""
    folder = tmp_path_factory.mktemp("wheel")
    cache = str(folder / "cache")
    run("uv", "build", "--wheel", "--out-dir", str(folder), str(REPOSITORY), cwd=folder, UV_CACHE_DIR=cache)
    make = (str(REPOSITORY / "examples/make_scene.py"), "scene.tif", "--truth", "truth.geojson", "--size", "600")
    run("uv", "run", "--project", str(REPOSITORY), *make, cwd=folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_every_command_runs_as_installed(folder, version):
    python = find_python(version)
    if python is None:
        pytest.skip(f"Python {version} is not on this machine")
    cwd = folder / version
    cwd.mkdir()
    for name in ("scene.tif", "truth.geojson"):
        (cwd / name).symlink_to(folder / name)
    (wheel,) = folder.glob("*.whl")
    run("uv", "venv", "--python", python, "env", cwd=cwd)
    run("uv", "pip", "install", "--python", "env", "--no-build", str(wheel), cwd=cwd)
    legnet, cache = str(cwd / "env/bin/legnet"), {"UV_CACHE_DIR": str(folder / "cache")}

    # the extras by the commands that doctor prints
    missing = fixes(legnet, cwd)
    for extra in ("onnx", "pyarrow", "obstore", "wandb", "ray"):
        run("bash", "-c", missing[extra], cwd=cwd)
    for command in COMMANDS:
        run(legnet, *command, cwd=cwd)
    assert json.loads((cwd / "boxes.geojson").read_text())["features"]

    line = fixes(legnet, cwd)["mmcv-full, mmdet, mmrotate"]
    assert f"run `{line}`" in run(legnet, *TRAIN, cwd=cwd, code=4)
    if "--python 3.12" in line:
        assert version in ("3.13", "3.14")
    else:
        run("bash", "-c", line, cwd=cwd, **cache)
        run(legnet, *TRAIN, cwd=cwd)
    left = fixes(legnet, cwd)
    assert not any(left[name] for name in EXTRAS)
    assert "OpenCV" not in left
    shutil.rmtree(cwd)
