"""What a training run will do, resolved from a recipe or a mmrotate config, the flags and the overrides."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from legnet_cli.detectors.mmrotate.augment import geometric, stock_transforms
from legnet_cli.detectors.mmrotate.configs import read_mmrotate_config
from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.errors import ConfigError
from legnet_cli.untrusted import parse_yaml

_NUMBER = (int, float)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("recipe", "angle", "schedule"), (str,)),
    **dict.fromkeys(("epochs", "warmup", "batch", "accumulate", "tile", "overlap"), (int,)),
    **dict.fromkeys(("warmup_ratio", "clip", "ema"), _NUMBER),
    **{"classes": (tuple,), "steps": (tuple,), "transforms": (list,), "own_model": (bool,)},
    **{"model": (dict,), "optimizer": (dict,)},
}


def _is_of(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether ``value`` is of one of ``kinds``; a truth value is not a number."""
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


@dataclass(frozen=True)
class TrainPlan:
    """A resolved recipe; every field can be overridden by ``key=value``, nested ones by ``model.key=value``.

    Attributes:
        recipe: its name, or that of the config file.
        angle: convention of boxes inside the detector.
        classes: names of the classes.
        model: mmrotate's model dict.
        own_model: whether ``model`` finds other boxes than the recipe's, and goes into the model card.
        transforms: mmrotate's training transforms.
        optimizer: a class of ``torch.optim`` as ``type``, and its settings; ``lr`` is the peak rate.
        epochs: length of training.
        schedule: ``step``: ten times less after each of ``steps`` epochs; ``cosine``: down to 0 at the end.
        warmup, warmup_ratio: steps of a linear rise of the rate, and where it starts.
        clip: largest norm of the gradient.
        ema: decay of the running average of the weights that is kept as the model; 0 for none.
        batch: images per device and pass.
        accumulate: passes per step.
        tile, overlap: pixels; how images are searched for evaluation.
    """

    recipe: str
    angle: str
    classes: tuple[str, ...]
    model: dict[str, Any]
    own_model: bool
    transforms: list[dict[str, Any]]
    optimizer: dict[str, Any]
    epochs: int
    schedule: str = "step"
    steps: tuple[int, ...] = ()
    warmup: int = 500
    warmup_ratio: float = 1 / 3
    clip: float = 35.0
    ema: float = 0.0
    batch: int = 2
    accumulate: int = 1
    tile: int = 1024
    overlap: int = 200

    def __post_init__(self) -> None:
        if wrong := [name for name, kinds in _KINDS.items() if not _is_of(getattr(self, name), kinds)]:
            value = getattr(self, wrong[0])
            raise ConfigError(f"{wrong[0]}: {value!r:.60} has the wrong type: --dry-run shows an example")
        if not all(isinstance(name, str) for name in self.classes) or not all(_is_of(n, (int,)) for n in self.steps):
            raise ConfigError("classes must be names, and steps whole numbers: --dry-run shows those of the recipe")
        if not all(isinstance(node, dict) and isinstance(node.get("type"), str) for node in self._made_by_name()):
            raise ConfigError("optimizer and transforms: each needs a type, which is a name: see --dry-run")
        faults = [
            (not 1 <= self.epochs <= 1_000_000, f"epochs {self.epochs:.3g}: give 1 to a million"),
            (not 0 <= self.overlap < self.tile, f"tile {self.tile}, overlap {self.overlap}: give a smaller overlap"),
            (self.angle not in ("le90", "oc", "le135"), f"angle {self.angle!r}: choose le90, oc or le135"),
            (self.batch < 1 or self.accumulate < 1, "batch and accumulate: give 1 or more"),
            (self.schedule not in ("step", "cosine"), f"schedule {self.schedule!r}: choose step or cosine"),
            (not 0 <= self.ema < 1, f"ema {self.ema}: give a decay of 0 to less than 1"),
            (not self.clip > 0, f"clip {self.clip}: give a norm above 0"),
            (self.warmup < 0 or not 0 <= self.warmup_ratio <= 1, "warmup: give 0 or more, its ratio 0 to 1"),
            (
                not _is_of(self.optimizer.get("lr"), (int, float)) or not 0 < self.optimizer["lr"] < math.inf,
                f"lr {self.optimizer.get('lr')}: give a rate above 0",
            ),
        ]
        if problems := [message for wrong, message in faults if wrong]:
            raise ConfigError("; ".join(problems))

    def _made_by_name(self) -> list[Any]:
        """What is made of a class by the name ``type``; of the model, mmrotate checks that."""
        return [self.optimizer, *self.transforms]

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of optimisation step number ``step``, from 0, as a share of the peak."""
        if self.schedule == "cosine":
            share = (1 + math.cos(math.pi * step / (self.epochs * steps_per_epoch))) / 2
        else:
            share = 0.1 ** sum(step // steps_per_epoch >= epoch for epoch in self.steps)
        if step < self.warmup:
            share *= 1 - (1 - step / self.warmup) * (1 - self.warmup_ratio)
        return float(share)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in ``config.yaml``."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @staticmethod
    def from_dict(values: dict[str, Any]) -> TrainPlan:
        """The plan that :meth:`to_dict` gave."""
        known = {field.name for field in fields(TrainPlan)}
        tuples = {key: tuple(values[key]) for key in ("classes", "steps")}
        return TrainPlan(**{key: value for key, value in values.items() if key in known} | tuples)


def recipe_plan(name: str, classes: Sequence[str], devices: int) -> TrainPlan:
    """The published recipe ``name`` for ``classes``, its batch shared by ``devices`` devices.

    Raises:
        ConfigError: there is no such recipe.
    """
    recipe = get_recipe(name)
    return TrainPlan(
        recipe=recipe.name,
        angle=recipe.angle,
        classes=tuple(classes),
        model=_plain(model_config(recipe, len(classes))),
        own_model=False,
        transforms=stock_transforms(recipe.angle, classes),
        optimizer={"type": "AdamW", "lr": recipe.lr, "betas": [0.9, 0.999], "weight_decay": 0.05},
        epochs=recipe.epochs,
        schedule=recipe.schedule,
        steps=recipe.steps,
        ema=recipe.ema,
        batch=max(1, min(4, recipe.batch // devices)),
        tile=recipe.dataset.tile,
        overlap=recipe.dataset.overlap,
    )


def config_plan(path: Path, classes: Sequence[str]) -> TrainPlan:
    """A user's own mmrotate ``.py`` config: model, transforms, optimizer, schedule and batch of it.

    Raises:
        ConfigError: it cannot be read, or asks for what this trainer does not do.
    """
    found = read_mmrotate_config(path, len(classes))
    return TrainPlan(
        recipe=path.stem,
        angle=found.angle,
        classes=tuple(classes),
        model=_plain(found.model),
        own_model=True,
        transforms=_plain(geometric(found.pipeline)),
        optimizer=_plain(found.optimizer),
        **found.schedule,
    )


def override(plan: TrainPlan, assignments: Sequence[str]) -> TrainPlan:
    """``plan`` with ``key=value`` assignments; values are YAML, keys may be dotted paths into dicts and lists.

    Raises:
        ConfigError: an assignment without ``=``, with an unknown key or a value that makes no sense.
    """
    values = plan.to_dict()
    for text in assignments:
        key, equals, raw = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: write key=value, such as --set optimizer.weight_decay=0.01")
        try:
            value = parse_yaml(raw)
        except (yaml.YAMLError, ValueError):
            raise ConfigError(f"--set {text:.200}: the value is not YAML: quote it") from None
        _assign(values, key.strip().split("."), value, text)
        values["own_model"] |= key.startswith("model.") and not key.startswith("model.train_cfg.")
    try:
        return TrainPlan.from_dict(values)
    except (TypeError, ConfigError) as error:
        raise ConfigError(f"--set {' --set '.join(assignments)}: {error}") from None


def _assign(node: Any, path: list[str], value: Any, text: str) -> None:  # noqa: ANN401
    for depth, key in enumerate(path):
        index: Any = int(key) if isinstance(node, list) and key.isdecimal() and len(key) < 10 else key
        known = range(len(node)) if isinstance(node, list) else node if isinstance(node, dict) else ()
        # mm* modules take arguments that their configs do not spell out
        optional = path[0] in ("model", "optimizer") and depth == len(path) - 1 > 0 and isinstance(node, dict)
        if index not in known and not optional:
            near = difflib.get_close_matches(key, [str(name) for name in known], 1, 0.5)
            names = f"did you mean {near[0]}?" if near else f"known are {', '.join(map(str, known)) or 'none'}"
            raise ConfigError(f"--set {text}: there is no {'.'.join(path[: depth + 1])}: {names}")
        if depth < len(path) - 1:
            node = node[index]
        else:
            if isinstance(value, str) and isinstance(node.get(index) if isinstance(node, dict) else None, float):
                try:
                    value = float(value)  # YAML takes 1e-4 for a word
                except ValueError:
                    raise ConfigError(f"--set {text:.200}: {value!r:.60} is not a number") from None
            node[index] = value


def scaled(plan: TrainPlan, name: str, devices: int) -> TrainPlan:
    """The plan of recipe ``name`` with its learning rate scaled to the global batch of ``devices`` devices."""
    factor = plan.batch * plan.accumulate * devices / get_recipe(name).batch
    return replace(plan, optimizer={**plan.optimizer, "lr": plan.optimizer["lr"] * factor})


def _plain(value: Any) -> Any:  # noqa: ANN401
    """``value`` with mmcv's dicts and tuples as dicts and lists, which YAML and JSON keep."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
