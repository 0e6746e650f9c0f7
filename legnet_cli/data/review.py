"""What a user made of the GeoPackage of ``legnet review``: labels, ground without objects, and ground nobody looked at.

Rows that are ``ok``, ``edited`` or ``added`` are labels, as are those that were moved while their status still says
``todo``. ``wrong`` rows are ground without objects, and so is that of deleted ones, whose square in the layer of places
remains. A square counts as looked at once none of the rows in it is ``todo``; all ground outside of such squares is
ignored, and so is what is still ``todo``. A row drawn anew has no id: it is ``added`` unless it says otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from legnet_cli.boxes import Array, boxes_to_polygons, polygons_to_boxes
from legnet_cli.data.builder import LabelBuilder
from legnet_cli.data.checks import self_crossing
from legnet_cli.data.detect import Part
from legnet_cli.data.labels import IGNORED, ImageLabels, Problem, Size
from legnet_cli.data.review_layers import ADDED, EDITED, OK, PLACES, REVIEW, STATUSES, TODO, WRONG
from legnet_cli.data.vector_labels import ImagesByName, PlacedImage, clockwise, open_images
from legnet_cli.errors import DataError, counted
from legnet_cli.geo.geopackage import table_names
from legnet_cli.geo.polygons import PolygonTable, read_polygons, to_pixels

_COLUMNS = ("status", "class", "id")  # without them nothing can be told
_MOVED = 0.01  # of the square root of its area: how far a corner must be from where it was

Bounds = NDArray[np.int64]


@dataclass(frozen=True)
class _Row:
    """A row of a layer on an image, in pixels of that."""

    index: int
    points: Array


def load_review(path: Path, parts: Sequence[Part], problems: list[Problem]) -> list[ImageLabels]:
    """The images in ``parts`` with what was reviewed on them as labels, and all other ground as ignored regions.

    Raises:
        DataError: a layer or column is missing, no row is left, or none lies on the images.
    """
    rows, places = _layer(path, REVIEW, _COLUMNS), _layer(path, PLACES, ("id",))
    if not len(rows):
        raise DataError(
            f"{path}: its layer {REVIEW!r} is empty: run legnet review again, and mark what is wrong as such"
        )
    images = list(open_images(parts, rows, problems))
    if not images:
        raise DataError(f"{path}: there are no images for its rows beside it: give their folder as the dataset")
    if rows.crs is not None and not any(image.georef and image.georef.crs for image in images):
        raise DataError(f"{path}: is in map coordinates, but none of the images is georeferenced: give those it is of")
    status = _statuses(rows, path, problems)
    found = _on_images(rows, images, path, problems)
    if not any(found):
        raise DataError(f"{path}: none of its rows lies on these images: give the scenes that legnet review was given")
    away = len(rows) - len({row.index for own in found for row in own})
    if away:
        problems.append(Problem(str(path), f"{counted(away, 'row')} of other scenes or on none: left out"))
    squares = _on_images(places, images, path, [])
    problems.append(Problem(str(path), _summary(status, found, rows, places)))
    reader = _Reader(path, rows, status, problems)
    labels = [reader.label(image, found[i], squares[i]) for i, image in enumerate(images)]
    if reader.reshaped:
        what = counted(reader.reshaped, "polygon")
        problems.append(
            Problem(str(path), f"{what} without exactly four corners: replaced by the smallest rotated boxes")
        )
    return labels


def _layer(path: Path, name: str, columns: Sequence[str]) -> PolygonTable:
    if name not in table_names(path):
        raise DataError(f"{path}: has no layer {name!r}, which says what was reviewed: run legnet review again")
    table = read_polygons(path, name)
    for column in columns:
        if column not in table.fields:
            raise DataError(f"{path}: its layer {name!r} has no column {column!r}: add it, or run legnet review again")
    return table


def _statuses(table: PolygonTable, path: Path, problems: list[Problem]) -> list[str]:
    """What became of each row; an unknown word is a fault, and left out it counts as todo."""
    moved = _moved(table, path, problems)
    found = []
    for row, (value, name) in enumerate(zip(table.fields["status"], table.fields["id"], strict=True)):
        word = "" if value is None else str(value).strip().casefold()
        new = name is None or not str(name).strip()
        if word not in (*STATUSES, ""):
            said = f"status {str(value)[:40]!r} is unknown: choose from {', '.join(STATUSES)}"
            problems.append(Problem(_place(path, table, row), said, left_out=True))
            word = TODO
        elif word in ("", TODO):
            word = ADDED if new else EDITED if moved[row] else TODO
        elif word == OK and moved[row]:
            word = EDITED
        found.append(word)
    return found


def _moved(table: PolygonTable, path: Path, problems: list[Problem]) -> list[bool]:
    """Whether each row lies elsewhere than its column ``original`` says."""
    texts: list[Any] = table.fields.get("original", [None] * len(table))
    known = [row for row, text in enumerate(texts) if isinstance(text, str) and len(table.points[row]) > 2]
    before = shapely.from_wkt([texts[row] for row in known], on_invalid="ignore")
    flip = (1, -1) if table.turned else (1, 1)
    moved = [False] * len(table)
    for row, shape in zip(known, before, strict=True):
        if shape is not None and not shape.is_empty:
            now = shapely.Polygon(table.points[row] * flip)
            moved[row] = bool(shapely.hausdorff_distance(shape.exterior, now.exterior) > _MOVED * shape.area**0.5)
    if len(known) > 1 and all(moved[row] for row in known):
        said = "no row lies where it was: if the layer has another reference system now, its todo rows stay todo"
        problems.append(Problem(str(path), said))
        return [False] * len(table)
    return moved


def _on_images(
    table: PolygonTable, images: Sequence[PlacedImage], path: Path, problems: list[Problem]
) -> list[list[_Row]]:
    """The rows of each image: those that name it, and of those that name none what has its centre on it."""
    names = ImagesByName(images)
    scenes: list[Any] = table.fields.get("scene", [None] * len(table))
    named = [None if scene in (None, "") else names.find(str(scene)) for scene in scenes]
    loose = [row for row, scene in enumerate(scenes) if scene in (None, "")]
    if loose and table.crs is None and len(images) > 1:
        for row in loose:
            problems.append(
                Problem(_place(path, table, row), "names no scene: fill in its column 'scene'", left_out=True)
            )
        loose = []
    found = []
    for number, image in enumerate(images):
        asked = [row for row, owner in enumerate(named) if owner == number or row in loose]
        points = [table.points[row] for row in asked]
        if image.georef is not None and image.georef.crs is not None:
            points = to_pixels(points, table.crs, image.georef)
        elif table.crs is not None:
            points = []
        pairs = zip(asked, points, strict=False)
        found.append([_Row(row, part) for row, part in pairs if row not in loose or _centred_on(part, image.size)])
    return found


def _centred_on(points: Array, size: Size) -> bool:
    return len(points) > 0 and bool(((points.mean(0) >= 0) & (points.mean(0) < size)).all())


def _place(path: Path, table: PolygonTable, row: int) -> str:
    name = table.fields["id"][row]
    return f"{path}: feature {table.ids[row]}" + (f" (id {name})" if name else "")


def _summary(status: list[str], found: list[list[_Row]], rows: PolygonTable, places: PolygonTable) -> str:
    """Counts of what was done, in a line."""
    counts = Counter(status[index] for index in {row.index for own in found for row in own})
    told = [f"{counts[word]} {word}" for word in STATUSES if counts[word]]
    if gone := len({str(name) for name in places.fields["id"]} - {str(name) for name in rows.fields["id"]}):
        told.append(f"{gone} deleted, which counts as wrong")
    return f"{', '.join(told)}; ground that nobody reviewed is ignored"


class _Reader:
    """Makes labels of the rows of one image after another; ``reshaped`` counts polygons that became boxes."""

    def __init__(self, path: Path, table: PolygonTable, status: list[str], problems: list[Problem]) -> None:
        self._path, self._table, self._status, self._problems = path, table, status, problems
        self.reshaped = 0

    def label(self, image: PlacedImage, rows: list[_Row], squares: list[_Row]) -> ImageLabels:
        """Labels of an image; ``squares`` are the places on it."""
        builder = LabelBuilder(self._path, self._problems, image.size)
        waiting: list[Array] = []
        for row in rows:
            word = self._status[row.index]
            if word == WRONG:
                continue
            place = _place(Path(), self._table, row.index)[1:]
            if len(row.points) == 0:
                builder.bad(place, "is not a polygon: draw it again, or remove the row")
                continue
            points = self._corners(row.points)
            if word == TODO:
                waiting.append(points)
            name = IGNORED if word == TODO else str(self._table.fields["class"][row.index] or "").strip()
            builder.add_polygon(points, name, 0, place)
        centres = np.array([points.mean(0) for points in waiting]).reshape(-1, 2)
        seen = np.array([bounds for square in squares if len(bounds := _bounds(square.points, image.size))], np.int64)
        seen = seen.reshape(-1, 4)
        within = (centres[:, None] >= seen[:, :2]) & (centres[:, None] < seen[:, 2:])
        for left, top, right, bottom in uncovered(image.size, seen[~within.all(2).any(0)]).tolist():
            builder.add([left, top, right, top, right, bottom, left, bottom], IGNORED, 0, ": unreviewed ground")
        return builder.build(image.file, image.path, image.split)

    def _corners(self, points: Array) -> Array:
        """``points`` (k, 2) clockwise as four corners: those of the smallest box of their hull if they are others."""
        points = clockwise(points.round(6))
        if len(points) == 4 and not self_crossing(points[None])[0]:
            return points
        if len(points) < 3:
            return points
        self.reshaped += 1
        found: Array = boxes_to_polygons(polygons_to_boxes(points[None]))[0].round(6)
        return found


def _bounds(points: Array, size: Size) -> Bounds:
    """Left, top, right and bottom of a square in whole pixels of its image; empty if it lies outside."""
    if not len(points) or not np.isfinite(points).all():
        return np.zeros(0, np.int64)
    found: Bounds = np.concatenate([points.min(0).clip(0, size), points.max(0).clip(0, size)]).round().astype(np.int64)
    return found if (found[2:] > found[:2]).all() else found[:0]


def uncovered(size: Size, covered: Bounds) -> Bounds:
    """What ``covered`` (n, 4) leaves of an image as rectangles (m, 4) side by side: left, top, right, bottom.

    They are runs along rows or along columns of the grid that the sides of ``covered`` make, whichever are fewer.
    """
    cols, rows = (np.unique([0, size[axis], *covered[:, axis::2].ravel()]) for axis in (0, 1))
    free = np.ones((len(rows) - 1, len(cols) - 1), np.bool_)
    for left, top, right, bottom in covered:
        free[rows.searchsorted(top) : rows.searchsorted(bottom), cols.searchsorted(left) : cols.searchsorted(right)] = 0
    along, across = _runs(free), [(left, top, right, bottom) for top, left, bottom, right in _runs(free.T)]
    best = np.array(min(along, across, key=len), np.int64).reshape(-1, 4)
    return np.stack([cols[best[:, 0]], rows[best[:, 1]], cols[best[:, 2]], rows[best[:, 3]]], 1)


def _runs(free: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Cells of a grid in runs along its rows, like runs of rows below each other as one: left, top, right, bottom."""
    done: list[tuple[int, int, int, int]] = []
    growing: dict[tuple[int, int], int] = {}
    for row, cells in enumerate([*free, np.zeros(free.shape[1], np.bool_)]):
        edges = np.flatnonzero(np.diff(cells, prepend=False, append=False)).reshape(-1, 2)
        runs = {(int(left), int(right)) for left, right in edges}
        for run in [run for run in growing if run not in runs]:
            done.append((run[0], growing.pop(run), run[1], row))
        for run in runs:
            growing.setdefault(run, row)
    return done
