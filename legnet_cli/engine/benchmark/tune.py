"""Kernels and engine of a detector chosen at leisure, beside what the CPU could do at best."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.detectors.engines import ONNXRUNTIME, OPENVINO, TORCH
from legnet_cli.detectors.fast.kernels import DIRECT
from legnet_cli.detectors.fast.tune import THOROUGH, TunedLayer
from legnet_cli.detectors.fast.winograd import saving
from legnet_cli.detectors.loader import Detector
from legnet_cli.detectors.measured import note_measured
from legnet_cli.detectors.race import Race, race
from legnet_cli.detectors.tuning import can_tune, settle_kernels, tune_detector
from legnet_cli.engine.benchmark.roofline import measure_peaks
from legnet_cli.errors import ConfigError

TUNED = "tuned"
SEARCHES = 5  # of each way
_ENGINES = (ONNXRUNTIME, OPENVINO)


@dataclass(frozen=True)
class Tuning:
    """What was measured and chosen.

    Attributes:
        layers: that have several kernels.
        gflops: of the fastest float32 product of matrices.
        searches: milliseconds of a whole search in PyTorch with the ``direct`` kernels and the ``tuned`` ones, and by
            other engines.
        processes: milliseconds of as many searches as there are threads, by one process and by one a thread; None for
            a single thread.
    """

    layers: tuple[TunedLayer, ...]
    gflops: float
    searches: Race
    processes: Race | None = None

    def share(self, layer: TunedLayer) -> float:
        """Of the product's speed that a layer's operations by its definition are done at; Winograd's may exceed 1."""
        return layer.flops / self.gflops / 1e6 / layer.race.ms[layer.race.winner]

    def floor_ms(self, layer: TunedLayer) -> float:
        """Milliseconds of the fewest multiplications that there is a kernel for, at the product's speed."""
        size = layer.weight[2] if len(layer.weight) == 4 else 1
        return layer.flops / saving(size) / self.gflops / 1e6


def installed_engines() -> list[str]:
    """Engines besides PyTorch that can run exported weights here."""
    there = {name for name in ("onnx", *_ENGINES) if importlib.util.find_spec(name)}
    return [name for name in _ENGINES if {"onnx", ONNXRUNTIME, name} <= there]


def check_tuning(detector: Detector) -> None:
    """Refuse a detector without kernels to choose from.

    Raises:
        ConfigError: naming what has some.
    """
    if not can_tune(detector):
        raise ConfigError("--tune is for Oriented R-CNN on a CPU, in fp32 and by PyTorch: leave it out")


def measure_tuning(
    detector: Detector, others: Mapping[str, Detector], tile: NDArray[np.uint8], on_step: Callable[[str], None]
) -> Tuning:
    """Choose kernels for tiles like ``tile`` (h, h, 3), then the fastest of ``others`` by engine; keep and use both.

    ``others`` has the detector with direct kernels too, as ``direct``.
    """
    side = tile.shape[0]
    on_step("kernels of each wide layer")
    layers = tune_detector(detector, side, THOROUGH)
    on_step("searches by " + ", ".join((TUNED, *others)))
    ways = {name: partial(one.detect, tile[None]) for name, one in {TUNED: detector, **others}.items()}
    searches = race(ways, TUNED, SEARCHES, all_rounds=True)
    found = {"engine": searches.winner if searches.winner in _ENGINES else TORCH}
    if searches.winner == DIRECT:  # what each layer gains is lost between them
        found["kernels"] = DIRECT
        settle_kernels(detector, DIRECT, side, 0, torch.get_num_threads())
    note_measured(detector.key, side, torch.get_num_threads(), found)
    gflops = measure_peaks(detector.device, {torch.float32}).gflops["float32"]
    return Tuning(tuple(layers), gflops, searches)
