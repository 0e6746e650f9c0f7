"""Timed searches of tiles: latency, stages, memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.detectors.loader import Detector
from legnet_cli.engine.benchmark.timings import OTHER, Stopwatch
from legnet_cli.engine.process import forget_peak, peak_mb

FEWEST = 3  # timed searches
_WARM_SEARCHES, _WARM_SECONDS = 10, 2.0  # whichever comes first, but no fewer than two searches


@dataclass(frozen=True)
class Run:
    """Searches of one batch size at one precision.

    Attributes:
        latencies: milliseconds of each search of ``batch`` tiles, from pixels to boxes in the host's memory.
        stages: milliseconds a tile by stage, medians over the searches; empty if the network does not report them.
        boxes: found on a tile, on average.
        peak_ram_mb, peak_vram_mb: MiB in use at most; the first with weights and libraries, NaN where unknown.
    """

    precision: str
    batch: int
    latencies: tuple[float, ...]
    stages: dict[str, float]
    boxes: float
    peak_ram_mb: float
    peak_vram_mb: float | None

    def percentile(self, percent: float) -> float:
        """Milliseconds within which ``percent`` of the searches ended."""
        return float(np.percentile(self.latencies, percent))

    @property
    def fps(self) -> float:
        """Tiles a second, of the median latency."""
        return 1e3 * self.batch / self.percentile(50)

    @property
    def fps_network(self) -> float | None:
        """Tiles a second without post-processing: decoding and NMS of the final boxes."""
        if "nms" not in self.stages:
            return None
        return 1e3 / (self.percentile(50) / self.batch - self.stages["nms"])


def time_searches(
    detector: Detector, tiles: Sequence[NDArray[np.uint8]], batch: int, *, repeat: int | None, seconds: float
) -> Run:
    """Time searches of ``batch`` tiles each: ``repeat`` of them, or as many as ``seconds`` allow, after a warm-up."""
    stacks = [np.stack([tiles[(i + j) % len(tiles)] for j in range(batch)]) for i in range(0, len(tiles), batch)]
    forget_peak()
    if detector.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(detector.device)
    _warm_up(detector, stacks[0])
    watch = Stopwatch(detector.device)
    laps: list[dict[str, float]] = []
    boxes: list[int] = []
    end = time.perf_counter() + seconds

    def wanted() -> bool:
        return len(laps) < repeat if repeat else len(laps) < FEWEST or time.perf_counter() < end

    with detector.network.observed(watch.stage) if detector.network else nullcontext():
        while wanted():
            with watch.stage(OTHER):
                found = detector.detect(stacks[len(laps) % len(stacks)])
            laps.append(watch.read())
            boxes += [len(one) for one in found]
    names = sorted({name: None for lap in laps for name in lap}, key=lambda name: name == OTHER)
    stages = {name: float(np.median([lap.get(name, 0.0) for lap in laps])) / batch for name in names}
    return Run(
        detector.precision,
        batch,
        tuple(sum(lap.values()) for lap in laps),
        stages if len(stages) > 1 else {},
        float(np.mean(boxes)),
        peak_mb(),
        torch.cuda.max_memory_allocated(detector.device) / 2**20 if detector.device.type == "cuda" else None,
    )


def _warm_up(detector: Detector, images: NDArray[np.uint8]) -> None:
    start, done = time.perf_counter(), 0
    while done < 2 or (done < _WARM_SEARCHES and time.perf_counter() - start < _WARM_SECONDS):
        detector.detect(images)
        done += 1
