"""Progress of a search: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from legnet_cli.engine.predict import SearchProgress

logger = logging.getLogger(__name__)

LOG_SECONDS = 30.0  # between lines of a log


@contextmanager
def tile_progress(*, quiet: bool) -> Iterator[Callable[[SearchProgress], None]]:
    """Callback that shows tiles/s, km²/s and the time left."""
    if quiet:
        yield lambda progress: None
    elif sys.stderr.isatty():
        bar: tqdm[Any]
        with tqdm(unit="tile", dynamic_ncols=True, smoothing=0.1) as bar:
            yield lambda progress: _move(bar, progress)
    else:
        yield _log_lines()


@contextmanager
def download_progress(*, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Callback that shows how much of a file has arrived, from the first byte on."""
    bar: tqdm[Any] = tqdm(disable=True)

    def show(done: int, total: int | None) -> None:
        nonlocal bar
        if bar.disable and not quiet:
            bar = tqdm(unit="B", unit_scale=True, desc="weights", dynamic_ncols=True, total=total)
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        bar.close()


def _move(bar: tqdm[Any], progress: SearchProgress) -> None:
    bar.total = progress.tiles_total
    if progress.km2_done:
        elapsed = max(time.time() - bar.start_t, 1e-9)
        bar.set_postfix_str(f"{progress.km2_done / elapsed:.3g} km²/s", refresh=False)
    bar.update(progress.tiles_done - bar.n)


def _log_lines() -> Callable[[SearchProgress], None]:
    start = last = time.monotonic()

    def show(progress: SearchProgress) -> None:
        nonlocal last
        now = time.monotonic()
        done = progress.tiles_done == progress.tiles_total
        if now - last < LOG_SECONDS and not done:
            return
        last, elapsed = now, max(now - start, 1e-9)
        rate = progress.tiles_done / elapsed
        area = f", {progress.km2_done / elapsed:.3g} km²/s" if progress.km2_done else ""
        left = (progress.tiles_total - progress.tiles_done) / max(rate, 1e-9)
        logger.info(
            "%d of %d tiles, %.3g tiles/s%s, %.0f s left", progress.tiles_done, progress.tiles_total, rate, area, left
        )

    return show
