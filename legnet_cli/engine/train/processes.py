"""The processes of a run on this machine: the first one starts the others, and none waits for one that is gone.

A collective operation waits half an hour for a missing process. So a thread of the first process waits for each of the
others, and those look whether the first is still there. ``torchrun`` and SLURM watch what they started themselves.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

logger = logging.getLogger(__name__)

_FIRST = "LEGNET_FIRST_PROCESS"  # names the process that started this one
_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 5.0  # for the first process to say that all is done, or for an error to be explained
_LAST_SECONDS = 60.0  # for the others to end after the last step
_LOST = 4  # see DependencyError


@contextmanager
def local_processes(environment: ClusterEnvironment, devices: int, nodes: int) -> Iterator[None]:
    """Start the other ``devices - 1`` processes of this machine; in those, watch the first one.

    All of them do what is in the body. If one ends before that, all end, with one line that says so. ``environment``
    says where they meet, and whether somebody else starts processes.
    """
    if first := os.environ.get(_FIRST):
        threading.Thread(target=_watch_first, args=(int(first),), daemon=True).start()
        try:
            yield
        except RuntimeError:  # a collective operation failed if another process is gone: then that is the reason
            time.sleep(_GRACE_SECONDS)
            raise
    elif environment.creates_processes_externally:  # by hand
        yield
    else:
        with _Others(environment, devices, nodes):
            yield


class _Others:
    """The processes that this one, the first, starts with its own command line."""

    def __init__(self, environment: ClusterEnvironment, devices: int, nodes: int) -> None:
        self._count = devices - 1
        self._started: list[subprocess.Popen[bytes]] = []
        self._finished = threading.Event()
        self._ending = threading.Lock()
        self._variables = {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": str(environment.node_rank()),
            "WORLD_SIZE": str(devices * nodes),
            "LOCAL_RANK": "0",
        }

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in self._variables}
        os.environ.update(self._variables)
        command = [sys.executable, *sys.orig_argv[1:]]
        for rank in range(1, self._count + 1):
            variables = {**os.environ, "LOCAL_RANK": str(rank), _FIRST: str(os.getpid())}
            # in a session of its own Ctrl-C does not reach it: the first process tells it when to stop
            process = subprocess.Popen(command, env=variables, start_new_session=True)
            self._started.append(process)
            threading.Thread(target=self._watch, args=(rank, process), daemon=True).start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._finished.set()
            for process in self._started:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LAST_SECONDS)
        elif issubclass(kind, RuntimeError):  # a collective operation failed if another process is gone
            time.sleep(_GRACE_SECONDS)
        self._finished.set()
        for process in self._started:
            process.kill()
            process.wait()
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

    def _watch(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        """End this process and all others if ``process`` fails, with its exit code."""
        code = process.wait()
        if not code or self._finished.wait(_GRACE_SECONDS / 2):
            return
        with self._ending:
            if code < 0:  # else it has told why
                name = signal.Signals(-code).name
                logger.error("process %d was ended by %s: --resume continues from the last checkpoint", rank, name)
            for other in self._started:
                other.kill()
            os._exit(_LOST if code < 0 else code)  # the main thread may wait in a collective operation


def _watch_first(process: int) -> None:
    while os.getppid() == process:
        time.sleep(_LOOK_SECONDS)
    logger.error("the first process has ended: --resume continues from the last checkpoint")
    os._exit(_LOST)
