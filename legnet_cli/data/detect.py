"""Where a dataset keeps its labels and images, and in which format, found from its folders and files.

Label folders are told by what their first files hold, so any of the usual trees is understood: ``train/images`` with
``train/labelTxt``, ``images/train`` with ``labels/train``, one folder with lists ``ImageSets/Main/train.txt``, ….
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from legnet_cli.data.format import read_text
from legnet_cli.data.images import find_images, holds_images
from legnet_cli.data.labels import IMAGE_SUFFIXES, strip_image_suffix
from legnet_cli.data.sniff import (
    FORMAT_NAMES,
    FORMATS,
    MANY,
    SUFFIXES,
    UNSURE,
    VECTOR_SUFFIXES,
    VECTORS,
    sniff_file,
    sniff_folder,
)
from legnet_cli.data.vector_place import images_named
from legnet_cli.data.yolo_obb import names_classes
from legnet_cli.errors import ConfigError, DataError
from legnet_cli.untrusted import walk

_SPLITS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_SPLIT = re.compile(
    r"(trainval|train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?)(?:\d{4})?(?:[-_](?:im(?:age|g)s?|labels?))?",
    re.IGNORECASE,
)
_LABEL_FOLDER = re.compile(
    r"(labeltxt|annfiles|labels?$|labelxml|annotations?|(oriented|horizontal) bounding|version\d).*", re.I
)
_IMAGE_FOLDER = re.compile(r"(images?|jpegimages?|allimages?|imgs?)([-_ ].*)?", re.IGNORECASE)
_LIST_FOLDERS = ("ImageSets/Main", "ImageSets", "Main", "splits", ".")
_DEPTH = 6  # folders below the dataset that are searched


@dataclass(frozen=True)
class Part:
    """Labels and images that belong together.

    Attributes:
        split: ``train``, ``val``, ``test``, … or empty.
        labels: folder of label files, or the one label file; None for images without labels.
        images: folders of images, or one image.
        file: what the one image is called in the dataset; its file's name when empty.
    """

    split: str
    labels: Path | None
    images: tuple[Path, ...]
    file: str = ""


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
    if not os.path.exists(root):  # False for a name that is too long, too
        raise DataError(f"{root}: does not exist: check the path")
    if labels is not None and os.path.isfile(labels):
        base, found = root, [(sniff_file(Path(labels)) or format or "", Path(labels))]
    else:
        base, found = _label_places(root, labels)
    found = _decided(found, format, base)
    names = sorted({name for name, _ in found})
    if format is None and names == [UNSURE]:
        either = "DOTA's with numbers for classes, or YOLO-OBB's in pixels"
        raise DataError(f"{found[0][1]}: its lines may be {either}: say which with --from")
    if format is None and len(names) > 1:
        listed = ", ".join(f"{name} in {next(path for other, path in found if other == name)}" for name in names)
        raise DataError(f"{root}: holds labels of several formats ({listed}): choose with --from or --labels")
    chosen = format or next(iter(names), "")
    places = [path for name, path in found if name == chosen]
    if not places or not chosen:
        kind = f"{format} labels" if format else "labels in a known layout"
        seen = f" but {' and '.join(names)}" if any(names) else ""
        raise DataError(f"{root}: no {kind} found{seen}: give a folder with e.g. images/ and labelTxt/, or say --from")
    if chosen in VECTORS:
        return chosen, _vector_parts(places, base, alone=root in places)
    parts = [Part(_split_of(path, base), path, _images_of(path, base)) for path in _preferred(places)]
    _check_one_each(parts, base)
    return chosen, sorted([*parts, *_unlabelled(parts, base)], key=lambda part: (part.split, str(part.labels)))


def _decided(found: list[tuple[str, Path]], format: str | None, base: Path) -> list[tuple[str, Path]]:
    """The formats and places ``found``, where ``format``, a usual name or another folder decides between several."""
    names = {name for name, _ in found}
    if format is not None and format not in names:  # told what they are, whatever they look like
        return [(format if _may_be(format, name, path) else name, path) for name, path in found]
    sure = names & {"dota", "yolo-obb"}
    if len(sure) == 1:
        found = [(next(iter(sure)) if name == UNSURE else name, path) for name, path in found]
    if format is None:  # a folder named as labels usually are goes before others
        return [(name, path) for name, path in found if path.is_file() or _is_usual(path, base)] or found
    return found


def _may_be(format: str, name: str, path: Path) -> bool:
    """Whether the files at ``path`` that look like ``name`` may be of ``format``."""
    if name == UNSURE:
        return format in UNSURE.split(" or ")
    if format in FORMATS and name in FORMATS:
        return FORMATS[name].suffix == FORMATS[format].suffix
    return path.is_file() and path.suffix.lower() in SUFFIXES.get(format, ())


def _is_usual(labels: Path, root: Path) -> bool:
    return any(_LABEL_FOLDER.fullmatch(part) for part in labels.relative_to(root).parts or (root.name,))


def _vector_parts(places: list[Path], root: Path, *, alone: bool) -> list[Part]:
    """Parts of the images that the polygons in ``places`` lie on.

    One file is for all images of the dataset, and tells them by its polygons. Each of several is for the image of its
    own name, as is one that was given ``alone`` where there is such an image.
    """
    if root.is_file():
        return [Part("", path, (root,)) for path in places]
    if len(places) > 1 or alone:
        images = [root / file for file in find_images(root)]
        pairs = images_named(places, images)
        if pairs:
            bare = [] if alone else sorted({*images} - {*pairs.values()})
            unpaired = [Part(_split_of(path, root), path, ()) for path in places if path not in pairs]
            return [
                *(_single(image, root, path) for path, image in pairs.items()),
                *unpaired,
                *(_single(image, root, None) for image in bare),
            ]
        if len(places) > 1:
            listed = ", ".join(sorted(map(str, places)))
            raise DataError(f"{listed}: several files of polygons, none named as an image: choose one with --labels")
    splits = {split: _split_folders(root, split) for split in ("train", "val", "test")}
    parts = [Part(split, places[0], folders) for split, folders in splits.items() if folders]
    return parts or [Part("", places[0], _image_folders(root, "") or ((root,) if holds_images(root) else ()))]


def _single(image: Path, root: Path, labels: Path | None) -> Part:
    """The part of one image, called by its path without the folders of splits and images."""
    folders = image.relative_to(root).parts[:-1]
    kept = [part for part in folders if not _split_name(part) and not _IMAGE_FOLDER.fullmatch(part)]
    return Part(_split_of(image.parent, root), labels, (image,), "/".join((*kept, image.name)))


def _label_places(root: Path, wanted: str | None) -> tuple[Path, list[tuple[str, Path]]]:
    """The folder of the dataset, and (format, folder or file) of the labels in it whose path has ``wanted`` in it."""
    if root.is_file() and root.suffix.lower() in (".yaml", ".yml"):  # a YOLO dataset goes by its YAML file
        root = root.parent
    if root.is_file() and root.suffix.lower() in IMAGE_SUFFIXES:
        beside = (root.with_suffix(suffix) for suffix in VECTOR_SUFFIXES)
        return root, [(path.suffix[1:], path) for path in beside if path.is_file()]
    if root.is_file():
        base = root.parent.parent if root.parent.name.lower() == "annotations" else root.parent
        name = sniff_file(root)
        return base, [(name, root)] if name in (*MANY, *VECTORS) else []
    found: dict[tuple[str, Path], None] = {}
    yolo = names_classes(root)
    for path, folders, files in walk(root):
        parts = path.relative_to(root).parts
        folders[:] = [name for name in folders if not name.startswith(".")] if len(parts) < _DEPTH else []
        names = sniff_folder(path, files, yolo)
        suffixes = (".json", ".csv", *VECTOR_SUFFIXES, *([".xml"] if "cvat" in names else []))
        for file in (file for file in files if file.lower().endswith(suffixes)):
            if (wanted or "") in "/".join((*parts, file)) and (name := sniff_file(path / file)) in (*MANY, *VECTORS):
                found[name, path / file] = None
        if (wanted or "") in "/".join((*parts, "")):
            place = root.joinpath(*parts[: _label_depth(parts, wanted)])
            found |= dict.fromkeys((name, place) for name in names if name in (*FORMATS, UNSURE))
    return root, [(name, path) for name, path in found if not _is_within(name, path, found, root)]


def _is_within(name: str, path: Path, found: Container[tuple[str, Path]], root: Path) -> bool:
    """Whether another folder of the same format and split holds the label folder ``path``."""
    above = path.parents if name in FORMATS else ()
    split = _split_of(path, root)
    return any((name, other) in found and _split_of(other, root) == split for other in above)


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
        return any(entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file() for entry in entries)


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
