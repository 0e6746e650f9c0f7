"""All metrics of one set of predictions against one ground truth, and their form in ``metrics.json``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array, polygons_to_boxes
from legnet_cli.engine.eval.average_precision import (
    METRICS,
    THRESHOLDS,
    Curve,
    MatchedPredictions,
    OperatingPoint,
    Precisions,
    best_point,
    by_metric,
    by_threshold,
    curve,
    number,
    precisions,
    summary,
    tie_bounds,
)
from legnet_cli.engine.eval.matching import Mask, Predictions, Truths, confusion, match

# square roots of areas in pixels are COCO's; lengths in metres tell vehicles, aircraft and ships, larger things
PIXEL_SIZES = {"small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, np.inf)}
METRE_SIZES = {"small": (0.0, 10.0), "medium": (10.0, 50.0), "large": (50.0, np.inf)}
BACKGROUND = "background"
NOTABLE = 0.01  # change of an average precision by the order of equal scores that is told


@dataclass(frozen=True)
class EvalMetrics:
    """Metrics of one set of predictions.

    Attributes:
        classes: names of the labels.
        truths: the objects.
        matched: the ranked predictions with the verdict on each.
        precisions: of all objects.
        tied: lowest and highest average precisions (2, metrics, thresholds, classes) over all orders of equal scores.
        pixels, metres: of the objects of each size; empty where the unit is unknown.
        curves: by class, at IoU 0.5; None for a class without objects.
        points: best threshold of each class.
        overall: best threshold for all classes together.
        confusion: (classes + 1, classes + 1) at the overall threshold.
    """

    classes: tuple[str, ...]
    truths: Truths
    matched: MatchedPredictions
    precisions: Precisions
    tied: Array
    pixels: dict[str, Precisions]
    metres: dict[str, Precisions]
    curves: tuple[Curve | None, ...]
    points: tuple[OperatingPoint | None, ...]
    overall: OperatingPoint | None
    confusion: NDArray[np.int64]

    @property
    def without_truth(self) -> tuple[str, ...]:
        """Classes without an object that counts: not in any mean."""
        return tuple(name for name, count in zip(self.classes, self.precisions.counts, strict=True) if not count)

    @property
    def threshold(self) -> float:
        """Score from which predictions are shown as found: the best overall one, 0 where nothing was found."""
        return self.overall.score if self.overall else 0.0

    @property
    def ignored(self) -> int:
        """Ignored objects; a region that is ignored for every class is one."""
        places = np.column_stack([self.truths.images, self.truths.quads.reshape(-1, 8)])
        return len(np.unique(places[self.truths.ignored], axis=0))

    @property
    def ties(self) -> dict[str, dict[str, Any]]:
        """By class the AP that the order of equal scores can change most, where that is over ``NOTABLE``."""
        found = {}
        for i, name in enumerate(self.classes):
            low, high = self.tied[..., i]
            metric, row = np.unravel_index(int(np.argmax(high - low)), low.shape)
            if high[metric, row] - low[metric, row] > NOTABLE:
                ends = {"lowest": float(low[metric, row]), "highest": float(high[metric, row])}
                found[name] = {"metric": METRICS[metric], "iou": THRESHOLDS[row], **ends}
        return found

    def verdicts(self) -> tuple[Mask, Mask]:
        """True and false positives among the ranked predictions at IoU 0.5."""
        return self.matched.verdicts(0, self.truths.ignored)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in ``metrics.json``."""
        by_class = {name: i for i, name in enumerate(self.classes)}
        ap = {
            metric: {
                key: {name: number(values[:, i][row]) for name, i in by_class.items()}
                for row, key in enumerate(by_threshold(values[:, 0]))
            }
            for metric, values in zip(METRICS, self.precisions.ap, strict=True)
        }
        found = np.bincount(self.matched.predictions.labels, minlength=len(self.classes))
        truths, none = self.truths, np.zeros(len(self.truths), np.bool_)
        masks = truths.ignored, none if truths.cut is None else truths.cut
        ignored, cut = (np.bincount(truths.labels[mask], minlength=len(self.classes)) for mask in masks)
        return {
            "map": by_metric(self.precisions.mean),
            "summary": summary(self.precisions.mean),
            "ap": ap,
            "classes": list(self.classes),
            "classes_without_truth": list(self.without_truth),
            "counts": {
                "truths": self._named(self.precisions.counts),
                "ignored": self._named(ignored),
                "cut_by_tiles": self._named(cut),
                "predictions": self._named(found),
            },
            "ignored": self.ignored,
            "ties": self.ties,
            "operating_point": {
                "iou": 0.5,
                "overall": self.overall and asdict(self.overall),
                "classes": {n: p and asdict(p) for n, p in zip(self.classes, self.points, strict=True)},
            },
            "size": {
                "pixels": _sizes(self.pixels, PIXEL_SIZES, self.classes),
                "metres": _sizes(self.metres, METRE_SIZES, self.classes),
            },
            "confusion": {
                "iou": 0.5,
                "score": self.threshold,
                "labels": [*self.classes, BACKGROUND],
                "matrix": self.confusion.tolist(),
            },
        }

    def _named(self, counts: NDArray[np.int64]) -> dict[str, int]:
        return dict(zip(self.classes, counts.tolist(), strict=True))


def compute_metrics(
    predictions: Predictions, truths: Truths, classes: Sequence[str], *, inclusive: bool = False, in_pixels: bool = True
) -> EvalMetrics:
    """All metrics.

    Args:
        predictions: boxes in any order; equal scores are ranked as ``Predictions.ranked`` says.
        truths: the objects.
        classes: names of the labels.
        inclusive: an IoU that equals the threshold is enough, as for mmrotate; for DOTA it is not.
        in_pixels: coordinates are pixels, so that sizes in pixels make sense.
    """
    matched = match_predictions(predictions, truths, len(classes), inclusive=inclusive)
    ranked, count = matched.predictions, len(classes)
    every = precisions(matched, truths, count, _all(truths), _all(ranked))
    areas = polygons_to_boxes(truths.quads)[:, 2:4].prod(1), ranked.boxes[:, 2:4].prod(1)
    pixels = _by_size(matched, truths, count, np.sqrt(areas[0]), np.sqrt(areas[1]), PIXEL_SIZES) if in_pixels else {}
    known = bool(np.isfinite(truths.metres[~truths.ignored]).any())
    metres = _by_size(matched, truths, count, truths.metres, ranked.metres, METRE_SIZES) if known else {}
    true, false = matched.verdicts(0, truths.ignored)
    curves = _curves(ranked, true, false, every.counts)
    order = np.argsort(-ranked.scores.astype(np.float64), kind="stable")
    overall = best_point(curve(ranked.scores[order], true[order], false[order], max(int(every.counts.sum()), 1)))
    threshold = overall.score if overall else 0.0
    return EvalMetrics(
        tuple(classes),
        truths,
        matched,
        every,
        np.stack(tie_bounds(matched, truths, every)),
        pixels,
        metres,
        curves,
        tuple(None if found is None else best_point(found) for found in curves),
        overall,
        confusion(ranked, truths, threshold, count),
    )


def match_predictions(
    predictions: Predictions, truths: Truths, classes: int, *, inclusive: bool = False
) -> MatchedPredictions:
    """Rank and match ``predictions``; for the arguments see :func:`compute_metrics`."""
    ranked = predictions.ranked()
    return MatchedPredictions.of(ranked, match(ranked, truths, classes), truths, inclusive=inclusive)


def mean_precision(predictions: Predictions, truths: Truths, classes: int, *, inclusive: bool = False) -> Array:
    """(metrics, thresholds) mean average precision alone; for the arguments see :func:`compute_metrics`."""
    matched = match_predictions(predictions, truths, classes, inclusive=inclusive)
    return precisions(matched, truths, classes, _all(truths), _all(matched.predictions)).mean


def _all(items: Truths | Predictions) -> Mask:
    return np.ones(len(items), np.bool_)


def _by_size(
    matched: MatchedPredictions,
    truths: Truths,
    classes: int,
    true: Array,
    found: Array,
    sizes: dict[str, tuple[float, float]],
) -> dict[str, Precisions]:
    """Precisions by size; an object of unknown size, NaN, is of none."""
    parts = {}
    for name, (low, high) in sizes.items():
        inside = [(low <= size) & (size < high) for size in (true, found)]
        parts[name] = precisions(matched, truths, classes, inside[0], inside[1])
    return parts


def _curves(ranked: Predictions, true: Mask, false: Mask, counts: NDArray[np.int64]) -> tuple[Curve | None, ...]:
    bounds = np.searchsorted(ranked.labels, np.arange(len(counts) + 1))
    parts = [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
    return tuple(
        curve(ranked.scores[part], true[part], false[part], int(count)) if count else None
        for part, count in zip(parts, counts, strict=True)
    )


def _sizes(
    parts: dict[str, Precisions], sizes: dict[str, tuple[float, float]], classes: Sequence[str]
) -> dict[str, Any] | None:
    if not parts:
        return None
    return {
        name: {
            "range": [limit if np.isfinite(limit) else None for limit in sizes[name]],
            "truths": int(part.counts.sum()),
            "map": by_metric(part.mean),
            "ap50": {
                metric: {n: number(value) for n, value in zip(classes, part.ap[row, 0], strict=True)}
                for row, metric in enumerate(METRICS)
            },
        }
        for name, part in parts.items()
    }
