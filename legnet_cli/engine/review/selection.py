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
from legnet_cli.engine.review.signals import Index, Mask, Signals, by_scene, find_signals

KINDS = (*signals.KINDS, "missed", "nearby")
_MISSED, _NEARBY = len(KINDS) - 2, len(KINDS) - 1
_TOLD = 0.2  # weight times signal from which on it is told besides the main reason
_PLACE, _LEAST_PLACE = 3.0, 32.0  # lengths of the object, and pixels, from side to side of a square
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
    """
    thresholds = np.broadcast_to(np.asarray(thresholds, np.float64), scores.shape)
    unit = np.ones(len(boxes)) if gsd is None else gsd
    known = find_signals(boxes, labels, scores, scenes, thresholds, probabilities, views, unit)
    squares = _squares(boxes, scenes, sizes)
    candidates = _best(known.worth, labels, scenes, most)
    shown = ~known.under & (scores >= _ALMOST * thresholds)
    groups = _groups(boxes, scenes, squares, candidates, shown)
    rows, leads = _pick(boxes, labels, scenes, known.worth, groups, most)
    numbers = np.maximum.accumulate(np.where(leads, np.arange(1, len(rows) + 1), 0))
    return Choice(
        rows,
        np.where(leads, np.where(known.found[rows], known.weighted[:, rows].argmax(0), _MISSED), _NEARBY),
        tuple(
            _reason(row, known, scores, probabilities, views) if lead else f"in the square of {number}"
            for row, lead, number in zip(rows.tolist(), leads.tolist(), numbers.tolist(), strict=True)
        ),
        np.where(leads[:, None], squares[rows], np.nan),
    )


def _squares(boxes: Array, scenes: Index, sizes: Array | None) -> Array:
    """Squares (n, 4) in whole pixels around boxes."""
    half = np.maximum(_PLACE * boxes[:, 2], _LEAST_PLACE)[:, None] / 2
    low, high = np.floor(boxes[:, :2] - half), np.ceil(boxes[:, :2] + half)
    if sizes is not None:
        low, high = low.clip(0, sizes[scenes]), high.clip(0, sizes[scenes])
    return np.concatenate([low, high], 1)


def _best(worth: Array, labels: Index, scenes: Index, most: int) -> Index:
    """Those of the greatest worth of each class in each scene, as many as could be chosen of it."""
    order = np.lexsort((-worth, labels, scenes))
    order = order[worth[order] > 0]
    starts = np.flatnonzero(np.diff(scenes[order], prepend=-1) | np.diff(labels[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return np.sort(order[place < most])


def _groups(boxes: Array, scenes: Index, squares: Array, candidates: Index, shown: Mask) -> list[Index]:
    """Each candidate, and after it the others that are shown with it: their centre lies in its square."""
    groups: list[Index] = []
    for rows in by_scene(scenes, candidates):
        others = np.flatnonzero(shown & (scenes == scenes[rows[0]]))
        tree = shapely.STRtree(shapely.points(boxes[others, :2]))
        one, two = tree.query(shapely.box(*squares[rows].T), predicate="intersects")
        inside = np.split(others[two], np.searchsorted(one, np.arange(1, len(rows))))
        groups += [np.append(row, np.sort(own[own != row])) for row, own in zip(rows, inside, strict=True)]
    return groups


def _pick(
    boxes: Array, labels: Index, scenes: Index, worth: Array, groups: list[Index], most: int
) -> tuple[Index, Mask]:
    """Rows of the groups that are chosen one after another, and which of them lead a group."""
    leads = np.array([group[0] for group in groups], np.int64)
    mean = np.array([worth[group].mean() for group in groups])
    of_scene, of_class = (np.zeros(codes.max(initial=-1) + 1) for codes in (scenes, labels))
    near, left, taken = np.zeros(len(leads)), np.ones(len(leads), np.bool_), np.zeros(len(boxes), np.bool_)
    rows: list[int] = []
    is_lead: list[bool] = []
    while len(rows) < most:
        left &= ~taken[leads]
        spread = np.sqrt((1 + of_scene[scenes[leads]]) * (1 + of_class[labels[leads]])) * (1 + near)
        value = np.where(left, mean / spread, 0)
        if not value.any():
            break
        best = int(value.argmax())
        fresh = groups[best][~taken[groups[best]]]
        left[best] = False
        if len(rows) + len(fresh) > most:
            continue
        rows += fresh.tolist()
        is_lead += [True] + [False] * (len(fresh) - 1)
        taken[fresh] = True
        np.add.at(of_scene, scenes[fresh], 1)
        np.add.at(of_class, labels[fresh], 1)
        lead = leads[best]
        away = np.hypot(*(boxes[leads, :2] - boxes[lead, :2]).T)
        near += (scenes[leads] == scenes[lead]) & (away < _GROUND * boxes[lead, 2])
    return np.array(rows, np.int64), np.array(is_lead, np.bool_)


def _reason(row: int, known: Signals, scores: Array, probabilities: Array | None, views: Array | None) -> str:
    """Why a row was chosen: what weighs most, and what else weighs enough to be told."""
    weighted = known.weighted[:, row]
    order = np.argsort(-weighted, kind="stable").tolist()
    told = [kind for kind in order if kind == order[0] or weighted[kind] >= _TOLD]
    words = [_words(kind, row, known, scores, probabilities, views) for kind in told]
    return "; ".join([*([] if known.found[row] else ["not reported, may be missed"]), *words])


def _words(kind: int, row: int, known: Signals, scores: Array, probabilities: Array | None, views: Array | None) -> str:
    name = KINDS[kind]
    if name == "uncertain":
        if probabilities is not None and np.isfinite(probabilities[row]):
            return f"probability {probabilities[row]:.2f}"
        return f"score {scores[row]:.2f}"
    if name == "views disagree" and views is not None:
        return f"found by {views[row]:.0%} of the views"
    if name == "odd size":
        along = abs(known.length[row]) >= abs(known.width[row])
        large = (known.length if along else known.width)[row] > 0
        return "unusually " + (("long" if large else "short") if along else ("wide" if large else "narrow"))
    return "lies over another object" if name == "overlap" else "far from all others"
