"""Evaluation between epochs: the model as it would be used, measured as ``legnet eval`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from legnet_cli.detectors.loader import build_detector
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import Checkpoint
from legnet_cli.engine.eval import (
    EvalSet,
    ImagePredictions,
    SearchPlan,
    Source,
    compute_metrics,
    load_truth,
    plan_grids,
    search_images,
    select_classes,
)
from legnet_cli.errors import DataError


@dataclass(frozen=True)
class Score:
    """Mean average precisions (VOC07) over the classes that have objects.

    Attributes:
        map50, map: at IoU 0.5, and over 0.5 to 0.95.
        ap50: at 0.5 of each class that has objects.
        ignored: objects that were not counted.
        ignored_in: those of each class that has any.
    """

    map50: float
    map: float
    ap50: dict[str, float]
    ignored: int = 0
    ignored_in: dict[str, int] = field(default_factory=dict)


class Validation:
    """The images of a split and their objects.

    Raises:
        DataError: labels or images cannot be used.
    """

    def __init__(self, source: Source, classes: tuple[str, ...], plan: SearchPlan) -> None:
        self._classes, self._plan = classes, plan
        self.truth: EvalSet = load_truth(source)
        if unknown := [name for name in self.truth.classes if name not in classes]:
            raise DataError(f"{source.data}: has objects of {', '.join(unknown)} to evaluate, but none to train on")
        self._grids = plan_grids(self.truth, plan)

    def find(
        self, state: dict[str, Tensor], card: ModelCard, device: torch.device, rank: int = 0, processes: int = 1
    ) -> ImagePredictions:
        """What the weights ``state`` find in every ``processes``-th image, from number ``rank`` on."""
        detector = build_detector(Checkpoint(state, card), device)
        mine = [i for i, frame in enumerate(self.truth.frames) if frame.image % processes == rank]
        part = replace(self.truth, frames=tuple(self.truth.frames[i] for i in mine))
        return search_images(part, [self._grids[i] for i in mine], detector, self._plan, None, lambda count: None)

    def score(self, found: Sequence[ImagePredictions]) -> Score:
        """How good the predictions are that ``len(found)`` processes found, in the order of their ranks."""
        images = tuple(found[i % len(found)].images[i] for i in range(len(self.truth.names)))
        whole = replace(found[0], images=images)
        truths, predictions = select_classes(self.truth, whole, self._classes)
        result = compute_metrics(predictions, truths, self._classes).to_dict()
        ap = {name: value for name, value in result["ap"]["voc07"]["0.50"].items() if value is not None}
        summary = result["summary"]["voc07"]
        by_class = {name: count for name, count in result["counts"]["ignored"].items() if count}
        return Score(summary["mAP50"] or 0.0, summary["mAP50:95"] or 0.0, ap, result["ignored"], by_class)
