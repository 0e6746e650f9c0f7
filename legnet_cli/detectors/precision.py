"""Whether a precision is worth it on this CPU, by measuring it once."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from legnet_cli.detectors.devices import NetworkPrecision
from legnet_cli.detectors.measured import network_key, note_measured, read_measured
from legnet_cli.detectors.networks import build_network
from legnet_cli.detectors.race import MARGIN
from legnet_cli.detectors.weights.checkpoint import Checkpoint
from legnet_cli.errors import ConfigError

SIDE = 256  # pixels of the tile: small, for a precision that the CPU lacks can take ten times as long
_SEARCHES = 6  # of each, alternately, so that other load slows both; the first one warms up

CPU = torch.device("cpu")


def refuse_slower(
    checkpoint: Checkpoint, precision: NetworkPrecision, clock: Callable[[], float] = time.perf_counter
) -> None:
    """Refuse a ``precision`` that a search of ``checkpoint`` takes longer in than in fp32 on this CPU.

    Raises:
        ConfigError: with the measured ratio.
    """
    place = network_key(checkpoint.state), SIDE, torch.get_num_threads()
    ratio = read_measured(*place).get(precision)
    if not isinstance(ratio, float):
        ratio = _ratio(checkpoint, precision, clock)
        note_measured(*place, {precision: ratio})
    if ratio > 1 + MARGIN:
        raise ConfigError(
            f"--precision {precision}: takes {ratio:.2g} times as long as fp32 on this CPU (measured): "
            "leave the flag out, or add --force-precision"
        )


def _ratio(checkpoint: Checkpoint, precision: NetworkPrecision, clock: Callable[[], float]) -> float:
    """Seconds of a search of one tile over those in fp32: of the fastest of each, taken alternately."""
    both: tuple[NetworkPrecision, NetworkPrecision] = (precision, "fp32")
    networks = [
        build_network(checkpoint, CPU, one, compile=False, score_threshold=0.05, max_detections=2000) for one in both
    ]
    image = torch.randint(0, 256, (1, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    taken: list[list[float]] = [[], []]
    for _ in range(_SEARCHES):
        for network, seconds in zip(networks, taken, strict=True):
            start = clock()
            network.detect(image)
            seconds.append(clock() - start)
    slow, usual = (min(seconds[1:]) for seconds in taken)
    return slow / max(usual, 1e-9)
