"""Settings of ``legnet benchmark``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from legnet_cli.detectors.weights.fetch import EMBEDDED
from legnet_cli.engine import options
from legnet_cli.engine.options import Engine, Precision
from legnet_cli.errors import ConfigError
from legnet_cli.settings import Settings, documented, option

SMALLEST, LARGEST = 64, 16384  # pixels of a tile's side


def read_share(text: str) -> float:
    """The number that a percentage like ``10%`` stands for.

    Raises:
        ConfigError: for anything else.
    """
    try:
        return float(text.removesuffix("%")) / 100
    except ValueError:
        raise ConfigError(f"--fail-if-slower {text!r} is not a percentage: write it like 10%") from None


@documented
@dataclass(frozen=True)
class BenchmarkConfig(Settings):
    """What to time, on what, for how long, and what to measure besides."""

    weights: str | None = options.weights(None, unset=EMBEDDED)
    recipe: str | None = option(None, "Random weights of this recipe, see legnet models.", complete="recipes")
    tune: bool = option(False, "Choose kernels and engine for this CPU by measuring; kept for all later searches.")
    train: bool = option(False, "Time training steps of --recipe on synthetic tiles, and nothing else.")
    fps: bool = option(False, "Only measure tiles per second, as papers report it.")
    images: tuple[str, ...] = option((), "Rasters, folders or globs to cut tiles from.", unset="a synthetic tile")
    tile: int = option(1024, "Tile side in pixels.", least=SMALLEST, most=LARGEST)
    batches: tuple[int, ...] = option((1,), "Batch sizes: 1,4.", "--batch", least=1)
    precisions: tuple[Precision, ...] = option(("auto",), "Numerical precisions: fp32,bf16.", "--precision")
    device: str = options.device()
    engine: Engine = options.engine()
    kernels: str = options.kernels()
    repeat: int | None = option(None, "Number of timed searches of each.", unset="by --seconds", least=1)
    seconds: float = option(10.0, "Seconds for each precision and batch size.")
    baseline: bool = option(False, "Time the same weights through mmrotate, alternately.")
    scene: str | None = option(None, "Raster to search from end to end.", unset="a small synthetic one")
    json_file: Path | None = option(None, "Write the report to this .json file.")
    plot: Path | None = option(None, "Draw the report as this .png file.")
    compare: Path | None = option(None, "JSON file of an earlier benchmark.")
    fail_if_slower: float | None = option(
        None, "End with code 5 if a median latency grew by more, like 10%.", unset="never", parse=read_share
    )
    overwrite: bool = options.overwrite()

    def faults(self) -> list[tuple[object, str]]:
        """See :class:`Settings`."""
        limit = self.fail_if_slower
        return [
            (self.weights and self.recipe, "--weights and --recipe exclude each other: give one"),
            (not 0 < self.seconds < math.inf, f"--seconds {self.seconds} is out of range: must be positive"),
            (limit is not None and not 0 <= limit < math.inf, "--fail-if-slower must be 0 % or more, like 10%"),
            (limit is not None and self.compare is None, "--fail-if-slower needs --compare OLD.json"),
            (
                self.baseline and self.engine in ("onnxruntime", "openvino"),
                f"--baseline times PyTorch networks: leave out --engine {self.engine}",
            ),
            (
                self.train and any((self.weights, self.images, self.tune, self.baseline, self.scene, self.compare)),
                "--train times a --recipe on synthetic tiles: leave out the options of searches",
            ),
            (self.tune and self.kernels != "auto", "--tune chooses kernels: leave out --kernels"),
            (self.tune and self.engine not in ("auto", "torch"), "--tune chooses the engine: leave out --engine"),
            (
                self.fps and (self.baseline or self.scene or self.plot),
                "--fps prints only the speed: leave out --baseline, --scene and --plot",
            ),
        ]
