"""SIGTERM and Ctrl-C: before the first step they end the process, then they are a wish that is heeded between steps."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

_SHELL = 128  # a shell adds it to the number of the signal that ended a process


@contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process with the code that a shell gives it, and with what it writes cleaned up."""
    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(_SHELL + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class StopSignal:
    """Whether somebody asked to stop.

    Attributes:
        asked: a signal came.
        doing: what is finished first, as the user is told.
    """

    def __init__(self) -> None:
        self.asked = False
        self.doing = "step"
        self._teller: threading.Thread | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Take signals in place of their handlers; a second Ctrl-C interrupts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {kind: signal.signal(kind, self._note) for kind in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)
            if self._teller:
                self._teller.join()

    def _note(self, number: int, frame: object) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.asked:
            # the signal may have come amid a write to the same stream, which only another thread can wait for
            self._teller = threading.Thread(target=logger.warning, args=("stopping after this %s", self.doing))
            self._teller.start()
        self.asked = True
