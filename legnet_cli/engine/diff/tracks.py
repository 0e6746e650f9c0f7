"""Objects over several dates: each is followed from where it was last found, also over dates that missed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.engine.diff.changes import gate_of, shifted
from legnet_cli.engine.diff.config import DiffConfig
from legnet_cli.engine.diff.ground import SeenGround
from legnet_cli.engine.diff.match import match
from legnet_cli.engine.diff.probability import taken
from legnet_cli.engine.diff.register import NONE, Registration, register
from legnet_cli.engine.layers.placed import PlacedObjects
from legnet_cli.geo.features import Rows


@dataclass(frozen=True)
class Tracks:
    """Objects of several dates.

    Attributes:
        dates: (d) of them, oldest first.
        registrations: of each date on the first.
        rows: (n, d) the object on each date; -1 where it was not found.
        searched: (n, d) whether its ground was seen.
        labels: (n,) classes.
        first_boxes, boxes: (n, 5) where it was found first and last, in the plane, registered on the first date.
    """

    dates: tuple[PlacedObjects, ...]
    registrations: tuple[Registration, ...]
    rows: NDArray[np.int64]
    searched: NDArray[np.bool_]
    labels: NDArray[np.int64]
    first_boxes: Array
    boxes: Array

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def found(self) -> NDArray[np.bool_]:
        """Whether each (n, d) was found."""
        return self.rows >= 0

    @property
    def first(self) -> NDArray[np.int64]:
        """Number (n,) of the date on which each was found first."""
        return np.asarray(np.argmax(self.found, 1))

    @property
    def last(self) -> NDArray[np.int64]:
        """Number (n,) of the date on which each was found last."""
        return np.asarray(self.rows.shape[1] - 1 - np.argmax(self.found[:, ::-1], 1))

    def best_scores(self, rows: Rows) -> Array:
        """Best score of some; NaN where all are unknown."""
        scores = [taken(date.scores, own) for date, own in zip(self.dates, self.rows[rows].T, strict=True)]
        best: Array = np.fmax.reduce(scores)
        return best


def find_tracks(dates: Sequence[PlacedObjects], grounds: Sequence[SeenGround], config: DiffConfig) -> Tracks:
    """Follow the objects of ``dates`` (oldest first), whose ``grounds`` are given."""
    first = dates[0]
    rows, labels = np.arange(len(first))[:, None], first.labels
    first_boxes = boxes = first.boxes
    registrations = [NONE]
    for date in dates[1:]:
        found = NONE if config.no_register else register(boxes, date.boxes, labels, date.labels, config.max_shift)
        registrations.append(found)
        placed = shifted(date.boxes, -found.shift)
        i, j = match(boxes, placed, labels, date.labels, gate_of(config))
        fresh = np.delete(np.arange(len(date)), j)
        column = np.full(len(rows), -1)
        column[i] = j
        before = np.full((len(fresh), rows.shape[1]), -1)
        rows = np.concatenate([np.c_[rows, column], np.c_[before, fresh]]).astype(np.int64)
        boxes = boxes.copy()
        boxes[i] = placed[j]
        boxes, first_boxes = np.concatenate([boxes, placed[fresh]]), np.concatenate([first_boxes, placed[fresh]])
        labels = np.concatenate([labels, date.labels[fresh]])
    searched = rows >= 0
    for number, (ground, found) in enumerate(zip(grounds, registrations, strict=True)):
        missed = ~searched[:, number]
        searched[missed, number] = ground.shows(shifted(boxes[missed], found.shift))
    return Tracks(tuple(dates), tuple(registrations), rows, searched, labels, first_boxes, boxes)


def by_class(tracks: Tracks, classes: Sequence[str]) -> dict[str, list[dict[str, int]]]:
    """For each class and date, how many objects were found, were new, had gone, or were unseen.

    New are those found first although their ground was seen before; gone those that are never found again, on the
    first date after the last that saw their ground; unseen those on ground that was not seen.
    """
    first, last = tracks.first[:, None], tracks.last[:, None]
    number = np.arange(len(tracks.dates))
    seen_before = np.cumsum(tracks.searched, 1) - tracks.searched > 0
    without = tracks.searched & (number > last)
    counted = {
        "found": tracks.found,
        "new": (first == number) & seen_before,
        "gone": without & (np.cumsum(without, 1) == 1),
        "unseen": ~tracks.searched,
    }
    table: dict[str, list[dict[str, int]]] = {}
    for label, name in enumerate(classes):
        own = tracks.labels == label
        table[name] = [{key: int(what[own, date].sum()) for key, what in counted.items()} for date in number.tolist()]
    return table
