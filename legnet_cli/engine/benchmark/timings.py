"""Time spent in parts of a program, by functions put in place of its own while it is measured and only then."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch

Call = tuple[Any, str]
"""A function or method: the module, class or object it is found on, and its name there."""

OTHER = "other"
_ABSENT = object()


class Stopwatch:
    """Milliseconds of nested stages, each without those inside it, for one thread.

    On CUDA it reads events of the current stream, which cost no synchronisation until :meth:`read`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._open: list[str] = []
        self._marks: list[tuple[Any, str | None]] = []

    def start(self, stage: str) -> None:
        """Enter ``stage``; the one around it, if any, stands still."""
        self._open.append(stage)
        self._mark()

    def stop(self) -> None:
        """Leave the stage entered last."""
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
    """Seconds and number of calls by stage, from any threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Count a call."""
        with self._lock:
            self.seconds[stage] += seconds
            self.calls[stage] += 1


@contextmanager
def watched(calls: Mapping[str, Sequence[Call]], watch: Stopwatch) -> Iterator[None]:
    """Let ``watch`` follow ``calls``, given by stage, inside the ``with`` body."""

    def wrap(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            watch.start(stage)
            try:
                return function(*args, **kwargs)
            finally:
                watch.stop()

        return timed

    with wrapped(calls, wrap):
        yield


@contextmanager
def tallied(calls: Mapping[str, Sequence[Call]], tally: Tally) -> Iterator[None]:
    """Let ``tally`` count ``calls``, given by stage, inside the ``with`` body."""

    def wrap(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                tally.add(stage, time.perf_counter() - start)

        return timed

    with wrapped(calls, wrap):
        yield


@contextmanager
def wrapped(
    calls: Mapping[str, Sequence[Call]], wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Put ``wrap(stage, function)`` in the place of each function of ``calls`` inside the ``with`` body."""
    before: list[tuple[Any, str, Any]] = []
    try:
        for stage, (owner, name) in ((stage, call) for stage, group in calls.items() for call in group):
            before.append((owner, name, vars(owner).get(name, _ABSENT)))
            setattr(owner, name, wrap(stage, getattr(owner, name)))
        yield
    finally:
        for owner, name, value in reversed(before):
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
