from contextlib import nullcontext
from itertools import count
from types import SimpleNamespace

import numpy as np
from blobs import BlobDetector

from legnet_cli.detectors.mmrotate import build
from legnet_cli.engine.benchmark import Baseline, baseline
from legnet_cli.engine.benchmark.baseline import time_baseline
from legnet_cli.engine.benchmark.timings import OTHER


def test_searches_alternate_and_the_first_of_each_is_a_warm_up(monkeypatch):
    class Stock:
        def __init__(self, *_, **__):
            pass

        def detect(self, images):
            return [[None] * 7]

    class Watch:
        """Each search takes longer than the one before by a millisecond."""

        def __init__(self, device):
            self.times = count(1.0)

        def stage(self, name):
            return nullcontext()

        def read(self):
            return {OTHER: next(self.times)}

    detector = BlobDetector()
    checkpoint = SimpleNamespace(card=detector.card, state={})
    monkeypatch.setattr(build, "MMRotateDetector", Stock)
    monkeypatch.setattr(baseline, "Stopwatch", Watch)
    found = time_baseline(checkpoint, detector, np.zeros((64, 64, 3), np.uint8), 2)
    assert (found.theirs, found.ours) == ((3.0, 5.0), (4.0, 6.0))
    assert found.boxes[0] == 7
    assert found.operators in ("torch", "mmcv")


def test_speedup_is_the_median_over_pairs():
    timed = Baseline((20.0, 40.0, 90.0), (10.0, 10.0, 10.0), "torch", (1, 1))
    assert timed.speedup == 4
    assert (timed.quantile(0), timed.quantile(1)) == (2, 9)
