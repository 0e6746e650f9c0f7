"""Changes and tracks as features of a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.engine.diff.changes import Changes
from legnet_cli.engine.diff.kinds import CHANGES
from legnet_cli.engine.diff.probability import taken
from legnet_cli.engine.diff.tracks import Tracks
from legnet_cli.engine.layers.placed import PlacedObjects, corners_in
from legnet_cli.geo.crs import CRS
from legnet_cli.geo.features import Rows
from legnet_cli.geo.local import LocalPlane

F = TypeVar("F", Changes, Tracks)


class _Features(Generic[F]):
    """Objects as features of a layer.

    Args:
        found: what to write.
        classes: names of the labels.
        crs: reference system of the layer; None for pixels.
        plane: of the comparison.
    """

    def __init__(self, found: F, classes: Sequence[str], crs: CRS | None, plane: LocalPlane) -> None:
        self._found: F = found
        self.crs, self._plane = crs, plane
        self._classes = np.array([*classes, ""], np.str_)

    def __len__(self) -> int:
        return len(self._found)


class ChangeFeatures(_Features[Changes]):
    """Objects of two dates with what became of them; outlines are those of the newest date on which each was found."""

    def corners(self, rows: Rows) -> Array:
        """See :class:`Features`."""
        found = self._found
        old, new = found.old_rows[rows], found.new_rows[rows]
        corners = np.empty((len(old), 4, 2))
        corners[new >= 0] = corners_in(found.new, new[new >= 0], self.crs)
        corners[new < 0] = corners_in(found.old, old[new < 0], self.crs)
        return corners

    def columns(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """See :class:`Features`."""
        found = self._found
        old, new = found.old_rows[rows], found.new_rows[rows]
        columns: dict[str, NDArray[Any]] = {
            "class": self._classes[found.labels[rows]],
            "change": np.array(CHANGES)[found.kinds[rows]],
        }
        if found.probability is not None:
            columns["probability"] = found.probability[rows].round(4)
        columns[f"moved_{unit(self.crs)}"] = found.moved[rows].round(3)
        columns["bearing"] = found.bearing[rows].round(2) % 360
        columns["turned_deg"] = found.turned[rows].round(2) + 0.0
        for name, side in (("length", 2), ("width", 3)):
            columns[f"{name}_old"] = self._sizes(found.old, old, side)
            columns[f"{name}_new"] = self._sizes(found.new, new, side)
        for name, date, own in (("old", found.old, old), ("new", found.new, new)):
            columns[f"score_{name}"] = taken(date.scores, own).round(4)
        for name, date, own in (("old", found.old, old), ("new", found.new, new)):
            columns[f"scene_{name}"] = date.scenes.texts(own)
        return columns

    def _sizes(self, date: PlacedObjects, rows: NDArray[np.int64], side: int) -> Array:
        sizes = np.full(len(rows), np.nan)
        sizes[rows >= 0] = side_lengths(date.boxes[rows[rows >= 0]], side, self._plane)
        return sizes


class TrackFeatures(_Features[Tracks]):
    """Objects of several dates, each with when it was seen; outlines are those of the last date."""

    def corners(self, rows: Rows) -> Array:
        """See :class:`Features`."""
        corners = np.empty((len(self._found.labels[rows]), 4, 2))
        for date, places, own in self._by_last(rows):
            corners[places] = corners_in(date, own, self.crs)
        return corners

    def columns(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """See :class:`Features`."""
        found = self._found
        first, last = found.first[rows], found.last[rows]
        names = np.array([date.name for date in found.dates], np.str_)
        sizes, scenes = np.empty((2, len(first))), np.empty(len(first), object)
        for date, places, own in self._by_last(rows):
            sizes[:, places] = [side_lengths(date.boxes[own], side, self._plane) for side in (2, 3)]
            scenes[places] = date.scenes.texts(own)
        way, bearing = self._plane.way(found.first_boxes[rows, :2], found.boxes[rows, :2])
        return {
            "class": self._classes[found.labels[rows]],
            "first_seen": names[first],
            "last_seen": names[last],
            "times_seen": found.found[rows].sum(1),
            "searched": found.searched[rows].sum(1),
            "score": found.best_scores(rows).round(4),
            f"moved_{unit(self.crs)}": way.round(3),
            "bearing": bearing.round(2) % 360,
            f"length_{unit(self.crs)}": sizes[0],
            f"width_{unit(self.crs)}": sizes[1],
            "scene": scenes.astype(np.str_),
        }

    def _by_last(self, rows: Rows) -> Iterator[tuple[PlacedObjects, NDArray[np.int64], NDArray[np.int64]]]:
        """Dates on which some tracks were last seen, with their places in ``rows`` and their objects."""
        last, objects = self._found.last[rows], self._found.rows[rows]
        for number in np.unique(last).tolist():
            places = np.flatnonzero(last == number)
            yield self._found.dates[number], places, objects[places, number]


def side_lengths(boxes: Array, side: int, plane: LocalPlane) -> Array:
    """Metres on the ground (or pixels) of column ``side`` of boxes (n, 5) in the plane."""
    lengths: Array = (boxes[:, side] / plane.scale(boxes[:, :2])).round(3)
    return lengths


def unit(crs: CRS | None) -> str:
    """Suffix of the names of lengths."""
    return "px" if crs is None else "m"
