"""Evaluation between epochs: the model as it would be used, measured as ``legnet eval`` does."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from legnet_cli.detectors.checkpoint import Checkpoint, ModelCard
from legnet_cli.detectors.loader import build_detector
from legnet_cli.engine.eval import select_classes
from legnet_cli.engine.eval_data import EvalSet, Source, load_truth
from legnet_cli.engine.eval_search import SearchPlan, plan_shapes, search
from legnet_cli.engine.measure import measure
from legnet_cli.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """Mean average precisions (VOC07) over the classes that have objects, and AP at 0.5 of each class."""

    map50: float
    map: float
    ap50: dict[str, float]


class Validation:
    """The images of a split and their objects.

    Raises:
        DataError: labels or images cannot be used.
    """

    def __init__(self, source: Source, classes: tuple[str, ...], plan: SearchPlan) -> None:
        self._classes, self._plan = classes, plan
        self.truth: EvalSet = load_truth(source)
        if unknown := [name for name in self.truth.classes if name not in classes]:
            raise DataError(f"{source.data}: objects of {', '.join(unknown)} to evaluate, but not to train on")
        self._shapes = plan_shapes(self.truth, plan)

    def score(self, state: dict[str, Tensor], card: ModelCard, device: torch.device) -> Score:
        """How good the weights ``state`` are."""
        detector = build_detector(Checkpoint(state, card), device)
        found = search(self.truth, self._shapes, detector, self._plan, None, lambda count: None)
        truths, predictions = select_classes(self.truth, found, self._classes)
        result = measure(predictions, truths, self._classes).to_dict()
        ap = {name: value for name, value in result["ap"]["voc07"]["0.50"].items() if value is not None}
        summary = result["summary"]["voc07"]
        return Score(summary["mAP50"] or 0.0, summary["mAP50:95"] or 0.0, ap)


def open_validation(
    data: Path, split: str, classes: tuple[str, ...], plan: SearchPlan, *, labels: str | None, skip_bad: bool
) -> Validation:
    """The validation images of the dataset at ``data``."""
    level = logging.getLogger("legnet_cli.engine.eval_data")
    before, level.disabled = level.disabled, True  # doubts about the labels were told when they were first read
    try:
        return Validation(Source(data, split, labels, None, skip_bad), classes, plan)
    finally:
        level.disabled = before
