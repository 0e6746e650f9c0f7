"""The running average of the weights, and the file that lets a run go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from legnet_cli.detectors.weights.tensors import load_plain
from legnet_cli.errors import CheckpointError
from legnet_cli.files import atomic_path

CHECKPOINT = "last.ckpt"


class WeightAverage:
    """Running average of a model's tensors, kept in float32.

    The decay rises with the steps, ``min(decay, (1 + step) / (10 + step))``, so that early weights are soon forgotten.
    """

    def __init__(self, state: dict[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.state = {name: tensor.detach().clone() for name, tensor in state.items()}

    @torch.no_grad()
    def follow(self, state: dict[str, Tensor], step: int) -> None:
        """Move towards ``state`` after optimisation step number ``step``."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        floats = [name for name, tensor in self.state.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in floats], [state[name].detach() for name in floats], share)
        for name in self.state.keys() - set(floats):
            self.state[name].copy_(state[name])


def save_run(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values; the file appears whole or not at all."""
    with atomic_path(path) as scratch:
        torch.save(content, scratch)


def load_run(path: Path) -> dict[str, Any]:
    """What :func:`save_run` wrote, on the CPU; nothing in the file is run as code.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is nothing to resume: start without --resume")
    try:
        content = load_plain(path)
    except Exception as error:  # damaged bytes make the unpickler fail in any way it likes
        raise CheckpointError(f"{path}: is damaged ({type(error).__name__}): start again without --resume") from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise CheckpointError(f"{path}: is damaged (holds a {kind}): start again without --resume")
    return content
