"""Every kind of installation is known by what its installer leaves behind, and told its own line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from legnet_cli.installation import Installation, Kind, find_installation, install_line, single_opencv_line

REQUIRES = "Requires-Dist: onnx>=1.17; extra == 'export'\nRequires-Dist: pyarrow>=17 ; extra == \"geoparquet\"\n"
REQUIRES += "Requires-Dist: mmdet==2.28.2; (python_version < '3.13') and extra == 'mmrotate'\n"
TRAINING = "--build-constraints <(echo 'setuptools<81') --overrides <(echo 'opencv-python; python_version<\"3\"')"


def package(site, name, requires="", **files):
    info = site / f"{name}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n{requires}")
    for file, text in files.items():
        (info / file).write_text(text)


@pytest.mark.parametrize(
    ("prefix", "left", "installer", "editable", "kind"),
    [
        ("source/.venv", "pyvenv.cfg", "uv\n", True, Kind.CHECKOUT),
        ("env", "pyvenv.cfg", "uv", True, Kind.UV),
        ("env", "pyvenv.cfg", "uv", False, Kind.UV),
        ("env", "pyvenv.cfg", "pip", False, Kind.PIP),
        ("source/.venv", "pyvenv.cfg", "pip", True, Kind.PIP),
        ("tools/legnet", "uv-receipt.toml", "uv", False, Kind.UV_TOOL),
        ("archive-v0/wPK6", "pyvenv.cfg", "uv", False, Kind.UVX),
        ("venvs/legnet", "pipx_metadata.json", "pip", False, Kind.PIPX),
        ("venvs/legnet", "pipx_metadata.json", "uv", False, Kind.PIPX),
    ],
)
def test_kind(tmp_path, monkeypatch, prefix, left, installer, editable, kind):
    monkeypatch.delenv("UV_PROJECT_ENVIRONMENT", raising=False)
    source, site = tmp_path / "source", tmp_path / prefix / "site"
    source.mkdir()
    origin = json.dumps({"url": source.as_uri(), "dir_info": {"editable": editable}})
    package(site, "legnet", REQUIRES, **{"INSTALLER": installer, "direct_url.json": origin})
    package(site, "onnx")
    (tmp_path / prefix / left).touch()
    found = find_installation(str(tmp_path / prefix), [str(site)], "/env/bin/python", (3, 11))
    assert found == Installation(kind, str(source), "/env/bin/python", (3, 11), editable, ("export",))


def test_environment_of_a_checkout_may_lie_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_PROJECT_ENVIRONMENT", str(tmp_path / "env"))
    origin = json.dumps({"url": tmp_path.as_uri(), "dir_info": {"editable": True}})
    package(tmp_path / "site", "legnet", **{"INSTALLER": "uv", "direct_url.json": origin})
    assert find_installation(str(tmp_path / "env"), [str(tmp_path / "site")]).kind is Kind.CHECKOUT


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        (None, "legnet"),
        ({"url": "file://{}/a%20b.whl", "archive_info": {}}, "{}/a b.whl"),
        ({"url": "file:///gone/a.whl", "archive_info": {}}, "legnet"),
        ({"url": "https://a.org/a.whl", "archive_info": {}}, "https://a.org/a.whl"),
        ({"url": "https://a.org/a", "vcs_info": {"vcs": "git", "commit_id": "12"}}, "git+https://a.org/a@12"),
    ],
)
def test_source(tmp_path, origin, source):
    (tmp_path / "a b.whl").touch()
    files = {"direct_url.json": json.dumps(origin).replace("{}/", f"{tmp_path}/")} if origin else {}
    package(tmp_path / "site", "legnet", **files)
    assert find_installation(str(tmp_path), [str(tmp_path / "site")]).source == source.format(tmp_path)


def test_without_metadata_it_is_taken_for_pip(tmp_path):
    found = find_installation(str(tmp_path), [str(tmp_path)], "python", (3, 10))
    assert found == Installation(Kind.PIP, "legnet", "python", (3, 10))


LINES = [
    (Kind.CHECKOUT, "", (3, 13), "uv sync --project /src"),
    (Kind.CHECKOUT, "export", (3, 11), "uv sync --project /src --extra export"),
    (Kind.CHECKOUT, "mmrotate", (3, 12), "uv sync --project /src --extra mmrotate"),
    (Kind.CHECKOUT, "mmrotate", (3, 13), "uv run --project /src --python 3.12 legnet …"),
    (Kind.UV_TOOL, "", (3, 13), "uv tool install '/src[geoparquet]'"),
    (Kind.UV_TOOL, "export", (3, 13), "uv tool install '/src[export,geoparquet]'"),
    (Kind.UV_TOOL, "mmrotate", (3, 11), f"uv tool install {TRAINING} '/src[geoparquet,mmrotate]'"),
    (Kind.UV_TOOL, "mmrotate", (3, 13), f"uv tool install --python 3.12 {TRAINING} '/src[geoparquet,mmrotate]'"),
    (Kind.UVX, "export", (3, 11), "uvx --from '/src[export,geoparquet]' legnet …"),
    (Kind.UVX, "mmrotate", (3, 14), f"uvx --python 3.12 {TRAINING} --from '/src[geoparquet,mmrotate]' legnet …"),
    (Kind.PIPX, "export", (3, 11), "pipx runpip legnet install 'legnet[export]'"),
    (Kind.PIPX, "mmrotate", (3, 11), f"pipx run uv pip install --python /env/bin/python {TRAINING} 'legnet[mmrotate]'"),
    (
        Kind.PIPX,
        "mmrotate",
        (3, 13),
        "pipx reinstall --python 3.12 legnet && "
        f"pipx run uv pip install --python /env/bin/python {TRAINING} 'legnet[mmrotate]'",
    ),
    (Kind.UV, "export", (3, 11), "uv pip install --python /env/bin/python 'legnet[export]'"),
    (Kind.UV, "mmrotate", (3, 11), f"uv pip install --python /env/bin/python {TRAINING} 'legnet[mmrotate]'"),
    (
        Kind.UV,
        "mmrotate",
        (3, 13),
        "uv venv --python 3.12 legnet-py3.12 && "
        f"uv pip install --python legnet-py3.12 {TRAINING} '/src[geoparquet,mmrotate]'",
    ),
    (Kind.PIP, "", (3, 11), "/env/bin/python -m pip install legnet"),
    (Kind.PIP, "export", (3, 11), "/env/bin/python -m pip install 'legnet[export]'"),
    (
        Kind.PIP,
        "mmrotate",
        (3, 11),
        "/env/bin/python -m pip install uv && "
        f"/env/bin/python -m uv pip install --python /env/bin/python {TRAINING} 'legnet[mmrotate]'",
    ),
    (
        Kind.PIP,
        "mmrotate",
        (3, 13),
        "/env/bin/python -m pip install uv && /env/bin/python -m uv venv --python 3.12 legnet-py3.12 && "
        f"/env/bin/python -m uv pip install --python legnet-py3.12 {TRAINING} '/src[geoparquet,mmrotate]'",
    ),
]


@pytest.mark.parametrize(("kind", "extra", "python", "line"), LINES)
def test_line(monkeypatch, kind, extra, python, line):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert install_line(extra, Installation(kind, "/src", "/env/bin/python", python, extras=("geoparquet",))) == line


def test_line_is_short_where_it_can_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: f"/env/bin/{name}")
    here = Installation(Kind.CHECKOUT, str(tmp_path), "/env/bin/python", (3, 13))
    assert install_line("export", here) == "uv sync --extra export"
    assert install_line("mmrotate", here) == "uv run --python 3.12 legnet …"
    pip = replace(here, kind=Kind.PIP, python=(3, 12))
    assert install_line("export", pip) == "pip install 'legnet[export]'"
    assert install_line("mmrotate", pip).startswith("uv pip install --python /env/bin/python --build")


@pytest.mark.parametrize(
    ("source", "editable", "end"),
    [
        ("/a folder", True, "uv tool install --editable '/a folder[export]'"),
        ("git+https://a.org/a@12", False, "uv tool install 'legnet[export] @ git+https://a.org/a@12'"),
        ("legnet", False, "uv tool install 'legnet[export]'"),
    ],
)
def test_tool_is_installed_again_from_where_it_came(source, editable, end):
    assert install_line("export", Installation(Kind.UV_TOOL, source, "python", (3, 11), editable)) == end


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (Kind.CHECKOUT, "uv sync --project /src --reinstall-package opencv-python-headless"),
        (Kind.UVX, f"uvx {TRAINING} --from '/src[mmrotate]' legnet …"),
        (
            Kind.UV_TOOL,
            "uv pip uninstall --python python -y opencv-python && "
            "uv pip install --python python --force-reinstall --no-deps opencv-python-headless",
        ),
        (
            Kind.PIP,
            "python -m pip uninstall -y opencv-python && "
            "python -m pip install --force-reinstall --no-deps opencv-python-headless",
        ),
    ],
)
def test_line_for_one_opencv(monkeypatch, kind, line):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert single_opencv_line(Installation(kind, "/src", "python", (3, 11))) == line
