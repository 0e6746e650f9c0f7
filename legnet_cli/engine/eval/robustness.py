"""How much a detector loses on corrupted images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from legnet_cli.boxes import Array
from legnet_cli.engine.eval.average_precision import METRICS, summary
from legnet_cli.engine.eval.corruptions import KINDS, SEVERITIES, Corruption
from legnet_cli.engine.eval.matching import Predictions
from legnet_cli.engine.eval.measure import EvalMetrics, mean_precision

PASSES = len(KINDS) * len(SEVERITIES)


@dataclass(frozen=True)
class Robustness:
    """Mean average precision on plain and on corrupted images.

    Attributes:
        clean: (metrics, thresholds) on plain images.
        corrupted: (metrics, thresholds) by kind, at severities 1 to 5.
    """

    clean: Array
    corrupted: dict[str, tuple[Array, ...]]

    @property
    def map50(self) -> dict[str, list[float]]:
        """VOC07 mAP50 by kind, at severities 1 to 5."""
        return {kind: [float(mean[0, 0]) for mean in means] for kind, means in self.corrupted.items()}

    @property
    def drops(self) -> dict[str, float | None]:
        """Share of the VOC07 mAP50 on plain images that is lost, the mean of all severities, by kind."""
        clean = float(self.clean[0, 0])
        return {kind: 1 - float(np.mean(row)) / clean if clean > 0 else None for kind, row in self.map50.items()}

    @property
    def drop(self) -> float | None:
        """Mean of ``drops`` over all kinds."""
        known = [drop for drop in self.drops.values() if drop is not None]
        return float(np.mean(known)) if known else None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in ``metrics.json``."""
        kinds = {
            kind: {
                "strength": list(KINDS[kind][1]),
                **{metric: _columns([dict(summary(mean)[metric]) for mean in means]) for metric in METRICS},
                "relative_drop": self.drops[kind],
            }
            for kind, means in self.corrupted.items()
        }
        clean = {metric: dict(values) for metric, values in summary(self.clean).items()}
        return {"severities": list(SEVERITIES), "clean": clean, "kinds": kinds, "mean_relative_drop": self.drop}


def _columns(rows: list[dict[str, float | None]]) -> dict[str, list[float | None]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def measure_robustness(
    predict: Callable[[Corruption], Predictions], measured: EvalMetrics, *, inclusive: bool = False
) -> Robustness:
    """Measure a detector under every corruption at every severity.

    Args:
        predict: predictions on the corrupted images.
        measured: metrics on the images as they are.
        inclusive: see :func:`legnet_cli.engine.eval.measure.compute_metrics`.
    """
    truths, count = measured.truths, len(measured.classes)
    corrupted = {
        kind: tuple(
            mean_precision(predict(Corruption(kind, severity)), truths, count, inclusive=inclusive)
            for severity in SEVERITIES
        )
        for kind in KINDS
    }
    return Robustness(measured.precisions.mean, corrupted)
