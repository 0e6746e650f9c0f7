"""Time training steps of a recipe on synthetic tiles, through the whole of ``legnet train``."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from legnet_cli import __version__
from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.detectors.devices import choose_device
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.engine.benchmark.config import BenchmarkConfig
from legnet_cli.engine.benchmark.machine import Machine, detect_machine
from legnet_cli.engine.sample_tiles import synthetic_objects
from legnet_cli.engine.train import Step, TrainConfig, train
from legnet_cli.files import atomic_path, check_output

RECIPE = "oriented-rcnn/legnet-nano"  # unless another is asked for
STEPS = 10  # timed ones, unless --repeat says otherwise
_SKIPPED = 3  # first steps, in which buffers and processes that read images are made


@dataclass(frozen=True)
class TrainingSpeed:
    """Training steps of ``batch`` synthetic tiles each.

    Attributes:
        seconds: of each step.
        waiting: share of the time spent waiting for data.
        memory_mb: most memory, of the device or on a CPU of the process.
    """

    recipe: str
    batch: int
    size: int
    machine: Machine
    seconds: tuple[float, ...]
    waiting: float
    memory_mb: float

    @property
    def images_per_second(self) -> float:
        """Of the median step."""
        return self.batch / median(self.seconds)


def time_training(config: BenchmarkConfig, on_step: Callable[[str], None] = lambda text: None) -> TrainingSpeed:
    """Time steps of ``config.recipe`` from random weights, and write the JSON that is asked for.

    Raises:
        ConfigError: as of ``train``.
        DependencyError: mmrotate or the device is absent.
    """
    if config.json_file is not None:
        check_output(config.json_file, overwrite=config.overwrite, suffixes=(".json",))
    recipe, batch = config.recipe or RECIPE, config.batches[0]
    rows: list[Step] = []
    times = [time.perf_counter()]

    def note(step: Step) -> None:
        rows.append(step)
        times.append(time.perf_counter())

    count = _SKIPPED + (config.repeat or STEPS)
    on_step(f"{count} steps of {recipe}, the first {_SKIPPED} uncounted")
    with tempfile.TemporaryDirectory() as folder:
        _write_tiles(Path(folder, "tiles"), count * batch, config.tile, get_recipe(recipe).dataset.classes)
        settings = {"recipe": recipe, "weights": "none", "epochs": 1, "batch": batch, "device": config.device}
        train(TrainConfig(data=Path(folder, "tiles"), out=Path(folder, "run"), **settings), note)  # type: ignore[arg-type]
    seconds = np.diff(times)[_SKIPPED:]
    waiting = float(np.dot([step.waiting for step in rows[_SKIPPED:]], seconds) / seconds.sum())
    memory, machine = max(step.memory_mb for step in rows), detect_machine(choose_device(config.device))
    found = TrainingSpeed(recipe, batch, config.tile, machine, tuple(seconds.tolist()), waiting, memory)
    if config.json_file is not None:
        with atomic_path(config.json_file) as scratch:
            scratch.write_text(json.dumps(training_dict(found), indent=2) + "\n", encoding="utf-8")
    return found


def training_dict(speed: TrainingSpeed) -> dict[str, Any]:
    """The report as JSON values."""
    return {"legnet": __version__, "images_per_second": speed.images_per_second, **asdict(speed)}


def _write_tiles(root: Path, count: int, side: int, classes: tuple[str, ...]) -> None:
    """Synthetic tiles with their objects, in DOTA's layout."""
    for name in ("images", "labelTxt"):
        (root / "train" / name).mkdir(parents=True)
    for seed in range(count):
        image, boxes = synthetic_objects(side, side, seed)
        cv2.imwrite(str(root / "train" / "images" / f"{seed}.png"), image[..., ::-1])
        rows = [
            " ".join(f"{value:.1f}" for value in quad.ravel()) + f" {classes[number % len(classes)]} 0\n"
            for number, quad in enumerate(boxes_to_polygons(boxes))
        ]
        (root / "train" / "labelTxt" / f"{seed}.txt").write_text("".join(rows))
