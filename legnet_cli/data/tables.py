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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from legnet_cli.boxes import Array, Detections, polygons_to_boxes, to_le90
from legnet_cli.errors import ConfigError, DataError
from legnet_cli.files import PathLike, atomic_path

TASK1_FILES = "Task1_*.txt"

_CHUNK = 50_000  # lines made and written at a time

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
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "empty or not text"
        raise DataError(f"{path}: cannot be read ({reason}): give a CSV file of detections") from error
    free, boxed = set(_CORNERS) <= set(header), set(_BOX) <= set(header)
    missing = [name for name in ("image", "class", "score", *(() if free else _BOX)) if name not in header]
    if missing:
        raise DataError(f"{path}: lacks the column {missing[0]!r}: give a CSV file of detections")
    wanted = ("score", *(_BOX if boxed else ()), *(_CORNERS if free else ()))
    numbers = _numbers(path, rows, [header.index(name) for name in wanted], first=2)
    image, kind = header.index("image"), header.index("class")
    if (cut := next((i for i, row in enumerate(rows) if len(row) <= max(image, kind)), None)) is not None:
        raise DataError(f"{path}, line {cut + 2}: the image or class is missing: correct or remove the line")
    names = sorted({row[kind] for row in rows})
    index = {name: label for label, name in enumerate(names)}
    labels = np.array([index[row[kind]] for row in rows], np.int64)
    quads = numbers[:, -8:].reshape(-1, 4, 2) if free else None
    boxes = to_le90(numbers[:, 1:6]) if quads is None or boxed else polygons_to_boxes(quads)
    found = Detections(boxes, numbers[:, 0].astype(np.float32), labels, quads)
    return _by_image([row[image] for row in rows], found), names


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
    names = sorted(files)
    images: list[str] = []
    parts = []
    for label, name in enumerate(names):
        try:
            lines = files[name].read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{files[name]}: cannot be read: check that it is a text file") from error
        rows = [line.split() for line in lines]
        numbers = _numbers(files[name], rows, range(1, 10), first=1)
        images += [row[0] for row in rows]
        quads = numbers[:, 1:].reshape(-1, 4, 2)
        scores = numbers[:, 0].astype(np.float32)
        parts.append(Detections(polygons_to_boxes(quads), scores, np.full(len(rows), label), quads))
    return _by_image(images, Detections.concat(parts)), names


def _corners(found: Detections) -> Array:
    """x1, y1, … x4, y4 (n, 8) to 4 decimals."""
    return np.round(found.corners.reshape(-1, 8), 4)


def _numbers(path: PathLike, rows: Sequence[Sequence[str]], columns: Sequence[int], *, first: int) -> Array:
    """Some columns of all rows as finite numbers; ``first`` is the line number of the first row."""
    values = np.full((len(rows), len(columns)), np.nan)
    for index, row in enumerate(rows):
        with suppress(ValueError, IndexError):
            values[index] = [float(row[column]) for column in columns]
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if len(bad):
        line = first + int(bad[0])
        raise DataError(f"{path}, line {line}: a number is missing or not one: correct or remove the line")
    return values


def _by_image(names: Sequence[str], found: Detections) -> list[ImageDetections]:
    """Split detections by the image name (n,) of each; their order within an image stays."""
    images, index = np.unique(np.array(names, dtype=str), return_inverse=True)
    order = np.argsort(index, kind="stable")
    rows = np.split(order, np.searchsorted(index[order], np.arange(1, len(images))))
    return [ImageDetections(str(image), found[row]) for image, row in zip(images, rows, strict=False)]
