"""Predictions as DOTA's evaluation server takes them."""

from __future__ import annotations

import posixpath
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from legnet_cli.data.tables import ImageDetections, write_task1
from legnet_cli.engine.eval.predictions import ImagePredictions
from legnet_cli.engine.eval.truth import EvalSet
from legnet_cli.files import atomic_path


def write_submission(path: Path, truth: EvalSet, found: ImagePredictions) -> None:
    """Write ``Task1_<class>.txt`` of each class to the top of a zip."""
    rows = [ImageDetections(name, part) for name, part in zip(short_names(truth), found.images, strict=True)]
    with TemporaryDirectory() as folder, atomic_path(path) as scratch:
        write_task1(Path(folder, "task1"), rows, found.classes)
        with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(Path(folder, "task1").iterdir()):
                # no date of its own: the same predictions give the same bytes
                archive.writestr(_member(file.name), file.read_bytes())


def short_names(truth: EvalSet) -> list[str]:
    """Names of the images without their folders, as DOTA's text holds them."""
    return [posixpath.basename(name) for name in truth.names]


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member
