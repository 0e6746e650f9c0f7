"""Several ways to the same result, timed against each other, and which of them is to be taken."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MARGIN = 0.05  # share of the usual way's time that another one must save
_FORGIVEN = 5  # one round in so many may be lost, to noise


@dataclass(frozen=True)
class Race:
    """What came out.

    Attributes:
        ms: median milliseconds of each way.
        winner: the fastest of the ways that beat the usual one clearly in nearly every round; else the usual one.
    """

    ms: dict[str, float]
    winner: str


def race(
    ways: Mapping[str, Callable[[], object]],
    usual: str,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    *,
    all_rounds: bool = False,
) -> Race:
    """Call ``ways`` in turn, ``rounds`` times after a warm-up; losers are left out, unless ``all_rounds`` is set."""
    for call in ways.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    chances = dict.fromkeys((name for name in ways if name != usual), rounds // _FORGIVEN)
    for _ in range(rounds):
        for name in ways if all_rounds else (usual, *chances):
            start = clock()
            ways[name]()
            seconds[name].append(clock() - start)
        limit = (1 - MARGIN) * seconds[usual][-1]
        chances = {name: left - (seconds[name][-1] > limit) for name, left in chances.items()}
        chances = {name: left for name, left in chances.items() if left >= 0}
    ms = {name: 1e3 * statistics.median(taken) for name, taken in seconds.items()}
    return Race(ms, min(chances, key=lambda name: ms[name], default=usual))
