"""What scores of a model mean, measured on labelled data: from which one to report, and how probable an object is.

A map from score to probability that rises from point to point turns scores of any class into the share of boxes of that
score that were true objects (IoU over 0.5) in the data it was learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.detectors.weights.entry import CardEntry

DEFAULT_SCORE = 0.25  # least score that is reported where nobody has measured a better one
_WITHIN = 1.645  # standard deviations to each side that hold 90 % of a normal distribution


@dataclass(frozen=True)
class ClassCalibration(CardEntry):
    """Of one class.

    Attributes:
        threshold: score from which boxes are reported.
        precision, recall: at that threshold in the labelled data.
        method: how the map was learned: ``isotonic``, or ``logistic`` where there were few boxes.
        objects: true ones there.
        scores, probabilities: (k,) points of the map, rising and not falling; it is constant outside of them.
        counts: (k,) boxes that each point was learned from.
        spread: how many times larger than by chance the variance of the number of true objects is from image to image.
    """

    threshold: float
    precision: float
    recall: float
    method: str
    objects: int
    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    counts: tuple[int, ...]
    spread: float = 1.0

    def probability(self, scores: NDArray[np.floating]) -> Array:
        """Probabilities (n,) of being a true object."""
        return np.interp(scores.astype(np.float64), self.scores, self.probabilities)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> ClassCalibration:
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError, TypeError, KeyError: it is none.
        """
        lists: dict[str, Any] = {key: tuple(values[key]) for key in ("scores", "probabilities", "counts")}
        numbers: dict[str, Any] = {key: float(values[key]) for key in ("threshold", "precision", "recall")}
        numbers["spread"] = float(values.get("spread", 1.0))
        found = ClassCalibration(**numbers, method=str(values["method"]), objects=int(values["objects"]), **lists)
        points = np.array([found.scores, found.probabilities, found.counts], np.float64)
        rising = (np.diff(points[0]) > 0).all() and (np.diff(points[1]) >= 0).all()
        shares = np.array([*points[0], *points[1], found.threshold, found.precision, found.recall])
        rising = rising and 1 <= found.spread < np.inf
        if not points.shape[1] or not rising or not ((shares >= 0) & (shares <= 1)).all() or not (points[2] > 0).all():
            raise ValueError("no map from scores to probabilities")
        return found


@dataclass(frozen=True)
class CountEstimate:
    """How many true objects of a class there are.

    Attributes:
        found: true ones among the boxes that are reported, as far as their probabilities tell.
        low, high: interval that holds their number with a probability of 90 %, on scenes like the labelled data: it
            covers how images differ by chance and otherwise, and the limited number of labelled boxes, not another kind
            of ground.
        missed: objects that are not reported, by the recall in the labelled data.
    """

    found: float
    low: float
    high: float
    missed: float


def estimate_count(calibration: ClassCalibration, scores: NDArray[np.floating]) -> CountEstimate:
    """The true objects among boxes of ``scores`` (n,), all of one class and at or above its threshold."""
    likely = calibration.probability(scores)
    nearest = np.abs(scores[:, None] - np.array(calibration.scores)).argmin(1)
    shared = np.bincount(nearest, minlength=len(calibration.scores))  # boxes whose probability errs together
    # Laplace's rule: a share of 0 or 1 among a few boxes is not certain
    p = (np.array(calibration.probabilities) * calibration.counts + 1) / (np.array(calibration.counts) + 2)
    variance = calibration.spread * (likely * (1 - likely)).sum() + (shared**2 * p * (1 - p) / calibration.counts).sum()
    found, reach = float(likely.sum()), _WITHIN * float(np.sqrt(variance))
    missed = found * (1 / calibration.recall - 1) if calibration.recall else float("nan")
    return CountEstimate(found, max(0.0, found - reach), min(float(len(scores)), found + reach), missed)
