"""Copies of this process, which need not import again what takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable

LIMIT = 300.0  # seconds after which a copy that does not end is killed


class Fork:
    """A call in a copy of this process, in a session of its own; what it writes to stderr can be read."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        reader, writer = os.pipe()
        self._process = multiprocessing.get_context("fork").Process(target=_call, args=(writer, function, args))
        self._process.start()
        os.close(writer)
        self.pid = self._process.pid
        self.stderr = os.fdopen(reader)

    def communicate(self) -> tuple[int | None, str]:
        """Its exit code, and the rest of what it writes."""
        limit = threading.Timer(LIMIT, self._process.kill)
        limit.start()
        with self.stderr:
            rest = self.stderr.read()
        self._process.join()
        limit.cancel()
        return self._process.exitcode, rest


def _call(writer: int, function: Callable[..., object], args: tuple[object, ...]) -> None:
    os.setsid()
    os.dup2(writer, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    function(*args)
