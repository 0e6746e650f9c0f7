"""Observers of stages, on a clock that the test sets."""

from types import SimpleNamespace

import pytest
import torch

from legnet_cli.engine.benchmark import timings
from legnet_cli.engine.benchmark.timings import Stopwatch, Tally


@pytest.fixture
def clock(monkeypatch):
    """Seconds that only the test advances."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(timings, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def fail(clock):
    clock.seconds += 10
    raise ZeroDivisionError


def test_nested_stages_count_once(clock):
    watch = Stopwatch(torch.device("cpu"))
    for _ in range(2):
        with watch.stage("outer"):
            clock.seconds += 1
            with watch.stage("inner"):
                clock.seconds += 10
            clock.seconds += 100
        clock.seconds += 1000  # between stages: of none
    assert watch.read() == {"outer": 202e3, "inner": 20e3}
    assert watch.read() == {}


def test_a_stage_ends_where_it_fails(clock):
    watch = Stopwatch(torch.device("cpu"))
    with watch.stage("outer"):
        with pytest.raises(ZeroDivisionError), watch.stage("inner"):
            fail(clock)
        clock.seconds += 1
    assert watch.read() == {"outer": 1e3, "inner": 10e3}


def test_a_tally_adds_up(clock):
    tally = Tally()
    for _ in range(3):
        with tally.stage("read"):
            clock.seconds += 2
    with pytest.raises(ZeroDivisionError), tally.stage("write"):
        fail(clock)
    assert tally.seconds == {"read": 6, "write": 10}
