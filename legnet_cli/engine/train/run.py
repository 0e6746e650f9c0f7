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
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from legnet_cli.detectors.mmrotate.training import TrainableDetector
from legnet_cli.detectors.weights.checkpoint import ModelCard, read_state
from legnet_cli.detectors.weights.fetch import fetch
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.engine.eval import SearchPlan
from legnet_cli.engine.process import processors
from legnet_cli.engine.train.config import TrainConfig
from legnet_cli.engine.train.data import DataCheck, TrainData, load_train_data
from legnet_cli.engine.train.devices import open_fabric
from legnet_cli.engine.train.loop import Loop
from legnet_cli.engine.train.plan import Plan, config_plan, override, recipe_plan, scaled
from legnet_cli.engine.train.state import CHECKPOINT, load_run
from legnet_cli.engine.train.steps import Step, StepCost
from legnet_cli.engine.train.validation import Validation, open_validation
from legnet_cli.errors import ConfigError, DataError
from legnet_cli.files import atomic_path, check_output

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
_FREE = ("out", "resume", "device", "devices", "nodes", "workers", "overwrite", "dry_run", "save_minutes")


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
        cost: of one step, for a dry run.
        seconds: what it took this time.
    """

    out: Path
    plan: Plan
    check: DataCheck
    epochs: int
    step: int
    stopped: str
    best: tuple[float, int] | None
    cost: StepCost | None
    seconds: float


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
        DependencyError: a device that is absent or has too little memory.
    """
    begin = time.perf_counter()
    config, stored = _stored(config) if config.resume else (config, None)
    if not config.resume and not config.dry_run:
        check_output(f"{config.out}/", overwrite=config.overwrite, folder_files=CONFIG_FILE)
    fabric = open_fabric(config.device, config.devices, config.nodes, config.precision)
    assert config.data is not None
    data = load_train_data(config.data, config.split, config.classes, labels=config.labels, skip_bad=config.skip_bad)
    plan = Plan.from_dict(stored["plan"]) if stored else resolve(config, data.classes, fabric.world_size)
    torch.manual_seed(config.seed)
    model = TrainableDetector(plan.model, plan.angle)
    run = load_run(config.out / CHECKPOINT) if stored else None
    if run is None:
        _start_weights(config, model, on_download)
    loop = Loop(fabric, model, plan, data, config.seed, config.stretch, _workers(config.workers))
    if config.dry_run:
        cost = loop.dry_run()
        return TrainResult(config.out, plan, data.check, 0, 0, "", None, cost, time.perf_counter() - begin)
    if fabric.is_global_zero and not stored:
        _start_folder(config, plan, data)
    card = _card(config, plan, data)
    validation = _validation(config, plan, data) if data.check.validation else None
    ended = loop.run(config.out, card, validation, run, config.patience, config.save_minutes * 60, on_step)
    seconds = time.perf_counter() - begin
    return TrainResult(config.out, plan, data.check, ended.epochs, ended.step, ended.stopped, ended.best, None, seconds)


def resolve(config: TrainConfig, classes: tuple[str, ...], devices: int) -> Plan:
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


def _stored(config: TrainConfig) -> tuple[TrainConfig, dict[str, Any]]:
    """The settings that the run in ``config.out`` was started with, and its plan.

    Raises:
        ConfigError: a flag that disagrees with them.
        DataError: there is no run.
    """
    path = config.out / CONFIG_FILE
    try:
        stored: dict[str, Any] = yaml.safe_load(path.read_text())
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in stored["settings"].items()}
        values |= {key: Path(values[key]) for key in ("data", "config") if values[key]}
        old = TrainConfig(**values, out=config.out)
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        raise DataError(f"{path}: there is no run to resume: start it without --resume") from None
    fresh = TrainConfig(out=config.out, resume=True)
    for field in fields(TrainConfig):
        mine, default, theirs = (getattr(c, field.name) for c in (config, fresh, old))
        if field.name not in _FREE and mine != default and mine != theirs:
            raise ConfigError(
                f"--{field.name} {mine}: the run in {config.out} has {theirs}: leave it out, or start anew"
            )
    return replace(old, **{name: getattr(config, name) for name in _FREE}), stored


def _start_weights(
    config: TrainConfig, model: TrainableDetector, on_download: Callable[[int, int | None], None]
) -> None:
    source = config.weights
    if source is None and config.recipe is not None:
        source = get_recipe(config.recipe).backbone.weights
        if source:
            logger.info("backbone from %s; --weights none starts from random weights", source)
    if source is None or source == "none":
        return
    path = fetch(source, on_download)
    model.start_from(read_state(path)[0], source)


def _start_folder(config: TrainConfig, plan: Plan, data: TrainData) -> None:
    for name in (CHECKPOINT, "metrics.csv", "curves.png", "best.safetensors", "last.safetensors"):
        (config.out / name).unlink(missing_ok=True)
    settings = {key: value for key, value in asdict(config).items() if key not in _FREE}
    settings = {
        key: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for key, value in settings.items()
    }
    text = yaml.safe_dump(
        {"settings": settings, "plan": plan.to_dict(), "data": data.check.to_dict()}, sort_keys=False, width=120
    )
    with atomic_path(config.out / CONFIG_FILE) as scratch:
        scratch.write_text(text)


def _card(config: TrainConfig, plan: Plan, data: TrainData) -> ModelCard:
    listing = [[image.file, image.names, image.quads.tolist()] for image in data.images]
    return ModelCard(
        name=config.out.name,
        recipe=plan.recipe,
        classes=plan.classes,
        tile=plan.tile,
        overlap=plan.overlap,
        stretch=config.stretch,
        trained_on=f"{config.data.name if config.data else ''}, {len(data.images)} images",
        data_sha256=hashlib.sha256(json.dumps(listing).encode()).hexdigest(),
        model=plan.model if plan.own_model else None,
    )


def _validation(config: TrainConfig, plan: Plan, data: TrainData) -> Validation:
    search = SearchPlan(plan.tile, plan.overlap, None, config.stretch, 8, 2, config.seed)
    assert config.data is not None
    return open_validation(config.data, "val", data.classes, search, labels=config.labels, skip_bad=config.skip_bad)


def _workers(asked: int | None) -> int:
    return min(4, processors()) if asked is None else asked
