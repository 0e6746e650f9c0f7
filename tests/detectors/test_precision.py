"""A precision that is slower than fp32 is refused, by a clock that the test holds."""

import itertools

import pytest

from legnet_cli.detectors import precision as module
from legnet_cli.detectors.loader import load_checkpoint, load_detector
from legnet_cli.detectors.precision import refuse_slower
from legnet_cli.detectors.weights.fetch import EMBEDDED
from legnet_cli.errors import ConfigError


@pytest.fixture
def seconds(monkeypatch, tmp_path):
    """Seconds that a search takes by precision, in a cache of its own; ``built`` are the networks that were made."""
    monkeypatch.setenv("LEGNET_CACHE", str(tmp_path))
    taken, now = {"fp32": 1.0, "bf16": 1.0, "built": []}, [0.0]

    class Network:
        def __init__(self, precision):
            taken["built"].append(precision)
            self.rounds = itertools.chain([100.0], itertools.repeat(taken[precision]))  # the first one warms up

        def detect(self, images):
            now[0] += next(self.rounds)

    monkeypatch.setattr(module, "build_network", lambda checkpoint, device, precision, **_: Network(precision))
    taken["clock"] = lambda: now[0]
    return taken


@pytest.mark.parametrize(
    ("bf16", "ratio"), [(0.5, None), (1.0, None), (1.04, None), (1.06, "1.1"), (2.04, "2"), (13.2, "13")]
)
def test_only_slower_ones_are_refused_and_are_measured_once(seconds, bf16, ratio):
    checkpoint = load_checkpoint(EMBEDDED)
    seconds["bf16"] = bf16
    for _ in range(2):
        if ratio is None:
            refuse_slower(checkpoint, "bf16", seconds["clock"])
        else:
            message = f"--precision bf16: takes {ratio} times as long as fp32 on this CPU .*add --force-precision"
            with pytest.raises(ConfigError, match=message):
                refuse_slower(checkpoint, "bf16", seconds["clock"])
    assert sorted(seconds["built"]) == ["bf16", "fp32"]


def test_load_that_comes_and_goes_slows_both(seconds):
    checkpoint, ticks = load_checkpoint(EMBEDDED), itertools.count()
    seconds["bf16"] = 1.2
    # searches take ten times as long in the first few searches
    clock = [0.0, 0.0]

    def loaded():
        now, (before, shown) = seconds["clock"](), clock
        clock[:] = now, shown + (now - before) * (10 if next(ticks) < 6 else 1)
        return clock[1]

    with pytest.raises(ConfigError, match=r"1\.2 times as long"):
        refuse_slower(checkpoint, "bf16", loaded)


def test_weights_are_loaded_if_it_is_forced_or_fast(monkeypatch):
    def slow(checkpoint, precision):
        raise ConfigError(f"{precision} is slow")

    monkeypatch.setattr("legnet_cli.detectors.loader.refuse_slower", slow)
    with pytest.raises(ConfigError, match="bf16 is slow"):
        load_detector(EMBEDDED, device="cpu", precision="bf16")
    assert load_detector(EMBEDDED, device="cpu", precision="bf16", force_precision=True).precision == "bf16"
    assert load_detector(EMBEDDED, device="cpu", precision="fp32").precision == "fp32"
