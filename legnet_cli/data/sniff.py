"""Which format label files are in, told by what their beginnings hold."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from legnet_cli.data import coco, cvat, dior, dota, fair1m, hrsc, label_studio, labelme, via, xview, yolo_obb
from legnet_cli.data.format import CLASS_LIST, Format
from legnet_cli.data.labels import ImageLabels, Problem
from legnet_cli.data.review_layers import REVIEW
from legnet_cli.geo.geopackage import table_names
from legnet_cli.untrusted import open_file

Reader = Callable[[Path, str, list[Problem]], tuple[list[ImageLabels], list[str]]]

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT for module in (dota, dior, fair1m, hrsc, yolo_obb, labelme)
}
MANY: dict[str, Reader] = {  # formats whose one file is about many images
    "coco": coco.read,
    "cvat": cvat.read,
    "label-studio": label_studio.read,
    "via": via.read,
    "xview": xview.read,
}
VECTOR_SUFFIXES = (".gpkg", ".geojson", ".shp", ".fgb")
VECTORS = (*(suffix[1:] for suffix in VECTOR_SUFFIXES), REVIEW)
FORMAT_NAMES = (*FORMATS, *MANY, *VECTORS)
WRITTEN_NAMES = (*FORMATS, "coco", "gpkg", "geojson")
UNSURE = "dota or yolo-obb"  # lines of numbers that may be either's
# of files whose format is not told by their folder
SUFFIXES = {
    "coco": (".json",),
    "cvat": (".xml",),
    "label-studio": (".json",),
    "via": (".json", ".csv"),
    "xview": (".geojson", ".json"),
    "geojson": (".geojson", ".json"),
}

_DOTA_FOLDER = re.compile(r"(labeltxt|annfiles).*", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan", re.IGNORECASE)
_GLANCE = 20  # label files looked into before a folder's format is known
_HEAD = 1 << 14  # bytes looked at

_XML_MARKS = {
    b"<HRSC_Image": "hrsc",
    b"<annotations": "cvat",
    b"<possibleresult": "fair1m",
    b"<objects": "fair1m",
    b"<annotation": "dior",
}
_JSON_MARKS = (  # the first that is found counts
    (re.compile(rb'"bounds_imcoords"'), "xview"),
    (re.compile(rb'"type"\s*:\s*"FeatureCollection"'), "geojson"),
    (re.compile(rb'"_via_\w+"|"(shape|region)_attributes"|"filename"[^{]*"regions"\s*:|"vid_list"|"pname"'), "via"),
    (re.compile(rb'"shapes"\s*:\s*\['), "labelme"),
    (re.compile(rb'"result"\s*:\s*\[|"(rectangle|polygon|ellipse|brush)labels"|"original_width"'), "label-studio"),
    (re.compile(rb'^\s*\[.*"(annotations|completions)"\s*:\s*\[', re.DOTALL), "label-studio"),
    (re.compile(rb'"(images|annotations)"\s*:\s*\['), "coco"),
)
# of COCO's beginning, where the lists come later; a file of these alone is another program's note
_COCO_START = re.compile(rb'"((categories|licenses)"\s*:\s*\[|info"\s*:\s*\{)')


def sniff_folder(folder: Path, files: Sequence[str], yolo: bool) -> list[str]:
    """Formats of the text, XML and JSON label files in ``folder``, each told by the first that says something.

    Where a line of numbers could be of YOLO or of DOTA, ``yolo`` says that the dataset names YOLO's classes.
    """
    found: list[str] = []
    for suffix in (".txt", ".xml", ".json"):
        named = sorted(n for n in files if n.lower().endswith(suffix) and not n.startswith(".") and n != CLASS_LIST)
        seen = (sniff_file(folder / name, yolo) for name in itertools.islice(named, _GLANCE))
        name = _decisive(name for name in seen if name in (*FORMATS, "cvat", UNSURE))
        if name in (None, UNSURE) and named and suffix == ".txt":  # all empty or damaged, or numbers alone
            name = _by_name(folder, name)
        found += [name] if name else []
    return found


def _decisive(names: Iterable[str | None]) -> str | None:
    """The first of ``names`` that says something, a sure one before others."""
    unsure = None
    for name in names:
        if name not in (None, UNSURE):
            return name
        unsure = unsure or name
    return unsure


def _by_name(folder: Path, seen: str | None) -> str | None:
    """The format of text files in ``folder`` that say nothing, or not which of two."""
    names = folder.name.lower(), folder.parent.name.lower()
    if any(map(_DOTA_FOLDER.fullmatch, names)):
        return "dota"
    empty = "labels" in names
    return seen or ("yolo-obb" if empty else None)


def sniff_file(path: Path, yolo: bool = False) -> str | None:
    """Format of one label file, from its suffix and beginning; None if it is not one. For ``yolo`` see above."""
    suffix = path.suffix.lower()
    if suffix in VECTOR_SUFFIXES and suffix != ".geojson":
        return REVIEW if suffix == ".gpkg" and REVIEW in table_names(path) else suffix[1:]
    try:
        with open_file(path) as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    if suffix in (".json", ".geojson"):
        name = next((name for mark, name in _JSON_MARKS if mark.search(head)), None)
        if suffix == ".geojson":
            return name if name == "xview" else "geojson"
        return name or ("coco" if len(head) == _HEAD and _COCO_START.search(head) else None)
    if suffix == ".xml":
        return next((name for mark, name in _XML_MARKS.items() if mark in head), None)
    if suffix == ".csv":
        return "via" if all(mark.encode() in head for mark in via.CSV_MARKS) else None
    lines = head.decode("utf-8", "replace").splitlines()[:64] if suffix == ".txt" else []
    return _decisive(_sniff_line(line, yolo) for line in lines)


def _sniff_line(line: str, yolo: bool) -> str | None:
    words, numbers = line.split(), yolo_obb.words(line)
    if all(map(_NUMBER.fullmatch, numbers)) and (len(numbers) in (5, 6) or len(numbers) > 8):
        first, *others = map(float, numbers)
        if all(-1 <= value <= 2 for value in others) or (yolo and len(numbers) > 8):
            return "yolo-obb"
        # a class number and corners in pixels, or corners and a number for the class
        if len(numbers) in (9, 10) and first.is_integer() and first >= 0:
            return UNSURE
    leading = list(itertools.takewhile(_NUMBER.fullmatch, words))
    return "dota" if len(leading) >= 8 and len(words) >= 9 else None
