"""Labelled objects in memory: one type whatever the format they were read from.

A quad is four corners in pixels, (0, 0) being the outer corner of the first pixel, in the order of the file.
Every fault found in a label file becomes a :class:`Problem` that names the file and the place in it.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array, polygons_to_boxes
from legnet_cli.errors import DataError

_ALIKE = 0.75  # likeness of a misspelling to what was meant: "shp" has 0.86 to "ship", "small" vehicles 0.67 to "large"
_SWAPPED = 0.9  # likeness of words of the same letters: "sihp"
_APART = 0.1  # by which the nearest name must be nearer than the next

Scalar = str | int | float | bool
Size = tuple[int, int]  # width, height in pixels

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".jp2", ".webp")
IGNORED = "ignored"  # the name of regions in which nothing counts: what is found there is neither right nor wrong
# plain names under which data sets keep such regions: HIT-UAV and KITTI "DontCare", SODA-A "ignore",
# VisDrone "ignored regions"
_REGIONS = {"ignored", "ignore", "dontcare", "ignoreregion", "ignoredregion", "ignoreregions", "ignoredregions"}
SUBPIXEL = 6  # decimals of a pixel that scaled coordinates are rounded to: whole pixels come back whole


@dataclass(frozen=True)
class Problem:
    """A fault in a dataset: ``place`` (file, and line or object in it), what is wrong, and whether it was left out."""

    place: str
    message: str
    left_out: bool = False

    def __str__(self) -> str:
        # names of files need not be text
        return f"{self.place}: {self.message}".encode("utf-8", "backslashreplace").decode()


def listing(problems: Sequence[Problem], shown: int) -> list[str]:
    """The first ``shown`` of ``problems``, a line each, and a line that counts the others."""
    lines = [str(problem) for problem in problems[:shown]]
    more = len(problems) - shown
    return [*lines, f"… and {more} more (legnet convert lists them all)"] if more > 0 else lines


class LabelError(DataError):
    """Labels that cannot be used; ``problems`` lists every fault, the message tells the first one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        more = len(problems) - 1
        others = f" (and {more} more fault{'s' * (more > 1)})" if more else ""
        super().__init__(f"{problems[0]}{others}: fix the labels, or leave such objects out with --skip-bad")


@dataclass(frozen=True)
class ImageLabels:
    """The labelled objects of one image.

    Attributes:
        file: path of the image below its folder of images, with ``/``; without suffix if no image is known.
        quads: (n, 4, 2) float64 corners in pixels.
        names: class name of each object.
        difficult: (n,) int64; 0 is a plain object, others are kept out of the count by DOTA's rules.
        attributes: what else the format says about each object.
        path: the image file, None if it was not found.
        size: width and height in pixels, None if nobody has asked yet.
        split: ``train``, ``val``, ``test`` or empty.
        meta: what the format says about the image, such as ``gsd`` and ``imagesource``.
        source: the label file; None for an image without labels.
        places: where each object stands in ``source``, such as ``:12`` for line 12.
    """

    file: str
    quads: Array = field(default_factory=lambda: np.zeros((0, 4, 2)))
    names: tuple[str, ...] = ()
    difficult: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    attributes: tuple[Mapping[str, Scalar], ...] = ()
    path: Path | None = None
    size: Size | None = None
    split: str = ""
    meta: Mapping[str, Scalar] = field(default_factory=dict)
    source: Path | None = None
    places: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.names)
        lengths = (self.difficult.shape, len(self.attributes), len(self.places))
        if self.quads.shape != (n, 4, 2) or lengths != ((n,), n, n):
            raise ValueError(f"{self.file}: {n} names with quads {self.quads.shape} and others {lengths}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def stem(self) -> str:
        """``file`` without the suffix of an image: the name that label files and predictions go by."""
        return strip_image_suffix(self.file)

    @property
    def boxes(self) -> Array:
        """Smallest oriented boxes (n, 5) around the quads, ``le90``."""
        return polygons_to_boxes(self.quads)

    def place(self, index: int) -> str:
        """Where object ``index`` stands, for messages."""
        return f"{self.source or self.file}{self.places[index]}"

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> ImageLabels:
        """The objects that a mask or an index array picks."""
        picked = np.arange(len(self))[index].tolist()
        return replace(
            self,
            quads=self.quads[picked],
            names=tuple(self.names[i] for i in picked),
            difficult=self.difficult[picked],
            attributes=tuple(self.attributes[i] for i in picked),
            places=tuple(self.places[i] for i in picked),
        )


@dataclass(frozen=True)
class Dataset:
    """Images with their labels, in a fixed order.

    Attributes:
        images: sorted by split and file.
        classes: class names; an object's label is the index of its name here.
        format: name of the format they were read from.
        problems: what was left out or looks like a mistake.
    """

    images: tuple[ImageLabels, ...]
    classes: tuple[str, ...]
    format: str
    problems: tuple[Problem, ...] = ()

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that hold images, in order."""
        return tuple(dict.fromkeys(image.split for image in self.images))

    def split(self, name: str) -> Dataset:
        """The images of one split.

        Raises:
            DataError: there is no such split.
        """
        if name not in self.splits():
            known = ", ".join(split or "(none)" for split in self.splits())
            raise DataError(f"split {name!r} is not in this dataset: choose from {known}")
        return replace(self, images=tuple(image for image in self.images if image.split == name))

    @property
    def written(self) -> tuple[str, ...]:
        """``classes``, and the name of ignored regions if there are some: what a label file can name."""
        regions = any(IGNORED in image.names for image in self.images)
        return (*self.classes, IGNORED) if regions else self.classes

    def counts(self) -> dict[str, int]:
        """Objects of each class in the order of ``classes``, then ignored regions if there are some."""
        found = Counter(name for image in self.images for name in image.names)
        return {name: found[name] for name in self.written}


def labels_of(image: ImageLabels, classes: Sequence[str]) -> NDArray[np.int64]:
    """Class index (n,) of each object of ``image``; -1 for an ignored region.

    Raises:
        DataError: an object's class is not in ``classes``; the message names the nearest one.
    """
    index = {IGNORED: -1, **{name: i for i, name in enumerate(classes)}}
    for i, name in enumerate(image.names):
        if name not in index:
            raise DataError(f"{image.place(i)}: {unknown_class(name, classes)}")
    return np.array([index[name] for name in image.names], np.int64).reshape(-1)


def unknown_class(name: str, known: Iterable[str]) -> str:
    """A message about ``name`` that is not one of the ``known`` classes, with the one that must be meant."""
    listed = list(known)
    near = nearest_class(name, listed)
    if near is not None:
        return f"unknown class {name!r}: did you mean {near!r}?"
    return f"unknown class {name!r}: known are {', '.join(listed) or 'none'}"


def nearest_class(name: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``name`` is a misspelling of; None where that is not sure.

    Names that differ in their digits (A220, A320) are never taken for each other, nor is one of two that fit as well.
    """
    plain = plain_name(name)
    if not any(map(str.isalpha, plain)):
        return None
    ranked = sorted(((_likeness(plain, plain_name(other)), other) for other in known), reverse=True)
    best, nearest = ranked[0] if ranked else (0.0, "")
    second = ranked[1][0] if len(ranked) > 1 else 0.0
    sure = second < best if best == 1 else best - second >= _APART
    return nearest if best >= _ALIKE and sure else None


def _likeness(first: str, second: str) -> float:
    """How alike two plain names are, from 0 to 1."""
    digits = ["".join(letter for letter in text if letter.isdigit()) for text in (first, second)]
    if digits[0] != digits[1]:
        return 0.0
    ratio = difflib.SequenceMatcher(None, first, second).ratio()
    return max(ratio, _SWAPPED) if sorted(first) == sorted(second) else ratio


def names_region(name: str) -> bool:
    """Whether data sets call ignored regions by ``name``."""
    return plain_name(name) in _REGIONS


def plain_name(name: str) -> str:
    """``name`` without case, spaces and punctuation: the same for ``Small vehicle`` and ``small-vehicle``."""
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name


def strip_image_suffix(file: str) -> str:
    """``file`` without its suffix if that is one of an image, in any case."""
    head, _, suffix = file.rpartition(".")
    return head if head and f".{suffix.lower()}" in IMAGE_SUFFIXES else file
