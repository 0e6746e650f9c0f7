r"""Which objects are most worth a look.

Each object has signals from 0 to 1: how uncertain it is, how unusual its length and width are for its class, whether it
lies over another or far from all others, and how much views or models disagree on it. Its worth is

    1 - product over the signals of (1 - weight * signal),

that of a signal alone being its weight. A box that the model does not report, its score being below the threshold of
its class, and that lies under no other box, is a place where an object may have been missed; its worth is that of its
uncertainty and of disagreement alone.

One after another, the object with the largest

    (mean worth of the rows that it brings along) / sqrt((1 + s) * (1 + c)) / (1 + g)

is chosen, where of those chosen before s are of its scene, c of its class and g lie within ten of their lengths on its
ground. Around it a square is looked at as a whole, and what the model reports in there (or almost: from half of the
threshold on) comes along as further rows, for who reviews a square has to judge all in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from legnet_cli.boxes import Array
from legnet_cli.engine.review import signals
from legnet_cli.engine.review.signals import Index, Mask, Objects, Signals, by_scene, find_signals

KINDS = (*signals.KINDS, "missed", "nearby")
_MISSED, _NEARBY = len(KINDS) - 2, len(KINDS) - 1
_TOLD = 0.2  # weight times signal from which on it is told besides the main reason
PLACE, _LEAST_PLACE = 3.0, 32.0  # lengths of the object, and pixels, from side to side of a square
_GROUND = 10.0  # lengths
_ALMOST = 0.5  # of the threshold


@dataclass(frozen=True)
class Choice:
    """Objects to look at, first things first.

    Attributes:
        rows: (k,) their numbers.
        kinds: (k,) index ``KINDS``: the main reason.
        reasons: (k,) in words.
        squares: (k, 4) x1, y1, x2, y2 in whole pixels of the scene that are to be looked at; NaN for objects that lie
            in the square of one before them.
    """

    rows: Index
    kinds: Index
    reasons: tuple[str, ...]
    squares: Array

    def __len__(self) -> int:
        return len(self.rows)


def choose(
    boxes: Array,
    labels: Index,
    scores: Array,
    scenes: Index,
    *,
    most: int,
    thresholds: Array | float = 0.25,
    probabilities: Array | None = None,
    views: Array | None = None,
    gsd: Array | None = None,
    sizes: Array | None = None,
    order: Index | None = None,
) -> Choice:
    """Choose at most ``most`` of n objects; the same input gives the same choice.

    Args:
        boxes: (n, 5) ``le90`` in pixels of their scenes.
        labels: (n,) classes.
        scores: (n,) from 0 to 1, boxes below the thresholds among them where these are known.
        scenes: (n,) numbers of scenes.
        most: how many.
        thresholds: (n,) or one for all: score from which a box is reported as an object.
        probabilities: (n,) calibrated ones that a box is an object, NaN where unknown.
        views: (n,) share of views or models that found it, NaN where unknown.
        gsd: (n,) metres per pixel, or another unit in which sizes of all scenes compare.
        sizes: (s, 2) width and height of each scene in pixels, to which squares are clipped.
        order: (m,) objects one after another to choose instead, for a choice by other means to compare with.
    """
    unknown = np.full(len(boxes), np.nan)
    objects = Objects(
        boxes,
        labels,
        scenes,
        scores,
        np.broadcast_to(np.asarray(thresholds, np.float64), scores.shape),
        unknown if probabilities is None else probabilities,
        unknown if views is None else views,
        np.ones(len(boxes)) if gsd is None else gsd,
    )
    known = find_signals(objects)
    squares = _squares(boxes, scenes, sizes)
    candidates = _best(known.worth, objects, most) if order is None else order
    shown = ~known.under & (scores >= _ALMOST * objects.thresholds)
    groups = _groups(objects, squares, candidates, shown)
    rows, leads = _pick(objects, known.worth, groups, most) if order is None else _take(groups, most)
    return Choice(
        rows,
        np.where(leads, np.where(objects.found[rows], known.weighted[:, rows].argmax(0), _MISSED), _NEARBY),
        _reasons(leads, rows, known, objects),
        np.where(leads[:, None], squares[rows], np.nan),
    )


def _squares(boxes: Array, scenes: Index, sizes: Array | None) -> Array:
    """Squares (n, 4) in whole pixels around boxes."""
    half = np.maximum(PLACE * boxes[:, 2], _LEAST_PLACE)[:, None] / 2
    low, high = np.floor(boxes[:, :2] - half), np.ceil(boxes[:, :2] + half)
    if sizes is not None:
        low, high = low.clip(0, sizes[scenes]), high.clip(0, sizes[scenes])
    return np.concatenate([low, high], 1)


def _best(worth: Array, objects: Objects, most: int) -> Index:
    """Those of the greatest worth of each class in each scene, as many as could be chosen of it."""
    scenes, labels = objects.scenes, objects.labels
    order = np.lexsort((-worth, labels, scenes))
    order = order[worth[order] > 0]
    starts = np.flatnonzero(np.diff(scenes[order], prepend=-1) | np.diff(labels[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return np.sort(order[place < most])


def _groups(objects: Objects, squares: Array, candidates: Index, shown: Mask) -> list[Index]:
    """Each candidate, and after it the others that are shown with it: their centre lies in its square."""
    scenes, groups = objects.scenes, dict.fromkeys(candidates.tolist(), np.zeros(0, np.int64))
    all_shown = {int(scenes[rows[0]]): rows for rows in by_scene(scenes, np.flatnonzero(shown))}
    for rows in by_scene(scenes, candidates):
        others = all_shown.get(int(scenes[rows[0]]), rows[:0])
        tree = shapely.STRtree(shapely.points(objects.boxes[others, :2]))
        one, two = tree.query(shapely.box(*squares[rows].T), predicate="intersects")
        inside = np.split(others[two], np.searchsorted(one, np.arange(1, len(rows))))
        for row, own in zip(rows.tolist(), inside, strict=True):
            groups[row] = np.append(row, np.sort(own[own != row]))
    return [*groups.values()]


def _pick(objects: Objects, worth: Array, groups: list[Index], most: int) -> tuple[Index, Mask]:
    """Rows of the groups that are worth most, one group after another, and which rows lead one."""
    leads = np.array([group[0] for group in groups], np.int64)
    scenes, labels, centres = objects.scenes, objects.labels, objects.boxes[:, :2]
    mean = np.array([worth[group].mean() for group in groups])
    of_scene, of_class = (np.zeros(codes.max(initial=-1) + 1) for codes in (scenes, labels))
    near, taken = np.zeros(len(leads)), np.zeros(len(scenes), np.bool_)
    rows, left = _Rows(most), np.ones(len(leads), np.bool_)
    while not rows.full:
        spread = np.sqrt((1 + of_scene[scenes[leads]]) * (1 + of_class[labels[leads]])) * (1 + near)
        value = np.where(left & ~taken[leads], mean / spread, 0)
        if not value.any():
            break
        best = int(value.argmax())
        left[best] = False
        fresh = rows.add(groups[best][~taken[groups[best]]])
        taken[fresh] = True
        np.add.at(of_scene, scenes[fresh], 1)
        np.add.at(of_class, labels[fresh], 1)
        if len(fresh):
            away = np.hypot(*(centres[leads] - centres[leads[best]]).T)
            near += (scenes[leads] == scenes[leads[best]]) & (away < _GROUND * objects.boxes[leads[best], 2])
    return rows.result()


def _take(groups: list[Index], most: int) -> tuple[Index, Mask]:
    """Rows of the groups in their order, and which of them lead one."""
    rows, taken = _Rows(most), set[int]()
    for group in groups:
        if group[0] not in taken:
            taken |= {*rows.add(np.array([row for row in group.tolist() if row not in taken])).tolist()}
    return rows.result()


class _Rows:
    """Rows that have been chosen, a whole group at a time."""

    def __init__(self, most: int) -> None:
        self._most, self._groups, self._count = most, list[Index](), 0

    @property
    def full(self) -> bool:
        """Whether no more fit."""
        return self._count >= self._most

    def add(self, group: Index) -> Index:
        """Choose a group, if it fits; returns what is chosen of it."""
        if self._count + len(group) > self._most:
            return group[:0]
        self._groups.append(group)
        self._count += len(group)
        return group

    def result(self) -> tuple[Index, Mask]:
        """All rows, and which of them are the first of their group."""
        rows = np.concatenate([np.zeros(0, np.int64), *self._groups])
        leads = np.zeros(len(rows), np.bool_)
        leads[np.cumsum([0, *map(len, self._groups)])[: len(self._groups)]] = True
        return rows, leads


def _reasons(leads: Mask, rows: Index, known: Signals, objects: Objects) -> tuple[str, ...]:
    """Why each row was chosen, or into whose square it came along."""
    reasons, lead = [], 0
    for place, row in enumerate(rows.tolist()):
        if leads[place]:
            lead = place + 1
        reasons.append(_reason(row, known, objects) if leads[place] else f"in the square of {lead}")
    return tuple(reasons)


def _reason(row: int, known: Signals, objects: Objects) -> str:
    """What weighs most, and what else weighs enough to be told."""
    weighted = known.weighted[:, row]
    order = np.argsort(-weighted, kind="stable").tolist()
    told = [kind for kind in order if kind == order[0] or weighted[kind] >= _TOLD]
    words = "; ".join(_words(KINDS[kind], row, known, objects) for kind in told)
    return words if objects.found[row] else f"may be missed: {words}"


def _words(kind: str, row: int, known: Signals, objects: Objects) -> str:
    if kind == "uncertain":
        if np.isfinite(objects.probabilities[row]):
            return f"probability {objects.probabilities[row]:.2f}"
        return f"score {objects.scores[row]:.2f}, reported from {objects.thresholds[row]:.2f}"
    if kind == "views disagree":
        return f"found by {objects.views[row]:.0%} of the views"
    if kind == "odd size":
        along = abs(known.length[row]) >= abs(known.width[row])
        large = (known.length if along else known.width)[row] > 0
        return "unusually " + (("long" if large else "short") if along else ("wide" if large else "narrow"))
    return "overlaps another object" if kind == "overlap" else "far from all others"
