"""Random weights that keep a detector busy: activations of order 1, and as many boxes as on a crowded tile."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from legnet_cli.detectors.weights.tensors import State

_GAIN = 3.2  # of the last classification layer: with 1 no class would stand out


def random_state(names: Mapping[str, Tensor]) -> State:
    """Tensors of the names and shapes of ``names``, each drawn from its own name, whatever the others are."""
    state = {}
    for name, like in names.items():
        if not like.is_floating_point():
            if not name.endswith("num_batches_tracked"):
                state[name] = like  # where S²ANet's filters turn their taps to
            continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        values = rng.standard_normal(like.shape).astype(np.float32)
        if name.endswith("running_var"):
            values = 0.5 + rng.random(like.shape, np.float32)
        elif like.ndim >= 2:
            factor = _GAIN if "fc_cls" in name else 0.3 if "reg" in name else 1.0
            values *= factor / np.sqrt(np.prod(like.shape[1:]))
        elif name.endswith("weight"):
            values = 0.6 + 0.1 * values
        else:
            values *= 0.05
        state[name] = torch.from_numpy(values)
    return state
