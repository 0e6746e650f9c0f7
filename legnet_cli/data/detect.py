"""Where a dataset keeps its labels and images, and in which format, found from its folders and files.

Label folders are told by what their first files hold, so any of the usual trees is understood: ``train/images`` with
``train/labelTxt``, ``images/train`` with ``labels/train``, one folder with lists ``ImageSets/Main/train.txt``, ….
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from legnet_cli.data import dior, dota, fair1m, hrsc, yolo_obb
from legnet_cli.data.format import CLASS_LIST, Format, read_text
from legnet_cli.data.images import holds_images
from legnet_cli.data.labels import IMAGE_SUFFIXES, strip_image_suffix
from legnet_cli.errors import ConfigError, DataError

FORMATS: dict[str, Format] = {module.FORMAT.name: module.FORMAT for module in (dota, dior, fair1m, hrsc, yolo_obb)}
VECTOR_SUFFIXES = (".gpkg", ".geojson")
FORMAT_NAMES = (*FORMATS, "coco", "gpkg", "geojson")

_SPLITS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_SPLIT = re.compile(r"(trainval|train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?)(?:\d{4})?", re.IGNORECASE)
_LABEL_FOLDER = re.compile(
    r"(labeltxt|annfiles|labels?$|labelxml|annotations?|(oriented|horizontal) bounding|version\d).*", re.I
)
_IMAGE_FOLDER = re.compile(r"(images?|jpegimages?|allimages?|imgs?)([-_ ].*)?", re.IGNORECASE)
_DOTA_FOLDER = re.compile(r"(labeltxt|annfiles).*", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan", re.IGNORECASE)
_LIST_FOLDERS = ("ImageSets/Main", "ImageSets", "Main", "splits", ".")
_DEPTH = 6  # folders below the dataset that are searched
_GLANCE = 20  # label files looked into before a folder's format is known


@dataclass(frozen=True)
class Part:
    """Labels and images that belong together.

    Attributes:
        split: ``train``, ``val``, ``test``, … or empty.
        labels: folder of label files, or the one label file; None for images without labels.
        images: folders of images.
    """

    split: str
    labels: Path | None
    images: tuple[Path, ...]


def find_parts(root: Path, format: str | None = None, labels: str | None = None) -> tuple[str, list[Part]]:
    """The format of the dataset at ``root`` and its parts, sorted by split.

    Args:
        root: folder of the dataset, or a COCO, GeoPackage or GeoJSON file.
        format: one of ``FORMAT_NAMES``; found from the files when None.
        labels: a label file anywhere, or part of the path of a folder or file below ``root``, where there are several.

    Raises:
        ConfigError: unknown ``format``.
        DataError: there are no labels, or of several formats.
    """
    if format is not None and format not in FORMAT_NAMES:
        raise ConfigError(f"unknown label format {format!r}: choose from {', '.join(FORMAT_NAMES)}")
    if not root.exists():
        raise DataError(f"{root}: does not exist: check the path")
    if labels is not None and Path(labels).is_file():
        base, found = root, [(sniff_file(Path(labels)) or "", Path(labels))]
    else:
        base, found = _label_places(root, labels)
    if format is None:  # a folder named as labels usually are goes before others
        found = [(name, path) for name, path in found if path.is_file() or _is_usual(path, base)] or found
    names = sorted({name for name, _ in found})
    if format is None and len(names) > 1:
        listed = ", ".join(f"{name} in {next(path for other, path in found if other == name)}" for name in names)
        raise DataError(f"{root}: holds labels of several formats ({listed}): choose with --from or --labels")
    chosen = format or next(iter(names), "")
    places = [path for name, path in found if name == chosen]
    if not places or not chosen:
        kind = f"{format} labels" if format else "labels in a known layout"
        seen = f" but {' and '.join(names)}" if any(names) else ""
        raise DataError(f"{root}: no {kind} found{seen}: give a folder with e.g. images/ and labelTxt/, or say --from")
    if chosen in ("gpkg", "geojson"):
        return chosen, [part for path in places for part in _vector_parts(path, base)]
    parts = [Part(_split_of(path, base), path, _images_of(path, base)) for path in _preferred(places)]
    _check_one_each(parts, base)
    return chosen, sorted([*parts, *_unlabelled(parts, base)], key=lambda part: (part.split, str(part.labels)))


def _is_usual(labels: Path, root: Path) -> bool:
    return any(_LABEL_FOLDER.fullmatch(part) for part in labels.relative_to(root).parts or (root.name,))


def _vector_parts(path: Path, root: Path) -> list[Part]:
    """One part for each split of the images that the polygons in ``path`` lie on."""
    if root.is_file():
        return [Part("", path, (root,))]
    splits = {split: _split_folders(root, split) for split in ("train", "val", "test")}
    parts = [Part(split, path, folders) for split, folders in splits.items() if folders]
    return parts or [Part("", path, _image_folders(root, "") or ((root,) if holds_images(root) else ()))]


def _label_places(root: Path, wanted: str | None) -> tuple[Path, list[tuple[str, Path]]]:
    """The folder of the dataset, and (format, folder or file) of the labels in it whose path has ``wanted`` in it."""
    if root.is_file() and root.suffix.lower() in (".yaml", ".yml"):  # a YOLO dataset goes by its YAML file
        root = root.parent
    if root.is_file():
        base = root.parent.parent if root.parent.name.lower() == "annotations" else root.parent
        name = sniff_file(root)
        return base, [(name, root)] if name in ("coco", "gpkg", "geojson") else []
    found: dict[Path, str] = {}
    for place, folders, files in os.walk(root, followlinks=True):
        path = Path(place)
        parts = path.relative_to(root).parts
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if len(parts) < _DEPTH else []
        for file in sorted(file for file in files if file.lower().endswith((".json", *VECTOR_SUFFIXES))):
            if (wanted or "") in "/".join((*parts, file)) and (name := sniff_file(path / file)):
                found[path / file] = name
        if (wanted or "") in "/".join((*parts, "")) and (name := _sniff_folder(path, files)):
            found.setdefault(root.joinpath(*parts[: _label_depth(parts, wanted)]), name)
    return root, [(name, path) for path, name in found.items()]


def _label_depth(parts: Sequence[str], wanted: str | None) -> int:
    """How many of a folder's ``parts`` lead to the one from which labels take their names.

    The labels of ``images/a/b.png`` are in ``labelTxt/a/``, so names start below ``labelTxt``.
    """
    if wanted is None:
        ends = [i for i, part in enumerate(parts, 1) if _LABEL_FOLDER.fullmatch(part)]
        depth = ends[-1] if ends else len(parts)
    else:
        depth = next(i for i in range(len(parts) + 1) if wanted in "/".join((*parts[:i], "")))
    return depth + (depth < len(parts) and _split_name(parts[depth]) is not None)


def _sniff_folder(folder: Path, files: Sequence[str]) -> str | None:
    """Format of the text or XML label files in ``folder``, told by the first that says something."""
    texts = sorted(
        n for n in files if n.lower().endswith((".txt", ".xml")) and not n.startswith(".") and n != CLASS_LIST
    )
    found = (sniff_file(folder / name) for name in itertools.islice(texts, _GLANCE))
    name = next((name for name in found if name), None)
    if name is None and any(n.lower().endswith(".txt") for n in texts):  # all empty, or all damaged
        if _DOTA_FOLDER.fullmatch(folder.name):
            return "dota"
        parents = [parent.name.lower() for parent in (folder, folder.parent)]
        return "yolo-obb" if "labels" in parents else None
    return name


def sniff_file(path: Path) -> str | None:
    """Format of one label file, from its suffix and beginning; None if it is not one."""
    suffix = path.suffix.lower()
    if suffix in VECTOR_SUFFIXES:
        return suffix[1:]
    try:
        with path.open("rb") as file:
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
    return next((name for name in map(_sniff_line, lines) if name), None)


def _sniff_line(line: str) -> str | None:
    words = line.split()
    leading = list(itertools.takewhile(_NUMBER.fullmatch, words))
    if len(words) in (5, 9) or len(words) > 10:
        fractions = len(leading) == len(words) and all(-1 <= float(word) <= 2 for word in words[1:])
        if fractions and words[0].isdecimal():
            return "yolo-obb"
    return "dota" if len(leading) >= 8 and len(words) >= 9 else None


def _split_name(text: str) -> str | None:
    """Our name of the split that a folder name or list name means; None if none."""
    match = _SPLIT.fullmatch(text)
    return _SPLITS.get(match[1].lower(), match[1].lower()) if match else None


def _split_of(path: Path, root: Path) -> str:
    """The split that ``path`` belongs to, by the names of its folders, for a file by the words of its own."""
    parts = list(path.relative_to(root).parts) if root in path.parents else [path.name]
    if path.is_file():
        parts += re.split(r"[^a-z0-9]+", parts.pop().lower())
    return next((split for part in parts if (split := _split_name(part))), "")


def _preferred(places: list[Path]) -> list[Path]:
    """Label places without those that another one makes needless: DIOR's upright boxes, COCO's captions."""
    oriented = [path for path in places if path.name.lower().startswith(("oriented", "instances"))]
    return [path for path in places if path in oriented or path.parent not in {other.parent for other in oriented}]


def _images_of(labels: Path, root: Path) -> tuple[Path, ...]:
    """Folders of the images that the labels in folder or file ``labels`` belong to: the nearest ones."""
    folder = labels.parent if labels.is_file() else labels
    split = _split_of(labels, root)
    if _has_images(folder):
        return (folder,)
    if labels == root:  # the folder of labels itself was given
        return _image_folders(root, "") or _image_folders(root.parent, "")
    levels = len(folder.relative_to(root).parts) if root in (folder, *folder.parents) else 0
    places = [*([folder] if labels.is_file() else []), *list(folder.parents)[:levels], root]
    return next((found for place in places if (found := _image_folders(place, split))), ())


def _image_folders(place: Path, split: str) -> tuple[Path, ...]:
    """Folders in ``place`` that hold images: those of ``split`` if they are kept apart, else any."""
    if found := _split_folders(place, split):
        return found
    named = [entry for entry in _folders(place) if _IMAGE_FOLDER.fullmatch(entry.name) and holds_images(entry)]
    return tuple(named) or ((place,) if _has_images(place) else ())


def _split_folders(place: Path, split: str) -> tuple[Path, ...]:
    """Folders of images that ``place`` keeps for one split, as ``images/val`` or ``val/images`` or ``val``."""
    named = [entry for entry in _folders(place) if _IMAGE_FOLDER.fullmatch(entry.name)]
    apart = [entry for other in [*named, place] for entry in _folders(other)]
    found = [entry for entry in apart if split and _split_name(entry.name) == split and holds_images(entry)]
    return tuple(folder for entry in found for folder in _image_folders(entry, "") or (entry,))


def _folders(place: Path) -> list[Path]:
    return sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _has_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(IMAGE_SUFFIXES) for entry in entries)


def _check_one_each(parts: list[Part], root: Path) -> None:
    """Refuse two places of labels for the same images: nobody could tell which ones count."""
    for first, second in itertools.combinations(parts, 2):
        if first.split == second.split and {*first.images} & {*second.images}:
            both = " and ".join(str(part.labels.relative_to(root)) for part in (first, second) if part.labels)
            raise DataError(f"{root}: {both} label the same images: choose one with --labels")


def _unlabelled(parts: list[Part], root: Path) -> list[Part]:
    """Splits that have images but no labels, such as DOTA's test set."""
    used = {folder for part in parts for folder in part.images}
    absent = [split for split in ("train", "val", "test") if split not in {part.split for part in parts}]
    found = {split: _split_folders(root, split) for split in absent}
    free = {split: [f for f in folders if not used & {f, *f.parents}] for split, folders in found.items()}
    return [Part(split, None, tuple(folders)) for split, folders in free.items() if folders]


def read_split_lists(root: Path) -> dict[str, set[str]]:
    """Stems of the images by split, from lists such as ``ImageSets/Main/train.txt``; empty without them.

    ``trainval`` is passed over where ``train`` is listed too.
    """
    for folder in _LIST_FOLDERS:
        lists = sorted((root / folder).glob("*.txt")) if (root / folder).is_dir() else []
        found = {split: path for path in lists if (split := _split_name(path.stem)) and not sniff_file(path)}
        if "train" in found:
            found.pop("trainval", None)
        if found:
            return {split: _stems(path) for split, path in found.items()}
    return {}


def _stems(path: Path) -> set[str]:
    lines = (line.strip().replace("\\", "/") for line in read_text(path).splitlines())
    return {
        strip_image_suffix(line.rpartition("/")[2] if "/images/" in line.lower() else line) for line in lines if line
    }
