"""``legnet doctor`` on installations of every kind, whole and incomplete."""

from __future__ import annotations

import json
import sys
from importlib import metadata

import pytest
from typer.testing import CliRunner

from legnet_cli.engine import doctor as engine
from legnet_cli.installation import Installation, Kind
from legnet_cli.main import app

WHOLE = (*engine.CORE, *engine.TRAINING, "opencv-python-headless")


@pytest.fixture
def report(monkeypatch):
    """Runner of the command where just the named packages are installed; returns exit code, output and findings."""

    def run(packages=WHOLE, modules=(), kind=Kind.PIP, python=(3, 11)):
        def version(name):
            if name not in packages:
                raise metadata.PackageNotFoundError(name)
            return "1.2.3"

        here = Installation(kind, "/src", "/env/bin/python", python)
        monkeypatch.setattr(engine, "find_installation", lambda: here)
        monkeypatch.setattr(engine.metadata, "version", version)
        monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: name in modules or None)
        shown, printed = (CliRunner().invoke(app, ["doctor", *flags]) for flags in ([], ["--json"]))
        assert shown.exit_code == printed.exit_code
        findings = {finding["name"]: finding for finding in json.loads(printed.stdout)}
        return shown.exit_code, shown.output, findings

    return run


@pytest.mark.parametrize(
    ("kind", "begin"),
    [
        (Kind.CHECKOUT, "uv sync --project /src --extra "),
        (Kind.UV_TOOL, "uv tool install '/src["),
        (Kind.UVX, "uvx --from '/src["),
        (Kind.PIPX, "pipx runpip legnet install 'legnet["),
        (Kind.UV, "uv pip install --python /env/bin/python 'legnet["),
        (Kind.PIP, "/env/bin/python -m pip install 'legnet["),
    ],
)
def test_what_is_missing_comes_with_a_command_of_this_kind_of_installation(report, kind, begin):
    code, output, findings = report(kind=kind)
    assert code == 0
    assert f"{kind.value} (/src)" in output
    for module in engine.EXTRAS:
        assert findings[module]["fix"].startswith(begin)
        assert findings[module]["fix"] in output


def test_what_is_present_needs_nothing(report):
    code, output, findings = report(modules=(*engine.EXTRAS, "torch"))
    assert code == 0
    assert not any(finding["fix"] for finding in findings.values())
    assert findings["wandb"]["value"] == findings["tensorboard"]["value"] == "present"
    assert findings["mmrotate"]["value"] == "1.2.3"
    assert "rotated boxes" in output


@pytest.mark.parametrize(
    ("python", "value", "fix"),
    [
        ((3, 12), "absent, needed for train", "uv tool install --build-constraints"),
        ((3, 13), "cannot be installed on Python", "uv tool install --python 3.12 "),
    ],
)
def test_without_mmrotate_it_says_what_that_is_for(report, python, value, fix):
    packages = set(WHOLE) - {"mmdet", "mmrotate"}
    code, _, findings = report(packages, kind=Kind.UV_TOOL, python=python)
    assert code == 0
    assert findings["mmdet, mmrotate"]["value"].startswith(value)
    assert findings["mmdet, mmrotate"]["fix"].startswith(fix)


@pytest.mark.parametrize("kind", list(Kind))
def test_two_opencvs_are_warned_of(report, kind):
    code, _, findings = report((*WHOLE, "opencv-python"), kind=kind)
    assert code == 0
    assert findings["OpenCV"]["value"] == "2 packages share the folder cv2"
    assert "opencv-python" in findings["OpenCV"]["fix"]


def test_opencv_that_cannot_be_loaded(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    code, output, findings = report()
    assert code == 4
    assert "cannot be loaded" in findings["OpenCV"]["value"]
    assert "--force-reinstall --no-deps opencv-python-headless" in output


def test_core_package_that_is_missing(report):
    code, output, findings = report(set(WHOLE) - {"torch"})
    assert code == 4
    assert findings["torch"]["fix"] == "/env/bin/python -m pip install legnet"
    assert output.splitlines()[-1] == "error: torch absent: run `/env/bin/python -m pip install legnet`"
    assert "rotated boxes" not in output  # what needs torch is left out


def test_this_installation_is_whole():
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
