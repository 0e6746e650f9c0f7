"""Pictures of what a model got most wrong: objects it missed, and the false alarms it was surest of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.engine.eval.measure import EvalMetrics
from legnet_cli.engine.eval.truth import EvalSet, Frame
from legnet_cli.geo.raster import Scene
from legnet_cli.tiles import Tile

SHOWN = 18  # of each kind at most
PER_CLASS = 4  # of one class at most, so that one does not fill the page
SIDE = 200  # pixels of a picture's side

TRUE_COLOUR, FOUND_COLOUR = (46, 204, 113), (255, 140, 0)

_MARGIN = 3.0  # times the object's longer side that a picture is wide
_LEAST = 48  # image pixels that a picture is wide at least
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Case:
    """A picture of one error.

    Attributes:
        kind: ``miss`` or ``false alarm``.
        image: name of the image.
        name: the class.
        note: what is wrong, in a few words.
        picture: (h, w, 3) RGB.
    """

    kind: Literal["miss", "false alarm"]
    image: str
    name: str
    note: str
    picture: NDArray[np.uint8]


@dataclass(frozen=True)
class _Subject:
    """One error: the object or box it is about, and its image."""

    kind: Literal["miss", "false alarm"]
    image: int
    label: int
    note: str
    corners: Array


def worst_cases(truth: EvalSet, measured: EvalMetrics, bands: tuple[int, ...] | None, stretch: str) -> list[Case]:
    """The worst misses, then the worst false alarms; none where there are no images to show.

    A miss is an object with no box of its class over it at the best threshold: first those that no box of any score
    found, the largest first. A false alarm comes the earlier the higher its score.

    Raises:
        DataError: an image cannot be read.
    """
    if not any(frame.labels.path for frame in truth.frames):
        return []
    shown = measured.matched.predictions.scores >= measured.threshold
    polygons = measured.matched.predictions.outlines
    cases = []
    for subject in (*_misses(measured), *_false_alarms(measured, polygons)):
        picture = _picture(truth, subject, measured, polygons, shown, bands, stretch)
        if picture is not None:
            name = measured.classes[subject.label]
            cases.append(Case(subject.kind, truth.names[subject.image], name, subject.note, picture))
    return cases


def _misses(measured: EvalMetrics) -> Iterator[_Subject]:
    matched, truths = measured.matched, measured.truths
    score = np.zeros(len(truths))
    first = np.flatnonzero(matched.first[0])
    score[matched.truth[first]] = matched.predictions.scores[first]
    sides = np.ptp(truths.quads, axis=1).max(1, initial=0.0)
    order = np.lexsort((np.arange(len(truths)), -sides, score))
    missed = order[(score < max(measured.threshold, 1e-12))[order] & ~truths.ignored[order]]
    for i in _spread(missed, truths.labels):
        note = f"found at {score[i]:.2f} only" if score[i] > 0 else "not found at any score"
        yield _Subject("miss", int(truths.images[i]), int(truths.labels[i]), note, truths.quads[i])


def _false_alarms(measured: EvalMetrics, polygons: Array) -> Iterator[_Subject]:
    found = measured.matched.predictions
    _, false = measured.verdicts()
    order = np.argsort(-found.scores.astype(np.float64), kind="stable")
    for i in _spread(order[false[order]], found.labels):
        note = f"score {found.scores[i]:.2f}"
        note += ", found twice" if measured.matched.hit[0, i] else ""
        yield _Subject("false alarm", int(found.images[i]), int(found.labels[i]), note, polygons[i])


def _spread(order: NDArray[np.int64], labels: NDArray[np.int64]) -> list[int]:
    """The first of ``order``, a few of each class."""
    taken: dict[int, int] = {}
    chosen = []
    for i in order.tolist():
        label = int(labels[i])
        taken[label] = taken.get(label, 0) + 1
        if taken[label] <= PER_CLASS:
            chosen.append(i)
        if len(chosen) == SHOWN:
            break
    return chosen


def _picture(
    truth: EvalSet,
    subject: _Subject,
    measured: EvalMetrics,
    polygons: Array,
    shown: NDArray[np.bool_],
    bands: tuple[int, ...] | None,
    stretch: str,
) -> NDArray[np.uint8] | None:
    """The object in its surroundings, with all true outlines and all boxes that count as found."""
    frame = _frame_of(truth, subject)
    if frame is None:
        return None
    tile = frame.tile
    offset = np.array([tile.col, tile.row])
    corners = subject.corners * tile.zoom - offset
    with Scene.open(str(frame.labels.path), bands=bands, stretch=stretch) as scene:
        window = _window(corners, scene.height, scene.width)
        image, _ = scene.read(window)
    scale = SIDE / max(window.width, window.height)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = max(1, round(window.width * scale)), max(1, round(window.height * scale))
    picture = np.ascontiguousarray(cv2.resize(image, size, interpolation=method))

    def outline(quads: Array, colour: tuple[int, int, int], width: int) -> None:
        points = ((quads * tile.zoom - offset - (window.col, window.row)) * scale - 0.5) * 2**_SUBPIXEL_BITS
        near = (np.abs(points).max((1, 2)) < 2**20) if len(points) else np.zeros(0, bool)
        cv2.polylines(
            picture, list(np.rint(points[near]).astype(np.int32)), True, colour, width, cv2.LINE_AA, _SUBPIXEL_BITS
        )

    outline(subject.corners[None], TRUE_COLOUR if subject.kind == "miss" else FOUND_COLOUR, 3)
    found = measured.matched.predictions
    outline(measured.truths.quads[measured.truths.images == subject.image], TRUE_COLOUR, 1)
    outline(polygons[(found.images == subject.image) & shown], FOUND_COLOUR, 1)
    return np.asarray(picture, np.uint8)


def _frame_of(truth: EvalSet, subject: _Subject) -> Frame | None:
    """The image file that shows the object furthest from its edge."""
    centre = subject.corners.mean(0)
    frames = [frame for frame in truth.frames if frame.image == subject.image and frame.labels.path is not None]

    def depth(frame: Frame) -> float:
        place = centre * frame.tile.zoom - (frame.tile.col, frame.tile.row)
        return float(min(*place, *(frame.tile.size - place)))

    return max(frames, key=depth, default=None)


def _window(corners: Array, height: int, width: int) -> Tile:
    """A square around ``corners``, moved and cut to lie within the image."""
    centre = (corners.min(0) + corners.max(0)) / 2
    side = max(int(np.ptp(corners, axis=0).max() * _MARGIN), _LEAST)
    starts: Sequence[int] = [
        int(np.clip(middle - side / 2, 0, max(limit - side, 0)))
        for middle, limit in zip(centre, (width, height), strict=True)
    ]
    return Tile(starts[1], starts[0], min(side, height), min(side, width))
