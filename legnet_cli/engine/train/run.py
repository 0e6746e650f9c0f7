"""Train a recipe on a dataset, on one device or many.

from legnet_cli.engine.train import TrainConfig, train
result = train(TrainConfig(data=Path("dota-tiles"), out=Path("runs/small"), recipe="oriented-rcnn/legnet-small"))
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from legnet_cli.data.classes import ClassChoice
from legnet_cli.data.datasets import load_dataset
from legnet_cli.detectors.mmrotate.door import import_mm
from legnet_cli.detectors.mmrotate.training import TrainableDetector
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.engine.eval import SearchPlan, Source
from legnet_cli.engine.process import processors
from legnet_cli.engine.train.config import TrainConfig
from legnet_cli.engine.train.data import DataCheck, TrainData, load_train_data
from legnet_cli.engine.train.devices import open_fabric
from legnet_cli.engine.train.folder import clear_folder, read_settings, write_settings
from legnet_cli.engine.train.log import CURVES, METRICS
from legnet_cli.engine.train.loop import BEST, LAST, Keeping, Loop
from legnet_cli.engine.train.plan import TrainPlan, config_plan, override, recipe_plan, scaled
from legnet_cli.engine.train.signals import ends_on_sigterm
from legnet_cli.engine.train.sizes import learn_sizes
from legnet_cli.engine.train.start import FEW, hold_out, read_start, tuned
from legnet_cli.engine.train.state import CHECKPOINT, load_run
from legnet_cli.engine.train.steps import Step, StepCost
from legnet_cli.engine.train.validation import Validation
from legnet_cli.files import check_output

logger = logging.getLogger(__name__)

_RUN = (CHECKPOINT, BEST, LAST)  # files that a run has once its first epoch or save is done


@dataclass(frozen=True)
class TrainResult:
    """What came of it.

    Attributes:
        out: folder of the run.
        plan: what was done.
        check: of the data.
        epochs, step: that were finished, counted from the beginning of the run.
        stopped: why training ended before its last epoch: ``signal`` or ``patience``; empty otherwise.
        best: best mAP50 of an epoch and that epoch, None without validation images.
        before: mAP50 of the weights that a detector was tuned from, None where nothing was or nothing tells.
        cost: of one step, for a dry run.
        seconds: what it took this time.
        rank: number of this process among those of the run, from 0.
    """

    out: Path
    plan: TrainPlan
    check: DataCheck
    epochs: int
    step: int
    stopped: str
    best: tuple[float, int] | None
    before: float | None
    cost: StepCost | None
    seconds: float
    rank: int


def train(
    config: TrainConfig,
    on_step: Callable[[Step], None] = lambda step: None,
    on_download: Callable[[int, int | None], None] = lambda done, total: None,
) -> TrainResult:
    """Train, and write the run to ``config.out``.

    Args:
        config: what to do.
        on_step: told the state after each optimisation step, on the first process.
        on_download: told the bytes so far and in all (None if unknown) while weights are fetched.

    Raises:
        ConfigError: settings that are wrong or disagree.
        DataError: data or weights that cannot be used, or a loss that is not finite.
        DependencyError: mmrotate or a device is absent, or has too little memory.
    """
    begin = time.perf_counter()
    config, stored = read_settings(config) if config.resume else (config, None)
    if not config.resume and not config.dry_run:
        for name in _RUN:  # settings alone are of a run that was ended before its first checkpoint
            check_output(f"{config.out}/", overwrite=config.overwrite, folder_files=name)
    import_mm()  # refused before the data are read
    # single-stage detectors read no finest level, and no angles without objects; models of ones own may do anything
    skips = config.recipe is None or "rpn_head" not in model_config(get_recipe(config.recipe), 1)
    with (
        ends_on_sigterm(),
        open_fabric(config.device, config.devices, config.nodes, config.precision, skips_weights=skips) as fabric,
    ):
        result = _train(fabric, config, stored, on_step, on_download)
    return replace(result, seconds=time.perf_counter() - begin)


def _train(
    fabric: Fabric,
    config: TrainConfig,
    stored: tuple[TrainPlan, frozenset[str]] | None,
    on_step: Callable[[Step], None],
    on_download: Callable[[int, int | None], None],
) -> TrainResult:
    """What every process of a run does; ``stored`` are plan and held out images of the run to go on with."""
    path = config.out / CHECKPOINT
    resumed = load_run(path) if config.resume and any((config.out / name).exists() for name in _RUN) else None
    start = None if resumed else read_start(config, on_download)
    data = _load(config, stored[0].classes if stored else start.classes if start else ())
    tune = start is not None and start.classes == data.classes  # else the head is new, and there is nothing to measure
    if stored:
        plan, held = stored
    else:
        held = _hold_out(config, data) if tune else frozenset()
        plan = resolve(config, data.classes, fabric.world_size)
        if tune:
            share = config.share if config.also else 0.0
            plan = tuned(plan, len(data.images) - len(held), share, fabric.world_size, config)
    validation = _validation(config, plan, data, held) if held or data.check.validation else None
    data = _mixed(config, data, held)
    torch.manual_seed(config.seed)
    model = TrainableDetector(plan.model, plan.angle)
    if resumed is None and start is not None:
        model.start_from(start.state, start.source)
    loop = Loop(fabric, model, plan, data, config.seed, config.stretch, _workers(config.workers))
    if plan.warmup >= loop.steps:
        logger.warning(
            "the warm-up of %d steps is longer than the run (%d steps): the learning rate does not reach its peak",
            plan.warmup, loop.steps,
        )  # fmt: skip
    if config.dry_run:
        return TrainResult(config.out, plan, data.check, 0, 0, "", None, None, loop.dry_run(), 0.0, fabric.global_rank)
    if resumed:
        loop.restore(resumed, path)
        if loop.complete:
            logger.info("%s: is complete after %d epochs: --epochs continues for more", config.out, plan.epochs)
    if fabric.is_global_zero:
        clear_folder(config.out, () if resumed else (*_RUN, METRICS, CURVES))
        write_settings(config, plan, data.check, held)
    card = _card(config, plan, data)
    keeping = Keeping(config.out, card, validation, config.patience, config.save_minutes * 60, tune, on_step)
    ended = loop.run(keeping)
    scores = ended.best, ended.before
    return TrainResult(
        config.out, plan, data.check, ended.epochs, ended.step, ended.stopped, *scores, None, 0.0, fabric.global_rank
    )


def _load(config: TrainConfig, known: tuple[str, ...]) -> TrainData:
    """The images of ``--data``; their classes are those that the weights ``known`` if these have all of them.

    Without any object, they are background for the classes of the weights or of ``--also``.
    """
    assert config.data is not None
    data = load_train_data(
        config.data,
        config.split,
        _choice(config),
        format=config.from_format,
        labels=config.labels,
        skip_bad=config.skip_bad,
        negatives=bool(known or config.also),
    )
    if config.also is None and not any(data.check.objects.values()):
        logger.warning("there is no object to learn: the detector may forget what it knows: mix some in with --also")
    if config.also is not None and not (data.classes or known):
        known = load_dataset(config.also, skip_bad=config.skip_bad, choice=_choice(config)).classes
    return replace(data, classes=known) if not config.classes and set(data.classes) <= set(known) else data


def _hold_out(config: TrainConfig, data: TrainData) -> frozenset[str]:
    """Of few images those to measure on where there are none for that; says what was chosen."""
    if data.check.validation or not config.hold_out or len(data.images) > FEW:
        return frozenset()
    held = hold_out(data.images, config.hold_out, config.seed)
    if held:
        told = "no validation images: %d of %d images are held out to measure on (--hold-out 0 trains on all)"
        logger.info(told, len(held), len(data.images))
    else:
        logger.info("no validation images, and too few to hold some out: nothing is measured")
    return held


def _mixed(config: TrainConfig, data: TrainData, held: frozenset[str]) -> TrainData:
    """``data`` without what is held out, with the images of ``--also``."""
    kept = tuple(image for image in data.images if image.file not in held)
    check = replace(data.check, images=len(kept), validation=data.check.validation or len(held))
    data = replace(data, images=kept, check=check)
    if config.also is None:
        return data
    choice = ClassChoice(data.classes, config.rename, config.ignore_others)
    other = load_train_data(config.also, None, choice, skip_bad=config.skip_bad)
    count, per_epoch = len(other.images), round(len(kept) / (1 - config.share)) - len(kept)
    logger.info("%d images of %s are mixed in, %d an epoch", count, config.also, per_epoch)
    return data.mixed(other, config.share)


def resolve(config: TrainConfig, classes: tuple[str, ...], devices: int) -> TrainPlan:
    """The plan of ``config`` on ``devices`` devices, with flags and overrides, the rate scaled to the global batch.

    Raises:
        ConfigError: see :func:`recipe_plan`, :func:`config_plan` and :func:`override`.
    """
    plan = config_plan(config.config, classes) if config.config else recipe_plan(config.recipe or "", classes, devices)
    flags: dict[str, Any] = {"epochs": config.epochs, "batch": config.batch, "accumulate": config.accumulate}
    if config.epochs is not None:  # a shorter run falls in the same proportion
        flags["steps"] = tuple(max(1, round(step * config.epochs / plan.epochs)) for step in plan.steps)
    plan = replace(plan, **{key: value for key, value in flags.items() if value is not None})
    plan = override(plan, [text for text in config.overrides if not text.startswith("optimizer.lr=")])
    if config.lr is None and config.config is None:
        published = plan.optimizer["lr"]
        plan = scaled(plan, config.recipe or "", devices)
        total = plan.batch * plan.accumulate * devices
        reference = get_recipe(config.recipe or "").batch
        logger.info(
            "learning rate %.3g for a global batch of %d (published: %.3g for %d)",
            plan.optimizer["lr"], total, published, reference,
        )  # fmt: skip
    elif config.lr is not None:
        plan = replace(plan, optimizer={**plan.optimizer, "lr": config.lr})
    return override(plan, [text for text in config.overrides if text.startswith("optimizer.lr=")])


def _card(config: TrainConfig, plan: TrainPlan, data: TrainData) -> ModelCard:
    gsd = (config.gsd, config.gsd) if config.gsd else data.check.gsd
    listing = [[image.file, image.names, image.quads.tolist()] for image in data.images]
    return ModelCard(
        name=config.out.name,
        recipe=plan.recipe,
        classes=plan.classes,
        tile=plan.tile,
        overlap=plan.overlap,
        gsd=gsd,
        stretch=config.stretch,
        sizes=learn_sizes(data.images, plan.classes, gsd),
        trained_on=f"{config.data.name if config.data else ''}, {len(data.images)} images",
        data_sha256=hashlib.sha256(json.dumps(listing).encode()).hexdigest(),
        model=plan.model if plan.own_model else None,
    )


def _validation(config: TrainConfig, plan: TrainPlan, data: TrainData, held: frozenset[str]) -> Validation:
    search = SearchPlan(plan.tile, plan.overlap, None, None, config.stretch, 8, 2, config.seed)
    assert config.data is not None
    source = Source(
        config.data,
        data.images[0].split if held else "val",
        config.labels,
        files=held,
        skip_bad=config.skip_bad,
        format=config.from_format,
        choice=_choice(config),
    )
    return Validation(source, data.classes, search)


def _choice(config: TrainConfig) -> ClassChoice:
    return ClassChoice(config.classes, config.rename, config.ignore_others)


def _workers(asked: int | None) -> int:
    return min(4, processors()) if asked is None else asked
