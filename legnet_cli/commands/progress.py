"""Progress of all commands: a bar on a terminal, a line now and then in a log, nothing when quiet."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tqdm import tqdm

LOG_SECONDS = 30.0  # between lines of a log


class ProgressBar:
    """Work done so far, of a number of units that may become known late.

    Args:
        unit: what is counted.
        quiet: show nothing.
        lines: outside a terminal write a line now and then.
        scale: count in thousands, for bytes.
    """

    def __init__(self, unit: str, *, quiet: bool, lines: bool = True, scale: bool = False) -> None:
        self._unit, self._quiet, self._lines, self._scale = unit, quiet, lines, scale
        self._bar: tqdm[Any] | None = None
        self._start = self._last = time.monotonic()
        self._told, self._before = -1, 0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def seconds(self) -> float:
        """Time since it was made."""
        return max(time.monotonic() - self._start, 1e-9)

    def show(self, done: int, total: int | None, text: str = "", before: int = 0) -> None:
        """Take in what is done of all, what else to tell of it, and how much was done before, in no time of now."""
        if self._quiet:
            return
        fresh, self._before = before - self._before, before
        if sys.stderr.isatty():
            self._move(done, total, text, fresh)
        elif self._lines and total:
            self._tell(done, total, text)

    def write(self, line: str) -> None:
        """A line above the bar."""
        if not self._quiet:
            from tqdm import tqdm

            tqdm.write(line, file=sys.stderr)

    def _move(self, done: int, total: int | None, text: str, fresh: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            what = "weights" if self._scale else None
            self._bar = tqdm(desc=what, unit=self._unit, unit_scale=self._scale, dynamic_ncols=True, smoothing=0.1)
        self._bar.total = total
        if fresh:
            self._bar.n, self._bar.last_print_n = self._bar.n + fresh, self._bar.last_print_n + fresh
            self._bar.initial += fresh
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(done - self._bar.n)

    def _tell(self, done: int, total: int, text: str) -> None:
        now, elapsed = time.monotonic(), self.seconds
        soon = self._told >= 0 and now - self._last < LOG_SECONDS  # the first line shows that it is alive
        if done == self._told or (soon and done < total):
            return
        self._last, self._told = now, done
        rate = (done - self._before) / elapsed
        speed = [f"{rate:.3g} {self._unit}s/s"] if rate else []
        left = [f"{clock((total - done) / rate)} left"] if rate else []
        parts = [f"{done:,} of {total:,} {self._unit}s", *speed, text, *left]
        typer.echo(", ".join(part for part in parts if part), err=True)


def clock(seconds: float) -> str:
    """A time span as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest:02}"


class DownloadBar(ProgressBar):
    """Bytes of a file that is being fetched: a bar on a terminal only."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__("B", quiet=quiet, lines=False, scale=True)
