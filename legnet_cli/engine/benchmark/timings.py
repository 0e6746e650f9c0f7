"""Observers of stages (see ``legnet_cli.detectors.stages``) that measure how long each takes."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch

OTHER = "other"


class Stopwatch:
    """Milliseconds of nested stages, each without those inside it, for one thread.

    On CUDA it reads events of the current stream, which cost no synchronisation until :meth:`read`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._open: list[str] = []
        self._marks: list[tuple[Any, str | None]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the ``with`` body; the stage around it, if any, stands still."""
        self._open.append(name)
        self._mark()
        try:
            yield
        finally:
            self._open.pop()
            self._mark()

    def read(self) -> dict[str, float]:
        """Milliseconds of each stage since the last reading."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        laps: dict[str, float] = defaultdict(float)
        for (before, stage), (after, _) in pairwise(self._marks):
            if stage is not None:
                laps[stage] += before.elapsed_time(after) if self._device.type == "cuda" else (after - before) * 1e3
        self._marks.clear()
        return dict(laps)

    def _mark(self) -> None:
        now: Any
        if self._device.type == "cuda":
            now = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            now.record(torch.cuda.current_stream(self._device))
        else:
            if self._device.type == "mps":
                torch.mps.synchronize()
            now = time.perf_counter()
        self._marks.append((now, self._open[-1] if self._open else None))


class Tally:
    """Seconds by stage, from any threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the ``with`` body."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[name] += time.perf_counter() - start
