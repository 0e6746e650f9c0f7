"""What speaks for looking at an object: each a number (n,) from 0, nothing, to 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from legnet_cli.boxes import Array, boxes_to_polygons

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

_FEWEST = 10  # objects of a class, from which on some of them can be unusual
_USUAL, _MOST = 2.0, 5.0  # robust standard deviations: up to the first nothing is unusual, from the second on all is
_SPREAD = 0.05  # least standard deviation of a logarithm: 5 % of a length is never unusual
_LEAST_MIDDLE = 0.1  # probability: a class without any chance here is not uncertain
_OVER = 0.3  # share of the smaller of two boxes, from which on it lies over or under the other


KINDS = ("uncertain", "views disagree", "odd size", "overlap", "isolated")
_WEIGHTS = np.array([1.0, 0.8, 0.6, 0.6, 0.3])


@dataclass(frozen=True)
class Objects:
    """What the model says of n boxes, see :func:`legnet_cli.engine.review.selection.choose`.

    Attributes:
        boxes: (n, 5) in pixels of their scenes.
        labels, scenes: (n,) classes, and numbers of scenes.
        scores, thresholds: (n,) from 0 to 1.
        probabilities, views: (n,) NaN where unknown.
        unit: (n,) length of a pixel.
    """

    boxes: Array
    labels: Index
    scenes: Index
    scores: Array
    thresholds: Array
    probabilities: Array
    views: Array
    unit: Array

    @property
    def found(self) -> Mask:
        """Which the model reports."""
        return self.scores >= self.thresholds


@dataclass(frozen=True)
class Signals:
    """What speaks for looking at each of n objects.

    Attributes:
        weighted: (5, n) weight times signal, in the order of ``KINDS``.
        under: (n,) which of those that are not reported lie under a better box, and tell nothing new.
        length, width: (n,) robust standard deviations off the class's median.
    """

    weighted: Array
    under: Mask
    length: Array
    width: Array

    @property
    def worth(self) -> Array:
        """How much each object is worth a look (n,), from 0 to 1."""
        return np.where(self.under, 0, 1 - np.prod(1 - self.weighted, 0))


def find_signals(objects: Objects) -> Signals:
    """The signals of all objects."""
    found, labels = objects.found, objects.labels
    length, width = (deviations(objects.boxes[:, side] * objects.unit, labels, found) for side in (2, 3))
    alone = deviations(nearest(objects.boxes, objects.scenes, found) * objects.unit, labels, found)
    share = overlaps(objects.boxes, objects.scenes, objects.scores, found)
    parts = [
        uncertainty(objects.scores, objects.thresholds, objects.probabilities, labels),
        _doubt(objects.views),
        unusual(np.maximum(np.abs(length), np.abs(width))),
        np.where(share > _OVER, share, 0),
        unusual(alone),
    ]
    weighted = _WEIGHTS[:, None] * np.stack(parts)
    weighted[2:, ~found] = 0  # what may be no object has no odd size or neighbours
    return Signals(weighted, (share > _OVER) & ~found, length, width)


def uncertainty(scores: Array, thresholds: Array, probabilities: Array, labels: Index) -> Array:
    """Nearness of the probability to one half; where it is unknown, of the score to the threshold.

    Of a class that the model knows so little that no probability reaches one half, the greatest one is the middle.
    """
    known = np.isfinite(probabilities)
    value, middle = np.where(known, probabilities, scores), np.where(known, 0.5, thresholds)
    for label in np.unique(labels[known]).tolist():
        own = known & (labels == label)
        middle[own] = probabilities[own].max().clip(_LEAST_MIDDLE, 0.5)
    below, above = value / np.maximum(middle, 1e-9), (1 - value) / np.maximum(1 - middle, 1e-9)
    return np.asarray(np.minimum(below, above).clip(0, 1))


def _doubt(shares: Array) -> Array:
    """Nearness of shares to one half; 0 where they are unknown."""
    return np.asarray(np.nan_to_num(1 - np.abs(2 * shares - 1)).clip(0, 1))


def deviations(values: Array, labels: Index, usual: Mask) -> Array:
    """Robust standard deviations (n,) by which the logarithms of ``values`` lie off the median of their class.

    Args:
        values: (n,) lengths; not finite where unknown, which deviates by nothing.
        labels: (n,) classes.
        usual: (n,) objects that say what is usual.
    """
    z = np.zeros(len(values))
    logs = np.log(np.maximum(values, 1e-9))
    known = np.isfinite(values)
    for label in np.unique(labels).tolist():
        own = known & (labels == label)
        if (own & usual).sum() < _FEWEST:
            continue
        middle = np.median(logs[own & usual])
        spread = 1.4826 * np.median(np.abs(logs[own & usual] - middle))  # of a normal distribution
        z[own] = (logs[own] - middle) / max(spread, _SPREAD)
    return z


def unusual(z: Array) -> Array:
    """How unusual deviations are."""
    return ((z - _USUAL) / (_MOST - _USUAL)).clip(0, 1)


def nearest(boxes: Array, scenes: Index, found: Mask) -> Array:
    """Distance (n,) of each object that was ``found`` to the next one in its scene; NaN for others, or the only one."""
    distance = np.full(len(boxes), np.nan)
    for rows in by_scene(scenes, np.flatnonzero(found)):
        if len(rows) > 1:
            distance[rows] = cKDTree(boxes[rows, :2]).query(boxes[rows, :2], 2)[0][:, 1]
    return distance


def overlaps(boxes: Array, scenes: Index, scores: Array, found: Mask) -> Array:
    """Share (n,) of each object, or of the smaller one, that lies under another object which was ``found``.

    Of what was not found, also the share under what has a better score.
    """
    share = np.zeros(len(boxes))
    outlines = shapely.polygons(boxes_to_polygons(boxes))
    areas = np.maximum(shapely.area(outlines), 1e-9)
    rank = np.empty(len(boxes), np.int64)
    rank[np.lexsort((-scores, ~found))] = np.arange(len(boxes))
    for rows in by_scene(scenes, np.arange(len(boxes))):
        one, two = (rows[own] for own in shapely.STRtree(outlines[rows]).query(outlines[rows], predicate="intersects"))
        over = (one != two) & (found[two] | (rank[two] < rank[one]))
        one, two = one[over], two[over]
        common = shapely.area(shapely.intersection(outlines[one], outlines[two]))
        np.maximum.at(share, one, common / np.minimum(areas[one], areas[two]))
    return share.clip(0, 1)


def by_scene(scenes: Index, rows: Index) -> list[Index]:
    """``rows`` of each scene, in order."""
    rows = rows[np.argsort(scenes[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(scenes[rows])) + 1) if len(rows) else []
