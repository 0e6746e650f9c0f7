"""What a run starts from, and what follows if that is a detector: a short schedule, a small rate, a part held out."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from legnet_cli.data.labels import ImageLabels
from legnet_cli.detectors.weights.checkpoint import read_checkpoint
from legnet_cli.detectors.weights.fetch import fetch
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.detectors.weights.tensors import read_state
from legnet_cli.engine.train.config import TrainConfig
from legnet_cli.engine.train.data import counted_objects
from legnet_cli.engine.train.plan import TrainPlan
from legnet_cli.errors import CheckpointError
from legnet_cli.tiles import parse_tile_name

logger = logging.getLogger(__name__)

FEW = 2000  # images: of as many, a detector is tuned and not trained anew
_STEPS = 300  # of a run that tunes a detector, in whole epochs
_LEAST_EPOCHS, _MOST_EPOCHS = 2, 12
_RATE = 0.25  # of the recipe's
_WARMUP = 0.1  # of the steps
_LEAST_HELD = 2  # images


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes:
        state: tensors by name.
        source: what ``--weights`` calls them.
        classes: of the detector; empty if they are those of a backbone alone.
    """

    state: dict[str, Tensor]
    source: str
    classes: tuple[str, ...] = ()


def read_start(config: TrainConfig, on_download: Callable[[int, int | None], None]) -> Start | None:
    """The weights of ``config``, else the ImageNet weights of the recipe's backbone; None for random ones.

    Raises:
        CheckpointError: they cannot be used.
    """
    source = config.weights
    if source is None and config.recipe is not None:
        source = get_recipe(config.recipe).backbone.weights
        if source:
            logger.info("backbone from %s; --weights none starts from random weights", source)
    if source is None or source == "none":
        return None
    path = fetch(source, on_download)
    state = read_state(path)[0]
    if not any(name.startswith(("neck.", "rpn_head.", "bbox_head.", "roi_head.")) for name in state):
        return Start(state, source)
    try:
        return Start(state, source, read_checkpoint(path).card.classes)
    except CheckpointError:  # a detector of no known recipe or number of classes: what fits of it is taken
        return Start(state, source)


def tuned(plan: TrainPlan, images: int, share: float, devices: int, config: TrainConfig) -> TrainPlan:
    """``plan`` for a detector that knows much already and sees few new images; what flags say stays.

    Args:
        plan: as the recipe and the flags have it.
        images: number of new ones.
        share: of each epoch that is other data.
        devices: that share a step.
        config: its flags and overrides.
    """
    if images > FEW or config.config is not None:
        return plan
    per_epoch = max(1, int(images / (1 - share)) // (plan.batch * plan.accumulate * devices))
    given = {text.partition("=")[0].strip() for text in config.overrides}
    epochs = plan.epochs
    if config.epochs is None and "epochs" not in given:
        epochs = min(plan.epochs, _MOST_EPOCHS, max(_LEAST_EPOCHS, math.ceil(_STEPS / per_epoch)))
        plan = replace(plan, epochs=epochs)
    if not {"schedule", "steps"} & given:
        plan = replace(plan, schedule="cosine", steps=())
    if "warmup" not in given:
        plan = replace(plan, warmup=min(plan.warmup, round(_WARMUP * epochs * per_epoch)))
    if config.lr is None and "optimizer.lr" not in given:
        plan = replace(plan, optimizer={**plan.optimizer, "lr": _RATE * plan.optimizer["lr"]})
    logger.info(
        "fine-tuning on %d images: %d epochs of %d steps, learning rate %.3g falling to 0, warm-up of %d steps "
        "(--epochs, --lr and --set change that)",
        images, epochs, per_epoch, plan.optimizer["lr"], plan.warmup,
    )  # fmt: skip
    return plan


def hold_out(images: Sequence[ImageLabels], share: float, seed: int) -> frozenset[str]:
    """Files of about a ``share`` of ``images`` to measure on; whole scenes where there are several.

    There are none if that would leave no object to learn from or to measure on.
    """
    scene = {image.file: parse_tile_name(image.stem).image for image in images}
    by_scene = len(set(scene.values())) > 2
    groups: dict[str, list[ImageLabels]] = {}
    for image in images:
        groups.setdefault(scene[image.file] if by_scene else image.file, []).append(image)
    wanted = max(_LEAST_HELD, round(share * len(images)))
    held: list[ImageLabels] = []
    for _, group in sorted(groups.items(), key=lambda item: hashlib.sha256(f"{seed}/{item[0]}".encode()).digest()):
        if len(held) >= wanted and counted_objects(held):
            break
        held += group
    files = frozenset(image.file for image in held)
    rest = [image for image in images if image.file not in files]
    return files if counted_objects(held) and counted_objects(rest) and len(rest) >= len(held) else frozenset()
