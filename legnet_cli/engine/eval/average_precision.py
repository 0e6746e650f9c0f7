"""Average precision, best threshold and precision-recall curves from matched predictions: pure numbers.

The rules of DOTA's development kit (``dota_evaluation_task1.py``): a prediction is a true positive if its IoU with the
object it is matched with is over the threshold and no prediction of a higher score has that object; a second one is a
false positive. What is matched with an ignored object is neither. Average precision is the mean of the precision
at the eleven recalls 0, 0.1 … 1 (``voc07``) or the area under the curve (``area``), of the precision that is reached at
a recall or any higher one. A class without objects has no average precision and is not in any mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.engine.eval.matching import Mask, Matches, Predictions, Truths

THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
METRICS = ("voc07", "area")

# np.arange's 0.30000000000000004 is the devkit's too: three of ten found objects do not reach it
_RECALLS = np.arange(0.0, 1.1, 0.1)


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one class at IoU 0.5, as the threshold on the score falls; (k,) each."""

    score: Array
    precision: Array
    recall: Array


@dataclass(frozen=True)
class OperatingPoint:
    """The lowest score at which F1, the harmonic mean of precision and recall, is best."""

    score: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Precisions:
    """Average precision by metric, threshold and class.

    Attributes:
        ap: (metrics, thresholds, classes) in the order of ``METRICS`` and ``THRESHOLDS``; NaN without objects.
        counts: (classes,) objects that count.
    """

    ap: Array
    counts: NDArray[np.int64]

    @property
    def mean(self) -> Array:
        """(metrics, thresholds) mean over the classes that have objects; NaN if none has."""
        some = self.counts > 0
        return self.ap[:, :, some].mean(2) if some.any() else np.full(self.ap.shape[:2], np.nan)


@dataclass(frozen=True)
class MatchedPredictions:
    """Ranked predictions with the verdict on each at each threshold.

    Attributes:
        predictions: ranked, see ``Predictions.ranked``.
        truth: (n,) the object each one was matched with, -1 for none.
        first: (thresholds, n) it is the first to be matched with its object.
        hit: (thresholds, n) its IoU with its object is high enough.
    """

    predictions: Predictions
    truth: NDArray[np.int64]
    first: Mask
    hit: Mask

    @staticmethod
    def of(
        predictions: Predictions, matches: Matches, truths: Truths, *, inclusive: bool = False
    ) -> MatchedPredictions:
        """Judge ranked ``predictions``; with ``inclusive`` an IoU that equals the threshold is enough."""
        first = np.zeros((len(THRESHOLDS), len(predictions)), np.bool_)
        hit = first.copy()
        for row, threshold in enumerate(THRESHOLDS):
            over = matches.iou >= threshold if inclusive else matches.iou > threshold
            hit[row] = over & (matches.truth >= 0)
            index = np.flatnonzero(hit[row])[::-1]
            winner = np.full(len(truths), -1)
            winner[matches.truth[index]] = index  # of several the last assigned, so the best ranked, stays
            first[row, winner[winner >= 0]] = True
        return MatchedPredictions(predictions, matches.truth, first, hit)

    def verdicts(self, row: int, ignored: Mask, outside: Mask | None = None) -> tuple[Mask, Mask]:
        """True and false positives (n,), (n,) at threshold ``row``.

        Args:
            row: index into ``THRESHOLDS``.
            ignored: (m,) objects that are not counted.
            outside: (n,) predictions that are not false positives if they hit nothing.
        """
        hit = self.hit[row]
        neutral = np.zeros(len(hit), np.bool_) if outside is None else ~hit & outside
        neutral[hit] = ignored[self.truth[hit]]
        true = self.first[row] & ~neutral
        return true, ~true & ~neutral


def precisions(matched: MatchedPredictions, truths: Truths, classes: int, truth_in: Mask, found_in: Mask) -> Precisions:
    """Average precision of the objects that ``truth_in`` (m,) marks, of sizes that ``found_in`` (n,) marks too.

    Other objects are ignored, and so are predictions of other sizes that hit nothing.
    """
    ignored = truths.ignored | ~truth_in
    counts = np.bincount(truths.labels[~ignored], minlength=classes)
    ap = np.full((len(METRICS), len(THRESHOLDS), classes), np.nan)
    bounds = np.searchsorted(matched.predictions.labels, np.arange(classes + 1))
    for row in range(len(THRESHOLDS)):
        true, false = matched.verdicts(row, ignored, ~found_in)
        for label in np.flatnonzero(counts).tolist():
            part = slice(bounds[label], bounds[label + 1])
            ap[:, row, label] = compute_ap(true[part], false[part], int(counts[label]))
    return Precisions(ap, counts)


def tie_bounds(matched: MatchedPredictions, truths: Truths, found: Precisions) -> tuple[Array, Array]:
    """Lowest and highest average precision that any order of equal scores gives, both shaped as ``found.ap``.

    How many true positives a score has does not depend on the order. The best one has them first. The worst one has
    the false positives first, but those of an object that another prediction of this score finds: they follow it.
    """
    ranked = matched.predictions
    same = (ranked.scores[1:] == ranked.scores[:-1]) & (ranked.labels[1:] == ranked.labels[:-1])
    group = np.cumsum(np.append(True, ~same)[: len(ranked)])
    rows = np.flatnonzero(np.append(same, False)[: len(ranked)] | np.append(False, same)[: len(ranked)])
    bounds = np.searchsorted(ranked.labels, np.arange(len(found.counts) + 1))
    low, high = found.ap.copy(), found.ap.copy()
    affected = [label for label in np.unique(ranked.labels[rows]).tolist() if found.counts[label]]
    for row in range(len(THRESHOLDS)) if affected else ():
        true, false = matched.verdicts(row, truths.ignored)
        for ap, keys in ((low, _worst_first(matched, row, rows, group)), (high, (~true[rows],))):
            order = np.arange(len(ranked))
            order[rows] = rows[np.lexsort((*keys, group[rows]))]
            for label in affected:
                part = order[bounds[label] : bounds[label + 1]]
                ap[:, row, label] = compute_ap(true[part], false[part], int(found.counts[label]))
    return low, high


def _worst_first(
    matched: MatchedPredictions, row: int, rows: NDArray[np.int64], group: NDArray[np.int64]
) -> tuple[NDArray[Any], ...]:
    """Keys (k,) for ``np.lexsort`` that bring the predictions ``rows`` of each group into their worst order."""
    hit, first = matched.hit[row], matched.first[row]
    found_in = np.zeros(int(matched.truth.max(initial=0)) + 1, np.int64)
    found_in[matched.truth[first]] = group[first]
    follows = hit & (found_in[matched.truth] == group)
    many = np.bincount(matched.truth[follows], minlength=len(found_in))[matched.truth]
    return ~first[rows], matched.truth[rows], -many[rows], follows[rows]


def compute_ap(true: Mask, false: Mask, count: int) -> tuple[float, float]:
    """Average precision (voc07, area) of ranked true and false positives (n,), with ``count`` > 0 objects."""
    # precision falls between true positives, so these alone tell the best one from any recall on
    found = np.arange(1, np.count_nonzero(true) + 1)
    precision = found / (found + np.cumsum(false)[true])
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    reached = np.searchsorted(found / count, _RECALLS)
    return float(best[reached].sum() / len(_RECALLS)), float(best.sum() / count)


def curve(scores: NDArray[np.floating], true: Mask, false: Mask, count: int) -> Curve:
    """Precision and recall after each distinct score of ranked predictions (n,), with ``count`` > 0 objects."""
    counted = true | false
    levels, true = scores[counted].astype(np.float64), true[counted]
    ends = np.flatnonzero(np.append(levels[1:] != levels[:-1], len(levels) > 0))  # equal scores go together
    found = np.cumsum(true)[ends]
    return Curve(levels[ends], found / (ends + 1), found / count)


def best_point(of: Curve) -> OperatingPoint | None:
    """The threshold with the best F1, of equal ones the highest; None if nothing was found."""
    total = of.precision + of.recall
    f1 = np.divide(2 * of.precision * of.recall, total, out=np.zeros_like(total), where=total > 0)
    if not f1.any():
        return None
    best = int(np.argmax(f1))
    return OperatingPoint(*(float(column[best]) for column in (of.score, of.precision, of.recall, f1)))


def by_threshold(values: Array) -> dict[str, float | None]:
    """``{"0.50": …, …}`` of (thresholds,) values; NaN becomes None."""
    return {f"{t:.2f}": number(value) for t, value in zip(THRESHOLDS, values.tolist(), strict=True)}


def by_metric(values: Array) -> dict[str, dict[str, float | None]]:
    """``{"voc07": {"0.50": …}, "area": …}`` of (metrics, thresholds) values."""
    return {metric: by_threshold(row) for metric, row in zip(METRICS, values, strict=True)}


def summary(mean: Array) -> Mapping[str, Mapping[str, float | None]]:
    """mAP50, mAP75 and mAP50:95 by metric, of (metrics, thresholds) means."""
    at = {"mAP50": THRESHOLDS.index(0.5), "mAP75": THRESHOLDS.index(0.75)}
    return {
        metric: {**{name: number(row[i]) for name, i in at.items()}, "mAP50:95": number(row.mean())}
        for metric, row in zip(METRICS, mean, strict=True)
    }


def number(value: float) -> float | None:
    """``value`` as JSON takes it: None for NaN."""
    return None if np.isnan(value) else float(value)
