"""Workers on a Ray cluster: actors that hold the weights, one for each GPU or share of a CPU.

Actors come as nodes join and are restarted when they die; what a lost one searched is given to another. Scenes and
weights must be where every node can read them, for blocks travel by name; what is found travels back by Ray.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from legnet_cli.engine.predict.config import PredictConfig
from legnet_cli.engine.predict.job import Part
from legnet_cli.engine.predict.plan import ScenePlan
from legnet_cli.engine.predict.workers import Worker
from legnet_cli.errors import DependencyError
from legnet_cli.installation import install_line

_LOOK = 5.0  # seconds between looks for nodes that joined


class Cluster:
    """A crew of Ray actors.

    Args:
        config: of the search; ``cluster`` is Ray's address, ``auto``, or ``local`` for this machine alone.

    Raises:
        DependencyError: Ray is absent, or there is no cluster at the address.
    """

    def __init__(self, config: PredictConfig) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError:
            raise DependencyError(f"--cluster needs Ray: run `{install_line('cluster')}`") from None
        local = config.cluster == "local"
        where = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if local else {"address": config.cluster}
        try:
            self._ray.init(log_to_driver=False, configure_logging=False, **where)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DependencyError(f"--cluster {config.cluster}: no Ray cluster there ({reason})") from None
        self._config, self._most = config, config.workers if local else None
        self._actors: list[Any] = []
        self._busy: dict[Any, Any] = {}
        self._lost: set[int] = set()
        self._looked = 0.0
        self._grow()

    @property
    def capacity(self) -> int:
        """One block under way and one waiting for each actor."""
        if time.monotonic() - self._looked > _LOOK:
            self._grow()
        return 2 * len(self._actors)

    @property
    def alive(self) -> int:
        """Actors, those left out that were lost and have found nothing since."""
        return len(self._actors) - len(self._lost)

    def _grow(self) -> None:
        """An actor for each GPU of the cluster, or without any for each of its CPUs, a few at most on one machine."""
        self._looked = time.monotonic()
        there = self._ray.cluster_resources()
        graphics = int(there.get("GPU", 0)) if self._config.device in ("auto", "cuda") else 0
        wanted = graphics or int(there.get("CPU", 1))
        wanted = wanted if self._most is None else min(wanted, self._most)
        threads = 1 if graphics else max(1, int(there.get("CPU", 1)) // wanted)
        kind = self._ray.remote(Worker).options(
            num_gpus=1 if graphics else 0, num_cpus=threads, max_restarts=-1, max_task_retries=0
        )
        device = "cuda" if graphics else self._config.device
        while len(self._actors) < max(1, wanted):
            self._actors.append(kind.remote(self._config, device, threads))

    def submit(self, plan: ScenePlan, block: int) -> Any:  # noqa: ANN401
        """Have a block searched by the actor with the least to do."""
        load = {id(actor): 0 for actor in self._actors}
        for actor in self._busy.values():
            load[id(actor)] += 1
        actor = min(self._actors, key=lambda one: load[id(one)])
        handle = actor.search.remote(plan.scene.path, plan.name, plan.stamp, block)
        self._busy[handle] = actor
        return handle

    def wait(self, handles: Sequence[Any]) -> list[tuple[Any, Part | str | None]]:
        """Blocks that have ended; None for those whose actor or node was lost."""
        ready, _ = self._ray.wait(list(handles), num_returns=1, timeout=_LOOK)
        ended: list[tuple[Any, Part | str | None]] = []
        for handle in ready:
            actor = id(self._busy.pop(handle))
            try:
                ended.append((handle, self._ray.get(handle)))
                self._lost.discard(actor)
                continue
            except self._ray.exceptions.RayActorError as error:
                if isinstance(error, self._ray.exceptions.ActorDiedError) and "creation task" in str(error):
                    raise  # the weights could not be loaded: a fault of ours or of the node, which comes again
            except (self._ray.exceptions.WorkerCrashedError, self._ray.exceptions.OutOfMemoryError):
                pass
            ended.append((handle, None))
            self._lost.add(actor)
        return ended

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()
