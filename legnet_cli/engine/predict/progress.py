"""How far a search has come: told to the caller, and now and then to its job folder, for whoever asks there."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType

from legnet_cli.engine.predict.job import Job
from legnet_cli.engine.predict.plan import SceneFailure, ScenePlan, shares
from legnet_cli.engine.predict.search import Done
from legnet_cli.errors import DataError

BEAT = 10.0  # seconds between notes in the job folder


@dataclass(frozen=True)
class SearchProgress:
    """State of a search.

    Attributes:
        scene: the one looked at last.
        tiles_done, tiles_total: of this process; those found by an earlier run count as done.
        km2_done: ground that the tiles done cover.
        scenes_done, scenes_total: number.
        boxes: found so far, before tiles are merged.
        failures: scenes that could not be searched.
        workers: that are alive.
        tiles_before, km2_before: of those done, what an earlier run did.
        seconds: since this run began to search.
    """

    scene: str
    tiles_done: int
    tiles_total: int
    km2_done: float
    scenes_done: int = 0
    scenes_total: int = 1
    boxes: int = 0
    failures: int = 0
    workers: int = 1
    tiles_before: int = 0
    km2_before: float = 0.0
    seconds: float = 0.0

    @property
    def km2_per_second(self) -> float:
        """Ground searched a second in this run."""
        return (self.km2_done - self.km2_before) / max(self.seconds, 1e-9)


class Tally:
    """How far a search has come, and what of it failed.

    Args:
        plans: the scenes.
        shard: the part of them that is searched here.
        failures: scenes that could not be opened.
    """

    def __init__(
        self, plans: Sequence[ScenePlan], shard: tuple[int, int] | None, failures: Sequence[SceneFailure]
    ) -> None:
        self._left: Counter[str] = Counter()
        for plan, block in shares(plans, shard):
            self._left[plan.key] += plan.size(block)
        self._total, self._scenes = self._left.total(), len(plans) + len(failures)
        self._finished = sum(self._left[plan.key] == 0 for plan in plans)
        self._tiles, self._km2, self._boxes, self._name, self._ticks = 0, 0.0, 0, "", 0
        self._before = 0, 0.0
        self._start = time.monotonic()
        self.failures = list(failures)
        self.workers = 1

    def tick(self, tiles: int) -> SearchProgress:
        """Tiles of a block that goes on."""
        self._ticks += tiles
        return self.state()

    def add(self, done: Done) -> SearchProgress:
        """A block that has ended."""
        plan, self._ticks, self._name = done.plan, 0, done.plan.name
        if done.error:
            self.failures.append(SceneFailure(plan.scene.path, plan.name, done.error))
            self._total -= self._left.pop(plan.key, 0)
            return self.state()
        km2 = (plan.km2 or 0.0) * done.tiles / max(len(plan.tiles), 1)
        self._tiles, self._boxes, self._km2 = self._tiles + done.tiles, self._boxes + done.boxes, self._km2 + km2
        if done.known:
            self._before = self._before[0] + done.tiles, self._before[1] + km2
        if plan.key in self._left:
            self._left[plan.key] -= done.tiles
            self._finished += self._left[plan.key] == 0
        return self.state()

    def state(self) -> SearchProgress:
        """What there is to say."""
        scenes = self._finished, self._scenes, self._boxes, len(self.failures), self.workers
        tiles, seconds = self._tiles + self._ticks, time.monotonic() - self._start
        return SearchProgress(self._name, tiles, self._total, self._km2, *scenes, *self._before, seconds)


class Heartbeat:
    """Notes in the job folder how far a search has come, while the body of ``with`` runs."""

    def __init__(self, job: Job, tally: Tally) -> None:
        self._job, self._tally, self._stage = job, tally, "searching"
        self._ended, self._writing = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="legnet-heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._note()
        self._thread.start()
        return self

    def enter(self, stage: str) -> None:
        """Note that another stage of the work begins."""
        self._stage = stage
        self._note()

    def stop(self) -> None:
        """Note no more: the folder may be removed."""
        self._ended.set()
        self._thread.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended.is_set():
            self.stop()
            self.enter("stopped" if kind else "done")

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            self._note()

    def _note(self) -> None:
        with suppress(DataError), self._writing:  # a full disk is told of by what matters
            failures = [(failure.name, failure.reason) for failure in self._tally.failures]
            self._job.note_progress(self._stage, asdict(self._tally.state()), failures)
