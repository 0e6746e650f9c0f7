"""What a run was started with, kept in its folder, so that it can go on with it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import yaml

from legnet_cli.engine.train.config import TrainConfig
from legnet_cli.engine.train.data import DataCheck
from legnet_cli.engine.train.plan import TrainPlan
from legnet_cli.errors import ConfigError, DataError, reason
from legnet_cli.files import atomic_path
from legnet_cli.untrusted import MOST_SETTINGS, parse_yaml, read_text

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
# may differ when a run goes on
_FREE = ("out", "resume", "device", "devices", "nodes", "workers", "overwrite", "dry_run", "save_minutes")


def read_settings(config: TrainConfig) -> tuple[TrainConfig, tuple[TrainPlan, frozenset[str]]]:
    """The settings that the run in ``config.out`` was started with, its plan, and the images that it held out.

    ``config.epochs`` may extend it.

    Raises:
        ConfigError: a flag that disagrees with them.
        DataError: there is no run.
    """
    path = config.out / CONFIG_FILE
    try:
        stored: dict[str, Any] = parse_yaml(read_text(path, MOST_SETTINGS))
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in stored["settings"].items()}
        values |= {key: Path(values[key]) for key in ("data", "config", "also") if values.get(key)}
        old = TrainConfig(**values, out=config.out)
        plan = TrainPlan.from_dict(stored["plan"])
        held = frozenset(map(str, stored.get("held_out", ())))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no run to resume: start it without --resume") from None
    except Exception as error:  # whatever else stands there than a run writes
        raise DataError(f"{path}: cannot be read ({reason(error)}): start again without --resume") from None
    fresh = TrainConfig(out=config.out, resume=True)
    for field in fields(TrainConfig):
        mine, default, theirs = (getattr(c, field.name) for c in (config, fresh, old))
        if field.name not in (*_FREE, "epochs") and mine != default and mine != theirs:
            flag = field.name.replace("_", "-")
            raise ConfigError(f"--{flag} {mine}: the run in {config.out} has {theirs}: leave it out, or start again")
    old = replace(old, **{name: getattr(config, name) for name in _FREE})
    if config.epochs is not None:
        old, plan = replace(old, epochs=config.epochs), _extended(plan, config)
    return old, (plan, held)


def _extended(plan: TrainPlan, config: TrainConfig) -> TrainPlan:
    """``plan`` with the epochs of ``config``; the steps of its schedule stay where they are."""
    assert config.epochs is not None
    if config.epochs < plan.epochs:
        raise ConfigError(f"--epochs {config.epochs}: the run in {config.out} has {plan.epochs}: give more")
    if config.epochs > plan.epochs:
        steps = ", ".join(map(str, plan.steps))
        how = "falls over all of them" if plan.schedule == "cosine" else f"falls after epochs {steps}"
        logger.info("%d epochs in place of %d: the learning rate %s", config.epochs, plan.epochs, how)
    return replace(plan, epochs=config.epochs)


def write_settings(config: TrainConfig, plan: TrainPlan, check: DataCheck, held: Collection[str]) -> None:
    """Write what :func:`read_settings` reads."""
    settings = {key: value for key, value in asdict(config).items() if key not in _FREE}
    settings = {
        key: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for key, value in settings.items()
    }
    values = {"settings": settings, "plan": plan.to_dict(), "data": check.to_dict(), "held_out": sorted(held)}
    with atomic_path(config.out / CONFIG_FILE) as scratch:
        scratch.write_text(yaml.safe_dump(values, sort_keys=False, width=120))


def clear_folder(out: Path, names: tuple[str, ...]) -> None:
    """Remove the files ``names`` of an earlier run, and what an interrupted one left half written."""
    for name in names:
        (out / name).unlink(missing_ok=True)
    for left in out.glob(".legnet-*"):
        shutil.rmtree(left, ignore_errors=True)
