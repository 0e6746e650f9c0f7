"""Reads a dataset in any of the formats with label files or COCO JSON, and pairs images with labels."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from legnet_cli.data import via
from legnet_cli.data.builder import LabelBuilder
from legnet_cli.data.detect import Part, read_split_lists
from legnet_cli.data.format import CLASS_LIST, Format
from legnet_cli.data.images import find_images, image_size
from legnet_cli.data.labels import Dataset, ImageLabels, Problem, strip_image_suffix
from legnet_cli.data.sniff import FORMATS, MANY, Reader, sniff_file
from legnet_cli.errors import DataError, counted, reading, reason
from legnet_cli.untrusted import read_bytes, walk

SPLIT_ORDER = ("train", "val", "trainval", "test", "")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the names of uploaded files
_SHOWN = 3  # names that a summary of many spells out


def load_parts(
    root: Path, format: str, parts: list[Part], *, class_field: str | None = None, sizes: bool = False
) -> Dataset:
    """The dataset of ``parts`` (see :func:`legnet_cli.data.detect.find_parts`), with every fault in its problems.

    Args:
        root: folder of the dataset, or one file of it.
        format: its name.
        class_field: attribute that is the class in VIA's files.
        sizes: read the size of each image from its file, and compare it with the one that labels state.

    Raises:
        DataError: the list of classes, or a file about many images as a whole, cannot be used.
    """
    problems: list[Problem] = []
    root = root if root.is_dir() else root.parent
    if format in MANY:
        reader = partial(via.read, class_field=class_field) if format == "via" else MANY[format]
        images, classes = _load_many(reader, parts, problems)
    else:
        images, classes = _load_folders(root, FORMATS[format], parts, problems)
        if len(parts) == 1 and not parts[0].split:
            images = list(_by_lists(root, images, problems))
    if sizes:
        images = list(_sized(images, problems))
    images.sort(key=lambda image: (*split_rank(image.split), image.file))
    return Dataset(tuple(images), tuple(classes), format, tuple(problems))


def split_rank(split: str) -> tuple[int, str]:
    """Sorts splits: train, val, trainval, test, none, then others by name."""
    return (SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER), split)


def summary(names: Iterable[str]) -> str:
    """The first of ``names`` and how many more there are."""
    listed = sorted(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more


def _load_folders(
    root: Path, fmt: Format, parts: list[Part], problems: list[Problem]
) -> tuple[list[ImageLabels], list[str]]:
    listed = fmt.read_names(root, problems)
    names = fmt.default_names if listed is None else listed
    images: list[ImageLabels] = []
    taken: dict[tuple[str, str], ImageLabels] = {}
    for part in parts:
        for image in _load_part(fmt, part, names, problems):
            other = taken.setdefault((part.split, image.stem), image)
            if other is image:
                images.append(image)
            else:
                message = f"has the same name as {other.path or other.source}: rename one of them and its labels"
                problems.append(Problem(str(image.path or image.source), message, left_out=True))
    used = {name for image in images for name in image.names}
    order = dict.fromkeys(names.values()) if names else sorted(used)
    return images, [name for name in order if listed is not None or name in used]


def _load_part(
    fmt: Format, part: Part, names: Mapping[str, str] | None, problems: list[Problem]
) -> Iterator[ImageLabels]:
    images = _stems((folder / file, file) for folder in part.images for file in find_images(folder))
    files = _stems(_label_files(fmt, part))
    flat = part.labels in part.images
    if flat:  # lists and notes may lie among the labels
        files = {stem: found for stem, found in files.items() if stem in images or sniff_file(found[0][0])}
    pairs = _paired(images, files)
    lonely = sorted(stem for stem, path in pairs.items() if stem not in images and path is not None)
    if lonely:
        place = ", ".join(map(str, part.images)) or str(part.labels)
        message = f"no image for the labels of {summary(lonely)}"
        problems.append(Problem(place, message if part.images else f"{message}: no folder of images was found"))
    bare = sorted(stem for stem, path in pairs.items() if path is None)
    if bare:
        what = "counted as empty" if part.labels else "their folder is missing"
        place = str(part.labels or part.images[0])
        problems.append(Problem(place, f"no labels for {counted(len(bare), 'image')}, {what}: {summary(bare)}"))
    for stem in sorted({*pairs, *images}):
        for path, file in images.get(stem, [(None, stem)]):
            if (image := _load_image(fmt, pairs.get(stem), path, names, problems)) is not None:
                yield replace(image, file=file, split=part.split)


def _label_files(fmt: Format, part: Part) -> Iterator[tuple[Path, str]]:
    if part.labels is None:
        return
    for place, folders, files in walk(part.labels):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = place / name
            if path.suffix.lower() == fmt.suffix and name != CLASS_LIST and not name.startswith("."):
                yield path, path.relative_to(part.labels).as_posix()


def _stems(files: Iterable[tuple[Path, str]]) -> dict[str, list[tuple[Path, str]]]:
    """Files by their names without suffix; more than one where names clash."""
    found: dict[str, list[tuple[Path, str]]] = {}
    for path, file in files:
        stem = (
            strip_image_suffix(file)
            if path.suffix.lower() not in (".txt", ".xml", ".json")
            else file[: -len(path.suffix)]
        )
        found.setdefault(stem, []).append((path, file))
    return found


def _paired(
    images: dict[str, list[tuple[Path, str]]], files: dict[str, list[tuple[Path, str]]]
) -> dict[str, Path | None]:
    """The label file of each stem; a label file in a folder of its own goes to the image of the same last name.

    Raises:
        DataError: two label files are for one image.
    """
    last = {stem.rpartition("/")[2]: stem for stem in images}
    found: dict[str, Path | None] = {}
    for stem, labels in files.items():
        target = stem if stem in images else last.get(stem.rpartition("/")[2], stem)
        for path, _ in labels:
            if found.setdefault(target, path) != path:
                raise DataError(f"{path}: {found[target]} has labels of the same image: choose with --labels")
    return {**dict.fromkeys(images), **found}


def _load_image(
    fmt: Format, source: Path | None, path: Path | None, names: Mapping[str, str] | None, problems: list[Problem]
) -> ImageLabels | None:
    """The labels in ``source`` of the image at ``path``; None, and a problem, if they or the image are useless."""
    try:
        size = image_size(path) if fmt.sizes and path is not None else None
        if source is None:
            return ImageLabels(file="", path=path, size=size)
        builder = LabelBuilder(source, problems, size, names)
        fmt.parse(read_bytes(source), builder)
    except DataError as error:
        fault = str(error).removeprefix(f"{path}: ")
        problems.append(Problem(str(path if fault != str(error) else source), fault, left_out=True))
    except Exception as error:  # whatever a damaged file makes of its parser
        problems.append(Problem(str(source), f"cannot be read ({reason(error)})", left_out=True))
    else:
        return builder.build("", path, "")
    return None


def _load_many(read: Reader, parts: list[Part], problems: list[Problem]) -> tuple[list[ImageLabels], list[str]]:
    images: list[ImageLabels] = []
    classes: dict[str, None] = {}
    for part in parts:
        if part.labels is None:
            files = [(folder / file, file) for folder in part.images for file in find_images(folder)]
            fault = f"no labels for {counted(len(files), 'image')}, their file is missing"
            problems.append(Problem(str(part.images[0]), fault))
            images += [ImageLabels(file=file, path=path, split=part.split) for path, file in files]
            continue
        try:
            with reading(part.labels, "check the file"):
                found, names = read(part.labels, part.split, problems)
        except DataError as error:
            if len(parts) == 1:
                raise
            fault = str(error).removeprefix(f"{part.labels}: ")
            problems.append(Problem(str(part.labels), fault.rpartition(": ")[0] or fault, left_out=True))
            continue
        classes |= dict.fromkeys(names)
        finder = _Finder(part.images)
        placed = [finder.placed(image) for image in found]
        lonely = [image.file for image in placed if image.path is None]
        if lonely:
            problems.append(Problem(str(part.labels), f"no image for the labels of {summary(lonely)}"))
        listed = {image.path for image in placed}
        rest = [file for folder in part.images for file in find_images(folder) if folder / file not in listed]
        if rest:
            problems.append(Problem(str(part.labels), f"does not list {counted(len(rest), 'image')}: {summary(rest)}"))
        images += placed
    return images, list(classes)


class _Finder:
    """Finds images by their path from one of ``folders``, else by a name that only one image in them has."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = folders
        self._by_name: dict[str, list[tuple[Path, str]]] | None = None

    def placed(self, image: ImageLabels) -> ImageLabels:
        """``image`` with its path and the name that goes with it; as it is if there is no such file."""
        candidates = (place / image.file for folder in self._folders for place in (folder, folder.parent))
        path = next((path for path in candidates if os.path.isfile(path)), None)  # False for a name that is too long
        if path is not None:
            return replace(image, path=path)
        name = image.file.rpartition("/")[2]
        for other in (name, _UPLOAD.sub("", name)):
            found = self._named().get(other, [])
            if len(found) == 1:
                return replace(image, path=found[0][0], file=found[0][1])
        return image

    def _named(self) -> dict[str, list[tuple[Path, str]]]:
        if self._by_name is None:
            self._by_name = {}
            for folder in self._folders:
                for file in find_images(folder):
                    self._by_name.setdefault(file.rpartition("/")[2], []).append((folder / file, file))
        return self._by_name


def _by_lists(root: Path, images: list[ImageLabels], problems: list[Problem]) -> Iterator[ImageLabels]:
    """``images`` with the splits that lists in ``root`` give them; those on no list are left out."""
    lists = read_split_lists(root)
    if not lists:
        yield from images
        return
    rest: list[str] = []
    for image in images:
        splits = [split for split in sorted(lists, key=split_rank) if image.stem in lists[split]]
        if splits:
            yield replace(image, split=splits[0])
        else:
            rest.append(image.stem)
        if len(splits) > 1:
            problems.append(Problem(image.stem, f"is listed in {' and '.join(splits)}: it went to {splits[0]}"))
    if rest:
        problems.append(
            Problem(str(root), f"left out {counted(len(rest), 'image')}, on no list of a split: {summary(rest)}")
        )
    absent = set().union(*lists.values()) - {image.stem for image in images}
    if absent:
        problems.append(
            Problem(str(root), f"the lists name {counted(len(absent), 'image')} without a file: {summary(absent)}")
        )


def _sized(images: list[ImageLabels], problems: list[Problem]) -> Iterator[ImageLabels]:
    """``images`` with the size of their files; those whose file is no image are left out."""
    for image in images:
        if image.path is None:
            yield image
            continue
        try:
            size = image_size(image.path)
        except DataError as error:
            place, _, fault = str(error).partition(": ")
            problems.append(Problem(place, fault, left_out=True))
            continue
        if image.size not in (None, size) and image.size is not None:
            stated = f"{image.size[0]} × {image.size[1]}"
            problems.append(
                Problem(str(image.source), f"states {stated} pixels where the image has {size[0]} × {size[1]}")
            )
        yield replace(image, size=size)
