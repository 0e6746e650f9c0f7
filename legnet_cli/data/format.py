"""What a label format with one file per image consists of, and the list of class names beside it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from legnet_cli.data.builder import LabelBuilder
from legnet_cli.data.labels import Dataset, ImageLabels, Problem
from legnet_cli.errors import DataError
from legnet_cli.untrusted import MOST_LABELS, read_bytes

CLASS_LIST = "classes.txt"
NOT_UTF8 = "is not UTF-8 text: save it as UTF-8"


def codes_are_names(classes: Sequence[str]) -> dict[str, str]:
    """Codes of a format that writes the class names themselves."""
    return {name: name for name in classes}


def read_class_list(root: Path) -> dict[str, str] | None:
    """Class names by code from ``classes.txt``: one name a line, in the order of the labels; None without it."""
    path = root / CLASS_LIST
    if not path.is_file():
        return None
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if len(set(names)) < len(names):
        raise DataError(f"{path}: duplicate class name {next(n for n in names if names.count(n) > 1)!r}: remove one")
    # a format without spaces in its names writes "Cargo-Truck" for "Cargo Truck"
    return {"-".join(name.split()): name for name in names} | {name: name for name in names}


def class_list(dataset: Dataset) -> dict[str, str]:
    """``classes.txt``, which keeps the order of the classes, those without objects, and the spaces in names."""
    return {CLASS_LIST: "".join(f"{name}\n" for name in dataset.written)}


def read_text(path: Path, most: int = MOST_LABELS) -> str:
    """The UTF-8 text of a file of at most ``most`` bytes, with or without a byte order mark.

    Raises:
        DataError: the file cannot be read or is not UTF-8.
    """
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {NOT_UTF8}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): check the file") from error


def text_lines(data: bytes) -> Iterator[str]:
    """Lines of a UTF-8 text with any line ends, with or without a byte order mark, one after another.

    Raises:
        DataError: it is in another encoding.
    """
    try:
        for line in io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig"):
            yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise DataError(NOT_UTF8) from error


@dataclass(frozen=True)
class Format:
    """A label format of one file per image.

    Attributes:
        name: what ``--from`` and ``--to`` call it.
        suffix: of its label files.
        images: folder of the images below the dataset, ``{split}`` standing for the split's name.
        labels: folder of the label files, likewise.
        parse: adds the objects of a file's bytes to a builder; raises DataError if the file is useless.
        render: the text of an image's label file, given the code of each class name.
        split_lists: folder of the files ``train.txt`` … that list images, where splits share folders.
        sizes: whether width and height of the images are needed to parse.
        read_names: class names by code, as the dataset's folder lists them, None if it does not; notes what is wrong
            with their file.
        default_names: class names by code where nothing is listed; None if codes are names.
        codes: the code of each class name when writing.
        side_files: texts of other files by path.
        split_names: what the format calls a split, where that is not our name for it.
    """

    name: str
    suffix: str
    images: str
    labels: str
    parse: Callable[[bytes, LabelBuilder], None]
    render: Callable[[ImageLabels, Mapping[str, str]], str]
    split_lists: str = ""
    sizes: bool = False
    read_names: Callable[[Path, list[Problem]], dict[str, str] | None] = lambda root, problems: read_class_list(root)
    default_names: Mapping[str, str] | None = None
    codes: Callable[[Sequence[str]], dict[str, str]] = codes_are_names
    side_files: Callable[[Dataset], dict[str, str]] = class_list
    split_names: Mapping[str, str] | None = None
