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
        self._told = -1

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def seconds(self) -> float:
        """Time since it was made."""
        return max(time.monotonic() - self._start, 1e-9)

    def show(self, done: int, total: int | None, text: str = "") -> None:
        """Take in what is done of all, and what else to tell of it."""
        if self._quiet:
            return
        if sys.stderr.isatty():
            self._move(done, total, text)
        elif self._lines and total:
            self._tell(done, total, text)

    def write(self, line: str) -> None:
        """A line above the bar."""
        if not self._quiet:
            from tqdm import tqdm

            tqdm.write(line, file=sys.stderr)

    def _move(self, done: int, total: int | None, text: str) -> None:
        if self._bar is None:
            from tqdm import tqdm

            what = "weights" if self._scale else None
            self._bar = tqdm(desc=what, unit=self._unit, unit_scale=self._scale, dynamic_ncols=True, smoothing=0.1)
        self._bar.total = total
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(done - self._bar.n)

    def _tell(self, done: int, total: int, text: str) -> None:
        now, elapsed = time.monotonic(), self.seconds
        soon = self._told >= 0 and now - self._last < LOG_SECONDS  # the first line shows that it is alive
        if done == self._told or (soon and done < total):
            return
        self._last, self._told = now, done
        left = time.strftime("%H:%M:%S", time.gmtime((total - done) * elapsed / max(done, 1)))
        parts = [f"{done:,} of {total:,} {self._unit}s", f"{done / elapsed:.3g} {self._unit}s/s", text, f"{left} left"]
        typer.echo(", ".join(part for part in parts if part), err=True)


class DownloadBar(ProgressBar):
    """Bytes of a file that is being fetched: a bar on a terminal only."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__("B", quiet=quiet, lines=False, scale=True)
