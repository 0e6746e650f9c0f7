"""Pictures of the surest changes, before and after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from legnet_cli.boxes import Array, boxes_to_polygons
from legnet_cli.engine.diff.changes import Changes, shifted
from legnet_cli.engine.diff.comparison import Comparison
from legnet_cli.engine.diff.kinds import CHANGES, COLOURS, GONE, MOVED, NEW, RESIZED, TURNED
from legnet_cli.engine.diff.pixels import ScenePixels
from legnet_cli.engine.diff.probability import taken
from legnet_cli.engine.layers.crops import Picture, draw_crop
from legnet_cli.engine.layers.placed import PlacedObjects
from legnet_cli.errors import DataError

SHOWN = 6  # of each kind of change

_SIDE = 200  # pixels of a picture's side
_MARGIN = 3.0  # times the longer side of the object that a picture is wide
_LEAST = 48  # pixels of the scene that it is wide at least


@dataclass(frozen=True)
class ChangePicture:
    """A change as it looks.

    Attributes:
        kind: of change.
        name: the class.
        note: what is known of it.
        before, after: (h, w, 3) RGB; None where no scene shows it.
    """

    kind: str
    name: str
    note: str
    before: Picture | None
    after: Picture | None


def change_pictures(known: Comparison, found: Changes) -> list[ChangePicture]:
    """The surest changes of each kind that the scenes of at least one date show."""
    with ExitStack() as stack:
        album = _Album(known, stack)
        pictures = []
        for kind in (NEW, GONE, MOVED, TURNED, RESIZED):
            for row in _surest(found, kind):
                old, new = _place(found, row)
                place, shift = np.concatenate([old, new]), found.registration.shift
                before = album.picture(0, place, old, COLOURS[CHANGES[kind]])
                after = album.picture(1, shifted(place, shift), shifted(new, shift), COLOURS[CHANGES[kind]])
                if before is not None or after is not None:
                    name = known.classes[int(found.labels[row])]
                    pictures.append(ChangePicture(CHANGES[kind], name, _note(found, row, known), before, after))
    return pictures


def _surest(found: Changes, kind: int) -> list[int]:
    """Rows of the most probable changes of a kind; by score where probabilities are unknown."""
    rows = np.flatnonzero(found.kinds == kind)
    if found.probability is not None:
        sure = found.probability[rows]
    else:
        scores = [taken(date.scores, own[rows]) for date, own in _sides(found)]
        sure = np.fmin(*scores)
    order = np.argsort(-np.nan_to_num(sure), kind="stable")
    return [int(row) for row in rows[order][:SHOWN]]


def _sides(found: Changes) -> tuple[tuple[PlacedObjects, NDArray[np.int64]], tuple[PlacedObjects, NDArray[np.int64]]]:
    """Each date with the rows of its objects."""
    return ((found.old, found.old_rows), (found.new, found.new_rows))


def _place(found: Changes, row: int) -> tuple[Array, Array]:
    """Boxes of an object on both dates, (1, 5) or (0, 5) each, as the older date lies."""
    old, new = found.old_rows[row], found.new_rows[row]
    placed = shifted(found.new.boxes[[new]], -found.registration.shift) if new >= 0 else np.zeros((0, 5))
    return found.old.boxes[[old]] if old >= 0 else np.zeros((0, 5)), placed


def _note(found: Changes, row: int, known: Comparison) -> str:
    """A few words on a change."""
    unit = "px" if known.plane.crs is None else "m"
    words = []
    kind = int(found.kinds[row])
    if kind == MOVED:
        words.append(f"{found.moved[row]:.3g} {unit} to {found.bearing[row]:.0f}°")
    if kind == TURNED:
        words.append(f"{found.turned[row]:+.0f}°")
    if kind == RESIZED:
        lengths = (date.boxes[own[row], 2:4] for date, own in _sides(found))
        words.append(" → ".join(f"{length:.3g} × {width:.3g}" for length, width in lengths) + f" {unit}")
    if found.probability is not None:
        words.append(f"probability {found.probability[row]:.2f}")
    scores = [float(date.scores[own[row]]) for date, own in _sides(found) if own[row] >= 0]
    if np.isfinite(scores).all():
        words.append("score " + " and ".join(f"{score:.2f}" for score in scores))
    return ", ".join(words)


class _Album:
    """Pictures of places, from the scenes of each date, which stay open until ``stack`` is closed."""

    def __init__(self, known: Comparison, stack: ExitStack) -> None:
        self._known, self._stack = known, stack
        self._open: dict[str, ScenePixels | None] = {}

    def picture(self, date: int, place: Array, outlined: Array, colour: tuple[int, int, int]) -> Picture | None:
        """The surroundings of boxes (n, 5) on a date, some of them outlined; None where no scene shows them."""
        middle = place[:, :2].mean(0)
        for pixels, offset in self._scenes(date, middle):
            aside = np.array([offset, 0])
            corners = pixels.corners(boxes_to_polygons(place) - aside)
            if not np.isfinite(corners).all():
                continue
            span = np.ptp(corners.reshape(-1, 2), axis=0).max()
            half = max(span * _MARGIN if len(place) == 1 else span * _MARGIN / 2, _LEAST) / 2
            centre = corners.reshape(-1, 2).mean(0)
            found = pixels.window(centre - half, centre + half)
            if found is None:
                continue
            quads = pixels.corners(boxes_to_polygons(outlined) - aside)
            return draw_crop(found, centre, 2 * half, _SIDE, [(quad, colour) for quad in quads])
        return None

    def _scenes(self, date: int, point: Array) -> Iterator[tuple[ScenePixels, float]]:
        """Scenes of a date that show a point, and how far aside they lie in the plane."""
        ground = self._known.grounds[date]
        if ground.areas is None or not len(ground.areas):
            return
        for number in np.flatnonzero(shapely.intersects_xy(ground.areas, *point)).tolist():
            path = ground.scenes[number]
            if path and path not in self._open:
                self._open[path] = self._enter(path)
            pixels = self._open.get(path)
            if pixels is not None:
                yield pixels, float(ground.offsets[number])

    def _enter(self, path: str) -> ScenePixels | None:
        config = self._known.config
        try:
            return self._stack.enter_context(ScenePixels(path, self._known.plane, config.stretch, config.bands))
        except DataError:
            return None
