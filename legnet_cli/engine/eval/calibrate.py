"""Measure what scores mean: a threshold for each class, and a map from score to probability."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.detectors.weights.calibration import ClassCalibration
from legnet_cli.engine.eval.average_precision import Curve, best_point
from legnet_cli.engine.eval.measure import EvalMetrics

POINTS = 20  # of a map at most
FEW = 100  # boxes, or ten of either kind: below it a curve of two parameters is fitted instead
BINS = 15  # of the expected calibration error
_SPREAD = 9  # points of a fitted curve


@dataclass(frozen=True)
class Aim:
    """What a threshold is chosen for; the best F1 where both are None.

    Attributes:
        precision: the least share of true objects among the boxes that are reported.
        false_alarms: the most false boxes per square kilometre.
        km2: ground area of the labelled images.
    """

    precision: float | None = None
    false_alarms: float | None = None
    km2: float = float("nan")


def calibrate(measured: EvalMetrics, aim: Aim) -> dict[str, ClassCalibration]:
    """By name the classes of which something was found and something is there, at IoU 0.5."""
    true, false = measured.verdicts()
    ranked, found = measured.matched.predictions, {}
    for label, (name, curve) in enumerate(zip(measured.classes, measured.curves, strict=True)):
        counted = (ranked.labels == label) & (true | false)
        if curve is None or not true[counted].any():
            continue
        scores, hits = ranked.scores[counted].astype(np.float64), true[counted]
        at = _choose(curve, aim)
        method, points = ("logistic", _logistic) if _are_few(hits) else ("isotonic", _isotonic)
        known = ClassCalibration(
            # a little lower, for what is reported scores more, in single precision
            threshold=float(np.floor(curve.score[at] * 1e4 - 0.5) / 1e4),
            precision=float(curve.precision[at]),
            recall=float(curve.recall[at]),
            method=method,
            objects=int(measured.precisions.counts[label]),
            **points(scores, hits),
        )
        found[name] = replace(known, spread=_spread(known.probability(scores), hits, ranked.images[counted]))
    return found


def _choose(curve: Curve, aim: Aim) -> int:
    """Number of the point of ``curve`` that serves ``aim``: of those that do the one of the highest recall."""
    if aim.precision is not None:
        fit = curve.precision >= aim.precision
    elif aim.false_alarms is not None:
        boxes = np.divide(
            curve.recall, curve.precision, out=np.full(len(curve.recall), np.inf), where=curve.precision > 0
        )
        fit = (boxes - curve.recall) * _objects(curve) <= aim.false_alarms * aim.km2 + 1e-6
    else:
        best = best_point(curve)
        assert best is not None
        return int(np.flatnonzero(curve.score == best.score)[0])
    return int(np.argmax(np.where(fit, curve.recall, -1.0)))  # the first, which is the highest score, of equal ones


def _objects(curve: Curve) -> float:
    """How many objects the recalls of a curve are shares of: the first true one is a share of 1 / n."""
    rising = np.diff(curve.recall, prepend=0.0)
    return float(1 / rising[rising > 0].min())


def _are_few(hits: NDArray[np.bool_]) -> bool:
    return len(hits) < FEW or min(int(hits.sum()), int((~hits).sum())) < FEW // 10


def _spread(likely: Array, hits: NDArray[np.bool_], images: NDArray[np.int64]) -> float:
    """How much more than by chance the true objects of an image differ from the number that is expected; 1 or more."""
    off = np.bincount(images, hits - likely)
    chance = float((likely * (1 - likely)).sum())
    return max(1.0, float((off**2).sum()) / chance) if chance else 1.0


def _isotonic(scores: Array, hits: NDArray[np.bool_]) -> dict[str, Any]:
    """The shares of true objects in groups of about equal size, made to rise."""
    order = np.argsort(scores, kind="stable")
    groups = np.array_split(order, min(POINTS, len(order) // (FEW // POINTS)))
    centres = np.array([scores[group].mean() for group in groups])
    counts = np.array([len(group) for group in groups])
    shares = np.array([hits[group].mean() for group in groups])
    kept = np.append(np.diff(centres) > 1e-6, True)  # equal scores are one point
    owner = np.concatenate([[0], np.cumsum(kept)[:-1]])
    weight = np.bincount(owner, counts)
    shares = np.bincount(owner, shares * counts) / weight
    rising = scipy.optimize.isotonic_regression(shares, weights=weight).x
    return _points(centres[kept], rising, weight.astype(int))


def _logistic(scores: Array, hits: NDArray[np.bool_]) -> dict[str, Any]:
    """Platt's sigmoid over the log-odds of the score, with his targets that are never quite 0 or 1."""
    odds = _odds(scores)
    positive = np.count_nonzero(hits)
    target = np.where(hits, (positive + 1) / (positive + 2), 1 / (len(hits) - positive + 2))

    def loss(values: Array) -> float:
        z = np.exp(values[0]) * odds + values[1]  # a slope above 0: probability rises with the score
        return float((np.logaddexp(0, z) - target * z).sum())

    slope, shift = scipy.optimize.minimize(loss, np.zeros(2), method="Nelder-Mead").x
    at = np.linspace(scores.min(), max(scores.max(), scores.min() + 1e-3), _SPREAD)
    likely = 1 / (1 + np.exp(-(np.exp(slope) * _odds(at) + shift)))
    return _points(at, likely, np.full(_SPREAD, max(1, len(scores) // _SPREAD)))


def _odds(scores: Array) -> Array:
    inside = np.clip(scores, 1e-4, 1 - 1e-4)
    return np.log(inside / (1 - inside))


def _points(scores: Array, probabilities: Array, counts: NDArray[np.int64]) -> dict[str, Any]:
    columns = scores.round(6), np.clip(probabilities, 0, 1).round(6), counts
    return dict(zip(("scores", "probabilities", "counts"), (tuple(column.tolist()) for column in columns), strict=True))


@dataclass(frozen=True)
class Reliability:
    """How well probabilities agree with what is true.

    Attributes:
        error: expected calibration error: the mean difference over equal bins, weighted by the boxes in them.
        probability, share: (k,) mean probability and share of true objects in each bin with boxes.
        counts: (k,) boxes.
    """

    error: float
    probability: Array
    share: Array
    counts: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """As it stands in ``metrics.json``."""
        return {"ece": self.error, **{key: getattr(self, key).tolist() for key in ("probability", "share", "counts")}}


def reliability(probabilities: Array, hits: NDArray[np.bool_]) -> Reliability:
    """Of boxes (n,) and whether they are true objects (n,)."""
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    some = counts > 0
    sums = (np.bincount(place, values, BINS)[some] / counts[some] for values in (probabilities, hits.astype(float)))
    likely, share = sums
    error = float((np.abs(likely - share) * counts[some]).sum() / max(len(hits), 1))
    return Reliability(error, likely, share, counts[some])


def measure_reliability(
    measured: EvalMetrics, calibrations: dict[str, ClassCalibration]
) -> tuple[Reliability, Reliability | None]:
    """Of raw scores, and of probabilities where the model has them, of all boxes that are right or wrong."""
    true, false = measured.verdicts()
    counted = true | false
    ranked = measured.matched.predictions
    labels, scores, hits = ranked.labels[counted], ranked.scores[counted].astype(np.float64), true[counted]
    raw = reliability(scores, hits)
    known = np.isin(labels, [i for i, name in enumerate(measured.classes) if name in calibrations])
    if not known.any():
        return raw, None
    likely = scores.copy()
    for label, name in enumerate(measured.classes):
        if name in calibrations:
            likely[labels == label] = calibrations[name].probability(scores[labels == label])
    return raw, reliability(likely[known], hits[known])
