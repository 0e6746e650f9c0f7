"""How this package was installed, and the command that adds an extra to exactly this installation."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

TRAINING_PYTHON = "3.12"  # the newest that mmcv-full can be built for
_TOO_NEW = (3, 13)
# mmcv-full's setup needs an old setuptools; its opencv-python would share a folder with our opencv-python-headless
_TRAINING = "--build-constraints <(echo 'setuptools<81') --overrides <(echo 'opencv-python; python_version<\"3\"')"


class Kind(Enum):
    """What installed it; the value is for people to read."""

    CHECKOUT = "checkout, run by uv"
    UV_TOOL = "uv tool"
    UVX = "uvx"
    PIPX = "pipx"
    UV = "environment of uv pip"
    PIP = "environment of pip"


@dataclass(frozen=True)
class Installation:
    """One installed legnet.

    Attributes:
        kind: what installed it.
        source: what an installer takes to install it again: ``legnet``, a folder, a wheel or a URL.
        executable: its Python interpreter.
        python: that interpreter's major and minor version.
        editable: the code runs from the folder ``source``.
        extras: those of which all packages are present.
    """

    kind: Kind
    source: str
    executable: str
    python: tuple[int, int]
    editable: bool = False
    extras: tuple[str, ...] = ()

    @property
    def takes_mmrotate(self) -> bool:
        """Whether mmcv-full, mmdet and mmrotate can be installed for its Python."""
        return self.python < _TOO_NEW


def find_installation(
    prefix: str = sys.prefix,
    path: Sequence[str] | None = None,
    executable: str = sys.executable,
    python: tuple[int, int] = sys.version_info[:2],
) -> Installation:
    """Read what the installer left behind, by default that of the running Python.

    Args:
        prefix: folder of the environment.
        path: folders to look for packages in; None for ``sys.path``.
        executable: the environment's interpreter.
        python: its version.
    """
    path = list(sys.path if path is None else path)
    found = next(iter(metadata.distributions(name="legnet", path=path)), None)
    if found is None:
        return Installation(Kind.PIP, "legnet", executable, python)
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    source, editable = _source(origin), bool(origin.get("dir_info", {}).get("editable"))
    by_uv = (found.read_text("INSTALLER") or "").strip() == "uv"
    kind = _kind(Path(prefix), by_uv, Path(source) if editable else None)
    return Installation(kind, source, executable, python, editable, _present_extras(found, path))


def install_line(extra: str = "", here: Installation | None = None) -> str:
    """The command that adds ``extra``, or else what the core lacks, to an installation: by default to the running one.

    For ``mmrotate`` on a Python that is too new the command sets up an older one. Outside a checkout the commands for
    ``mmrotate`` use the process substitution of bash and zsh.
    """
    here = here or find_installation()
    training = _TRAINING if extra == "mmrotate" else ""
    new_python = f"--python {TRAINING_PYTHON}" if training and not here.takes_mmrotate else ""
    if here.kind is Kind.CHECKOUT:
        if new_python:
            return _join("uv run", _project(here), new_python, "legnet …")
        return _join("uv sync", _project(here), f"--extra {extra}" if extra else "")
    again = _requirement(here, extra)
    if here.kind is Kind.UV_TOOL:
        return _join("uv tool install", new_python, training, "--editable" if here.editable else "", again)
    if here.kind is Kind.UVX:
        return _join("uvx", new_python, training, "--from", again, "legnet …")
    name = f"'legnet[{extra}]'" if extra else "legnet"  # the packages are read from the metadata of this legnet
    if not training:
        return _join(_pip(here, "install"), name)
    before, uv = _uv(here)
    if here.kind is Kind.PIPX:
        before = _join("pipx reinstall", new_python, "legnet &&") if new_python else before
    elif new_python:
        place = f"legnet-py{TRAINING_PYTHON}"
        return _join(before, uv, "venv", new_python, place, "&&", uv, "pip install --python", place, training, again)
    return _join(before, uv, "pip install --python", shlex.quote(here.executable), training, name)


def single_opencv_line(here: Installation) -> str:
    """The command that leaves opencv-python-headless alone where opencv-python was installed over it."""
    if here.kind is Kind.CHECKOUT:
        return _join("uv sync", _project(here), "--reinstall-package opencv-python-headless")
    if here.kind is Kind.UVX:
        return install_line("mmrotate", here)
    return (
        f"{_pip(here, 'uninstall')} -y opencv-python && "
        f"{_pip(here, 'install')} --force-reinstall --no-deps opencv-python-headless"
    )


def _kind(prefix: Path, by_uv: bool, checkout: Path | None) -> Kind:
    if (prefix / "uv-receipt.toml").exists():
        return Kind.UV_TOOL
    if (prefix / "pipx_metadata.json").exists():
        return Kind.PIPX
    if not by_uv:
        return Kind.PIP
    if checkout and prefix == checkout / os.environ.get("UV_PROJECT_ENVIRONMENT", ".venv"):
        return Kind.CHECKOUT
    # uvx makes its environments in uv's cache
    return Kind.UVX if prefix.parent.name.startswith(("archive-v", "environments-v")) else Kind.UV


def _source(origin: dict[str, Any]) -> str:
    """What ``direct_url.json`` (PEP 610) names: a path where it is a local file or folder that still exists."""
    url: str = origin.get("url", "")
    if not url:
        return "legnet"
    if urlsplit(url).scheme == "file":
        path = url2pathname(urlsplit(url).path)
        return path if Path(path).exists() else "legnet"
    control = origin.get("vcs_info")
    return f"{control['vcs']}+{url}@{control['commit_id']}" if control else url


def _present_extras(found: metadata.Distribution, path: list[str]) -> tuple[str, ...]:
    packages: dict[str, set[str]] = {}
    for requirement in found.requires or ():
        if match := re.match(r"([\w.-]+).*\bextra == ['\"]([\w.-]+)['\"]", requirement):
            packages.setdefault(match[2], set()).add(match[1])
    return tuple(
        extra
        for extra, names in packages.items()
        if all(any(metadata.distributions(name=name, path=path)) for name in names)
    )


def _requirement(here: Installation, extra: str) -> str:
    """``here`` with its extras and one more, as a shell word."""
    names = ",".join(sorted({*here.extras, extra} - {""}))
    extras = f"[{names}]" if names else ""
    return shlex.quote(f"legnet{extras} @ {here.source}" if "://" in here.source else f"{here.source}{extras}")


def _project(here: Installation) -> str:
    return "" if Path.cwd().is_relative_to(here.source) else f"--project {shlex.quote(here.source)}"


def _pip(here: Installation, verb: str) -> str:
    if here.kind is Kind.PIPX:
        return f"pipx runpip legnet {verb}"
    if here.kind is not Kind.PIP:
        return f"uv pip {verb} --python {shlex.quote(here.executable)}"
    found = shutil.which("pip")
    if found and Path(found).parent == Path(here.executable).parent:
        return f"pip {verb}"
    return f"{shlex.quote(here.executable)} -m pip {verb}"


def _uv(here: Installation) -> tuple[str, str]:
    """A command to be run first, and uv's name after it."""
    if here.kind is Kind.UV or shutil.which("uv"):
        return "", "uv"
    if here.kind is Kind.PIPX:
        return "", "pipx run uv"
    return f"{_pip(here, 'install')} uv &&", f"{shlex.quote(here.executable)} -m uv"


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)
