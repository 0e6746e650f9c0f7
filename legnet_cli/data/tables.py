"""Detections as text: one CSV for any number of images, or a folder of DOTA's ``Task1_<class>.txt``.

CSV columns: ``image, class, score, cx, cy, w, h, angle, x1, y1, … x4, y4`` in pixels and radians (``le90``), then
``lon, lat`` of the centre if any image is georeferenced. Pixels have 4 decimals, angles 6, degrees 9; scores have
all digits of a float32. An image without detections has no line. Either the box or the corners may be left out of a
file to be read.

DOTA's lines are ``image score x1 y1 … x4 y4``, separated by single spaces, so its image names are file names
without suffix and without spaces. There is one file for each class, empty or not.
"""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array, Detections, polygons_to_boxes, to_le90
from legnet_cli.errors import ConfigError, DataError
from legnet_cli.files import PathLike, atomic_path
from legnet_cli.untrusted import open_file

TASK1_FILES = "Task1_*.txt"

_CHUNK = 50_000  # lines made and written at a time
_FEW = 4096  # boxes measured at a time
_LONGEST = 1 << 16  # letters of a line

_CORNERS = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")
_BOX = ("cx", "cy", "w", "h", "angle")
_COLUMNS = ("image", "class", "score", *_BOX, *_CORNERS)


@dataclass(frozen=True)
class ImageDetections:
    """Detections of one image.

    Attributes:
        image: its name, as written to the file.
        detections: its boxes in pixels.
        lonlat: (n, 2) longitude and latitude of their centres in degrees; None without georeference.
    """

    image: str
    detections: Detections
    lonlat: Array | None = None

    def chunks(self) -> Iterator[ImageDetections]:
        """The same, a few at a time."""
        for start in range(0, len(self.detections), _CHUNK):
            rows = slice(start, start + _CHUNK)
            yield ImageDetections(self.image, self.detections[rows], None if self.lonlat is None else self.lonlat[rows])


def write_csv(
    path: PathLike, images: Iterable[ImageDetections], classes: Sequence[str], *, located: bool = False
) -> None:
    """Write the detections of all ``images`` to one CSV file, replacing what is there.

    Args:
        path: of the file.
        images: taken one after another.
        classes: names of the labels.
        located: whether there are columns for longitude and latitude.

    Raises:
        DataError: the file cannot be written.
    """
    with atomic_path(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_COLUMNS, *(("lon", "lat") if located else ())])
        for image in (part for whole in images for part in whole.chunks()):
            found = image.detections
            names = (classes[label] for label in found.labels.tolist())
            boxes = np.hstack([found.boxes[:, :4].round(4), found.boxes[:, 4:].round(6)])
            columns = [*boxes.T.tolist(), *_corners(found).T.tolist()]
            if located:
                columns += [[""] * len(found)] * 2 if image.lonlat is None else image.lonlat.round(9).T.tolist()
            lines = zip(names, found.scores.astype(str).tolist(), *columns, strict=True)
            writer.writerows((image.image, *line) for line in lines)


def read_csv(path: PathLike) -> tuple[list[ImageDetections], list[str]]:
    """Detections of a CSV file by image, sorted by name, and the class names that their labels index, sorted.

    The columns image, class and score must be there, and those of the box (cx, cy, w, h, angle), of the corners
    (x1, y1, … x4, y4), or both; the others are not read.

    Raises:
        DataError: the file is missing or damaged.
    """
    rows = _Rows()
    with _text(path) as file:
        lines = csv.reader(file)
        header = next(lines, None)
        if header is None:
            raise DataError(f"{path}: cannot be read (empty): give a CSV file of detections")
        free, boxed = set(_CORNERS) <= set(header), set(_BOX) <= set(header)
        missing = [name for name in ("image", "class", "score", *(() if free else _BOX)) if name not in header]
        if missing:
            raise DataError(f"{path}: lacks the column {missing[0]!r}: give a CSV file of detections")
        wanted = [header.index(name) for name in ("score", *(_BOX if boxed else ()), *(_CORNERS if free else ()))]
        image, kind = header.index("image"), header.index("class")
        for number, row in enumerate(lines, 2):
            if len(row) <= max(image, kind):
                raise DataError(f"{path}, line {number}: the image or class is missing: correct or remove the line")
            rows.add(path, number, row[image], row[kind], row, wanted)

    def boxes_of(numbers: Array) -> tuple[Array, Array | None]:
        quads = numbers[:, -8:].reshape(-1, 4, 2) if free else None
        return to_le90(numbers[:, 1:6]) if quads is None or boxed else polygons_to_boxes(quads), quads

    return rows.by_image(len(wanted), boxes_of)


def check_task1(images: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse, before any work, names that DOTA's text files cannot hold or tell apart.

    Raises:
        ConfigError: an image name with a space or that comes twice, or a class name that is no file name.
    """
    seen: set[str] = set()
    for name in images:
        if len(name.split()) != 1 or name in seen:
            fault = "comes twice" if name in seen else "has a space"
            raise ConfigError(f"image name {name!r} {fault}, which DOTA's text cannot hold: rename it or write .csv")
        seen.add(name)
    for name in classes:
        if set(name) & set('/\\:*?"<>|\n'):
            raise ConfigError(f"class name {name!r} cannot be a file name, as DOTA text needs: write .csv instead")


def write_task1(path: PathLike, images: Sequence[ImageDetections], classes: Sequence[str]) -> None:
    """Write the folder ``path`` of ``Task1_<class>.txt``, replacing all such files that are there, and no others.

    Raises:
        ConfigError: names that the format cannot hold; see :func:`check_task1`.
        DataError: the files cannot be written.
    """
    check_task1([image.image for image in images], classes)
    with atomic_path(path, stale=list(Path(path).glob(TASK1_FILES))) as scratch:
        scratch.mkdir()
        with ExitStack() as stack:
            names = [scratch / f"Task1_{name}.txt" for name in classes]
            files = [stack.enter_context(file.open("w", encoding="utf-8", newline="\n")) for file in names]
            for image in (part for whole in images for part in whole.chunks()):
                found = image.detections
                scores, corners = found.scores.astype(str).tolist(), _corners(found).tolist()
                for label, score, numbers in zip(found.labels.tolist(), scores, corners, strict=True):
                    files[label].write(f"{image.image} {score} {' '.join(map(str, numbers))}\n")


def read_task1(path: PathLike) -> tuple[list[ImageDetections], list[str]]:
    """Detections of a folder of ``Task1_<class>.txt`` by image and the class names of their labels, both sorted.

    Their quads are the quadrilaterals of the file, their boxes the smallest around these.

    Raises:
        DataError: there are no such files, or one is damaged.
    """
    files = {file.name[len("Task1_") : -len(".txt")]: file for file in sorted(Path(path).glob(TASK1_FILES))}
    if not files:
        raise DataError(f"{path}: holds no {TASK1_FILES}: give a folder of DOTA detections")
    rows = _Rows(sorted(files))
    for name, file in files.items():
        with _text(file) as lines:
            for number, line in enumerate(iter(lambda: lines.readline(_LONGEST), ""), 1):
                words = line.split()
                rows.add(file, number, words[0] if words else "", name, words, range(1, 10))

    def boxes_of(numbers: Array) -> tuple[Array, Array]:
        quads = numbers[:, 1:].reshape(-1, 4, 2)
        return polygons_to_boxes(quads), quads

    return rows.by_image(9, boxes_of)


def _corners(found: Detections) -> Array:
    """x1, y1, … x4, y4 (n, 8) to 4 decimals."""
    return np.round(found.corners.reshape(-1, 8), 4)


@contextmanager
def _text(path: PathLike) -> Iterator[TextIO]:
    """A text file, opened to read lines.

    Raises:
        DataError: it cannot be read, or is not text.
    """
    try:
        with open_file(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            yield text
    except (OSError, ValueError, csv.Error) as error:
        fault = error.strerror if isinstance(error, OSError) else "not text"
        raise DataError(f"{path}: cannot be read ({fault}): give a text file of detections") from error


class _Rows:
    """Lines of detections, kept as numbers: little more memory than their text takes."""

    def __init__(self, classes: Sequence[str] = ()) -> None:
        self._images: dict[str, int] = {}
        self._classes = {name: label for label, name in enumerate(classes)}
        self._image, self._label, self._numbers = array("i"), array("i"), array("d")

    def add(
        self, path: PathLike, line: int, image: str, kind: str, words: Sequence[str], columns: Sequence[int]
    ) -> None:
        """Take in one line; ``columns`` of its ``words`` are numbers.

        Raises:
            DataError: one of them is missing or not finite.
        """
        try:
            numbers = [float(words[column]) for column in columns]
        except (ValueError, IndexError):
            numbers = [math.nan]
        if not all(map(math.isfinite, numbers)):
            raise DataError(f"{path}, line {line}: a number is missing or not one: correct or remove the line")
        self._numbers.extend(numbers)
        self._image.append(self._images.setdefault(image, len(self._images)))
        self._label.append(self._classes.setdefault(kind, len(self._classes)))

    def by_image(
        self, columns: int, boxes_of: Callable[[Array], tuple[Array, Array | None]]
    ) -> tuple[list[ImageDetections], list[str]]:
        """Detections by image, sorted by name, in the order of the lines, and names of their labels, sorted.

        Args:
            columns: numbers in each line, the score first.
            boxes_of: boxes (n, 5) and quads (n, 4, 2) of the numbers (n, columns) of some lines.
        """
        images, names = sorted(self._images), sorted(self._classes)
        image = _ranks(self._images, images)[np.frombuffer(self._image, np.intc)]
        order = np.argsort(image, kind="stable")
        ends = np.searchsorted(image[order], np.arange(len(images) + 1))
        numbers = np.frombuffer(self._numbers, np.float64).reshape(-1, columns)
        kinds = _ranks(self._classes, names)[np.frombuffer(self._label, np.intc)]
        found = []
        for name, start, end in zip(images, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            rows = order[start:end]
            boxes, quads = np.empty((len(rows), 5)), np.empty((len(rows), 4, 2))
            free = False
            for first in range(0, len(rows), _FEW):  # what boxes_of takes for a moment is many times its result
                few = slice(first, first + _FEW)
                boxes[few], corners = boxes_of(numbers[rows[few]])
                if corners is not None:
                    quads[few], free = corners, True
            scores, labels = numbers[rows, 0].astype(np.float32), kinds[rows].astype(np.int64)
            found.append(ImageDetections(name, Detections(boxes, scores, labels, quads if free else None)))
        return found, names


def _ranks(codes: dict[str, int], names: Sequence[str]) -> NDArray[np.int32]:
    """Place in ``names`` of each code."""
    ranks = np.zeros(len(codes), np.int32)
    for rank, name in enumerate(names):
        ranks[codes[name]] = rank
    return ranks
