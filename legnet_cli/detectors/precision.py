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
_SEARCHES = 3  # the first one warms up

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
        ratio = _seconds(checkpoint, precision, clock) / max(_seconds(checkpoint, "fp32", clock), 1e-9)
        note_measured(*place, {precision: ratio})
    if ratio > 1 + MARGIN:
        raise ConfigError(
            f"--precision {precision}: takes {ratio:.2g} times as long as fp32 on this CPU (measured): "
            "leave the flag out, or add --force-precision"
        )


def _seconds(checkpoint: Checkpoint, precision: NetworkPrecision, clock: Callable[[], float]) -> float:
    """Of the fastest of a few searches of one tile."""
    network = build_network(checkpoint, CPU, precision, compile=False, score_threshold=0.05, max_detections=2000)
    image = torch.randint(0, 256, (1, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    taken = []
    for _ in range(_SEARCHES):
        start = clock()
        network.detect(image)
        taken.append(clock() - start)
    return min(taken[1:])
