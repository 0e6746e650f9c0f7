"""A user's own mmrotate config file, reduced to what training needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from legnet_cli.detectors.mmrotate.door import import_mm, quiet
from legnet_cli.detectors.weights.recipes import MEAN, STD
from legnet_cli.errors import ConfigError


@dataclass(frozen=True)
class TrainingConfig:
    """What a config says.

    Attributes:
        model: the model dict, its heads set to the number of classes.
        angle: convention of its boxes.
        pipeline: the training pipeline.
        optimizer: type and settings.
        schedule: epochs, schedule, steps, warm-up, clip and batch, under ``Plan``'s names.
    """

    model: dict[str, Any]
    angle: str
    pipeline: list[dict[str, Any]]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]


def read_mmrotate_config(path: Path, num_classes: int) -> TrainingConfig:
    """Read the config at ``path``; weights that it would fetch are not.

    Raises:
        ConfigError: it cannot be read, lacks a part, or asks for what cannot be done here.
    """
    import_mm()
    from mmcv import Config

    if not path.is_file():
        raise ConfigError(f"{path}: no such config file")
    try:
        with quiet():
            config: dict[str, Any] = Config.fromfile(str(path))._cfg_dict.to_dict()
    except Exception as error:  # it is Python, and may fail in any way
        raise ConfigError(f"{path}: cannot be read as a mmrotate config ({' '.join(str(error).split())})") from error
    if missing := [key for key in ("model", "optimizer") if key not in config]:
        raise ConfigError(f"{path}: has no {missing[0]}: give a whole mmrotate config")
    model = config["model"]
    _forget_pretrained(model)
    set_classes(model, num_classes)
    pipeline = _pipeline(config)
    _check_normalisation(pipeline, path)
    return TrainingConfig(model, _angle(config, model), pipeline, config["optimizer"], _schedule(config, path))


def set_classes(node: Any, num_classes: int) -> None:  # noqa: ANN401
    """Set every ``num_classes`` in nested dicts and lists."""
    if isinstance(node, dict):
        if "num_classes" in node:
            node["num_classes"] = num_classes
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            set_classes(child, num_classes)


def _forget_pretrained(model: dict[str, Any]) -> None:
    """Drop initialisation from the net: weights come by ``--weights``."""
    for part in (model, model.get("backbone", {})):
        part.pop("pretrained", None)
        if isinstance(part.get("init_cfg"), dict) and part["init_cfg"].get("type") == "Pretrained":
            part.pop("init_cfg")


def _pipeline(config: dict[str, Any]) -> list[dict[str, Any]]:
    data = config.get("data", {}).get("train", {})
    while "pipeline" not in data and isinstance(data.get("dataset"), dict):  # wrappers such as RepeatDataset
        data = data["dataset"]
    found: list[dict[str, Any]] = data.get("pipeline") or config.get("train_pipeline") or []
    return found


def _check_normalisation(pipeline: list[dict[str, Any]], path: Path) -> None:
    for step in pipeline:
        if step["type"] == "Normalize" and (list(step["mean"]), list(step["std"])) != (list(MEAN), list(STD)):
            raise ConfigError(f"{path}: normalises by other values than ImageNet's, which the weights need")


def _angle(config: dict[str, Any], model: dict[str, Any]) -> str:
    def search(node: Any) -> str | None:  # noqa: ANN401
        if isinstance(node, dict):
            if isinstance(node.get("angle_range"), str):
                return str(node["angle_range"])
            node = list(node.values())
        found = (search(child) for child in node) if isinstance(node, list) else iter(())
        return next((angle for angle in found if angle), None)

    return str(config.get("angle_version") or search(model) or "oc")


def _check_epochs(config: dict[str, Any], kind: str, path: Path) -> None:
    """Refuse a schedule that counts in iterations or falls otherwise than ours: it would train something else."""
    runner, policy = config.get("runner") or {}, config.get("lr_config") or {}
    iterations = "Iter" in str(runner.get("type")) or {"max_iters", "total_iters"} & {*runner, *config}
    faults = {
        "counts in iterations: give runner = dict(type='EpochBasedRunner', max_epochs=12), steps in epochs": iterations,
        "lr_config counts its steps in iterations: give them in epochs, without by_epoch=False": (
            kind == "step" and not policy.get("by_epoch", True)
        ),
        "lr_config warms up by epochs: give warmup_iters, without warmup_by_epoch": policy.get("warmup_by_epoch"),
        "lr_config: steps go down to a tenth here: leave out gamma": policy.get("gamma", 0.1) != 0.1,
        "lr_config: the rate goes down to 0 here: leave out min_lr": policy.get("min_lr") or policy.get("min_lr_ratio"),
    }
    for fault, found in faults.items():
        if found:
            raise ConfigError(f"{path}: {fault}")


def _schedule(config: dict[str, Any], path: Path) -> dict[str, Any]:
    policy = config.get("lr_config") or {}
    kinds = {"step": "step", "CosineAnnealing": "cosine", "cosine": "cosine"}
    kind = kinds.get(policy.get("policy", "step"))
    if kind is None or policy.get("warmup") not in (None, "linear"):
        raise ConfigError(
            f"{path}: lr_config {policy.get('policy')!r}: only step and CosineAnnealing, warmed up linearly"
        )
    _check_epochs(config, kind, path)
    epochs = (config.get("runner") or {}).get("max_epochs") or config.get("total_epochs") or 12
    steps = policy.get("step", ())
    clip = (config.get("optimizer_config") or {}).get("grad_clip") or {}
    return {
        "epochs": epochs,
        "schedule": kind,
        # for mmcv a single number is the distance of the steps
        "steps": tuple(steps) if isinstance(steps, (list, tuple)) else tuple(range(steps, epochs, steps)),
        "warmup": policy.get("warmup_iters", 0) if policy.get("warmup") else 0,
        "warmup_ratio": policy.get("warmup_ratio", 0.1),
        "clip": float(clip.get("max_norm", 1e9)),
        "batch": config.get("data", {}).get("samples_per_gpu", 2),
    }
