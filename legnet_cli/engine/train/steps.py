"""What a training loop reports: its steps, their pace and cost, how it ended."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from legnet_cli.engine.train.batches import Batch
from legnet_cli.engine.train.validation import Score


@dataclass(frozen=True)
class Step:
    """The state after an optimisation step.

    Attributes:
        step, steps: number of steps done and in all.
        epoch, epochs: the epoch it belongs to, from 1, and how many there are.
        losses: terms of the loss, their sum as ``loss``.
        lr: learning rate of the step.
        images_per_second: over the last steps, of all processes together.
        waiting: share of that time spent waiting for data.
        memory_mb: peak memory of the device, or of the process on a CPU.
        seconds_left: for the rest of training, without evaluation.
        score: of the epoch that just ended, None at other steps and without validation images.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    losses: dict[str, float]
    lr: float
    images_per_second: float
    waiting: float
    memory_mb: float
    seconds_left: float
    score: Score | None = None


@dataclass(frozen=True)
class StepCost:
    """What an optimisation step takes: seconds, peak memory in MB, images, and steps of an epoch."""

    seconds: float
    memory_mb: float
    images: int
    steps_per_epoch: int


@dataclass(frozen=True)
class Ended:
    """How a run ended; see ``TrainResult``."""

    epochs: int
    step: int
    stopped: str
    best: tuple[float, int] | None
    before: float | None


class Pace:
    """Time and images of the last steps; ``images`` are those of a step."""

    def __init__(self, images: int) -> None:
        self.images = images
        self._spans: list[tuple[float, float]] = []  # seconds of a step, and of these waiting
        self._waited = 0.0

    def waits(self, batches: Iterator[Batch]) -> Generator[Batch, None, None]:
        """``batches``, with the time that they are waited for noted; closing this lets go of them."""
        while True:
            begin = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._waited += time.perf_counter() - begin
            yield batch

    def add(self, seconds: float) -> None:
        """Note a step."""
        self._spans = [*self._spans[-49:], (seconds, self._waited)]
        self._waited = 0.0

    def rates(self) -> tuple[float, float, float]:
        """Images a second, share of waiting, seconds a step; zeros before the first step."""
        if not self._spans:
            return 0.0, 0.0, 0.0
        total, waiting = (sum(part) for part in zip(*self._spans, strict=True))
        return self.images * len(self._spans) / max(total, 1e-9), waiting / max(total, 1e-9), total / len(self._spans)
