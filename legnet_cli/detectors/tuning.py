"""Kernels of a detector chosen by measuring them on this machine, once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from legnet_cli.detectors.fast.kernels import choice_to_text, usual_choice
from legnet_cli.detectors.fast.oriented_rcnn import OrientedRCNN
from legnet_cli.detectors.fast.tune import QUICK, TunedLayer, tune, tuned_choice
from legnet_cli.detectors.loader import Detector
from legnet_cli.detectors.measured import note_measured, read_measured
from legnet_cli.detectors.networks import AUTO, use_kernels

logger = logging.getLogger(__name__)

WORTH = 50  # tiles of a search, for which one that takes as long as a few of them is measured for
_KERNELS = "kernels"


def can_tune(detector: Detector) -> bool:
    """Whether there are kernels to choose from: for Oriented R-CNN in PyTorch, on a CPU, in float32."""
    return (
        isinstance(detector.network, OrientedRCNN)
        and detector.device.type == "cpu"
        and detector.precision == "fp32"
        and not detector.network.compiled
    )


def tune_detector(detector: Detector, tile: int, rounds: int = QUICK) -> list[TunedLayer]:
    """Measure the kernels of a detector that has some on tiles of ``tile`` pixels, keep the choice, and use it."""
    network = detector.network
    assert isinstance(network, OrientedRCNN)
    layers = tune(network, tile, usual_choice(network.choosable), rounds)
    choice = tuned_choice(layers)
    note_measured(detector.key, tile, torch.get_num_threads(), {_KERNELS: choice_to_text(choice)})
    network.use_kernels(choice)
    return layers


def settle_kernels(detector: Detector, asked: str, tile: int, tiles: int, threads: int) -> str:
    """The kernels of a search of so many tiles of that side by processes of so many threads.

    ``auto`` is what has been measured before, else is measured now if it is worth it (:data:`WORTH`).
    """
    if not can_tune(detector):
        return detector.kernels
    assert isinstance(detector.network, OrientedRCNN)
    with use_threads(threads):
        if asked == AUTO and tiles >= WORTH and _KERNELS not in read_measured(detector.key, tile, threads):
            logger.info("%s: measuring which kernels are fastest on this CPU, once", detector.card.name)
            tune_detector(detector, tile)
        else:
            use_kernels(detector.network, asked, detector.key, tile)
    return detector.kernels


@contextmanager
def use_threads(number: int) -> Iterator[None]:
    """Let PyTorch compute with so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
