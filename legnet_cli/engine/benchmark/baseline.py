"""The same weights through mmrotate's own test path, alternately with this project's, in one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.boxes import Detections
from legnet_cli.detectors.devices import PRECISIONS, choose_precision
from legnet_cli.detectors.loader import Detector
from legnet_cli.detectors.networks import network_config
from legnet_cli.detectors.weights.checkpoint import Checkpoint
from legnet_cli.engine.benchmark.timings import OTHER, Stopwatch
from legnet_cli.ops import mmcv_ext


@dataclass(frozen=True)
class Baseline:
    """Pairs of searches of one tile: mmrotate's, then ours.

    Attributes:
        theirs, ours: milliseconds of each search.
        operators: whose rotated-box operators mmrotate's code called: ``torch``, this project's, or ``mmcv``, compiled.
        boxes: found by theirs and by ours.
    """

    theirs: tuple[float, ...]
    ours: tuple[float, ...]
    operators: str
    boxes: tuple[int, int]

    @property
    def speedup(self) -> float:
        """Median over the pairs of how many times faster ours is."""
        return self.quantile(0.5)

    def quantile(self, share: float) -> float:
        """Speed-up that ``share`` of the pairs stay below."""
        return float(np.quantile(np.array(self.theirs) / np.array(self.ours), share))


def time_baseline(checkpoint: Checkpoint, detector: Detector, tile: NDArray[np.uint8], pairs: int) -> Baseline:
    """Search ``tile`` (h, w, 3) alternately through mmrotate and ``detector``, both warm, at the same precision."""
    from legnet_cli.detectors.mmrotate.build import MMRotateDetector

    device = detector.device
    dtype = PRECISIONS[choose_precision(detector.precision, device)]
    stock = MMRotateDetector(network_config(checkpoint.card), checkpoint.state, device=device, dtype=dtype)
    pixels = torch.from_numpy(tile[None])
    ways: tuple[Callable[[], list[Detections]], ...]
    ways = (lambda: stock.detect(pixels.to(device)), lambda: detector.detect(tile[None]))
    watch = Stopwatch(device)
    times: tuple[list[float], list[float]] = ([], [])
    boxes = [0, 0]
    for turn in range(pairs + 1):
        for which, search in enumerate(ways):
            with watch.stage(OTHER):
                found = search()
            ms = watch.read()[OTHER]
            boxes[which] = len(found[0])
            if turn > 0:  # the first one warms up
                times[which].append(ms)
    return Baseline(tuple(times[0]), tuple(times[1]), mmcv_ext.backend(), (boxes[0], boxes[1]))
