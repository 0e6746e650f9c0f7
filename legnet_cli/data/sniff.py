"""Which format label files are in, told by what their beginnings hold."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from legnet_cli.data import dior, dota, fair1m, hrsc, yolo_obb
from legnet_cli.data.format import CLASS_LIST, Format
from legnet_cli.untrusted import open_file

FORMATS: dict[str, Format] = {module.FORMAT.name: module.FORMAT for module in (dota, dior, fair1m, hrsc, yolo_obb)}
VECTOR_SUFFIXES = (".gpkg", ".geojson")
FORMAT_NAMES = (*FORMATS, "coco", "gpkg", "geojson")

_DOTA_FOLDER = re.compile(r"(labeltxt|annfiles).*", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan", re.IGNORECASE)
_GLANCE = 20  # label files looked into before a folder's format is known


def sniff_folder(folder: Path, files: Sequence[str], yolo: bool) -> str | None:
    """Format of the text or XML label files in ``folder``, told by the first that says something.

    Where a line of numbers could be of YOLO or of DOTA, ``yolo`` says that the dataset names YOLO's classes.
    """
    texts = sorted(
        n for n in files if n.lower().endswith((".txt", ".xml")) and not n.startswith(".") and n != CLASS_LIST
    )
    found = (sniff_file(folder / name, yolo) for name in itertools.islice(texts, _GLANCE))
    name = next((name for name in found if name), None)
    if name is None and any(n.lower().endswith(".txt") for n in texts):  # all empty, or all damaged
        if _DOTA_FOLDER.fullmatch(folder.name):
            return "dota"
        parents = [parent.name.lower() for parent in (folder, folder.parent)]
        return "yolo-obb" if "labels" in parents else None
    return name


def sniff_file(path: Path, yolo: bool = False) -> str | None:
    """Format of one label file, from its suffix and beginning; None if it is not one. For ``yolo`` see above."""
    suffix = path.suffix.lower()
    if suffix in VECTOR_SUFFIXES:
        return suffix[1:]
    try:
        with open_file(path) as file:
            head = file.read(1 << 14)
    except OSError:
        return None
    if suffix == ".json":
        known = re.search(rb'"((images|annotations|categories|licenses)"\s*:\s*\[|info"\s*:\s*\{)', head)
        if b'"FeatureCollection"' in head[:200]:
            return "geojson"
        return "coco" if known else None
    if suffix == ".xml":
        marks = {b"<HRSC_Image": "hrsc", b"<possibleresult": "fair1m", b"<objects": "fair1m", b"<annotation": "dior"}
        return next((name for mark, name in marks.items() if mark in head), None)
    lines = head.decode("utf-8", "replace").splitlines()[:64] if suffix == ".txt" else []
    return next((name for line in lines if (name := _sniff_line(line, yolo))), None)


def _sniff_line(line: str, yolo: bool) -> str | None:
    numbers = yolo_obb.words(line)
    if (len(numbers) in (5, 6) or len(numbers) > 8) and all(map(_NUMBER.fullmatch, numbers)):
        first, *others = map(float, numbers)
        fractions = all(-1 <= value <= 2 for value in others)
        if first.is_integer() and first >= 0 and (fractions or (yolo and len(numbers) > 8)):
            return "yolo-obb"
    words = line.split()
    leading = list(itertools.takewhile(_NUMBER.fullmatch, words))
    return "dota" if len(leading) >= 8 and len(words) >= 9 else None
