"""What a training loop reports: its steps, their pace and cost, how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field

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


@dataclass
class Pace:
    """Time and images of the last steps."""

    images: int
    spans: list[tuple[float, float]] = field(default_factory=list)  # seconds, and of these waiting

    def add(self, seconds: float, waiting: float) -> None:
        """Note a step."""
        self.spans = [*self.spans[-49:], (seconds, waiting)]

    def rates(self) -> tuple[float, float, float]:
        """Images a second, share of waiting, seconds a step."""
        total, waiting = (sum(part) for part in zip(*self.spans, strict=True))
        return self.images * len(self.spans) / max(total, 1e-9), waiting / max(total, 1e-9), total / len(self.spans)
