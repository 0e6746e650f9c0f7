"""Random weights that behave like trained ones: activations of order 1, and about a thousand boxes a tile."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from legnet_cli.detectors.build import build_mmrotate
from legnet_cli.detectors.checkpoint import Checkpoint, ModelCard, State
from legnet_cli.detectors.recipes import Recipe, model_config

# gain of the last classification layer: 3 lets about a thousand boxes of a tile pass the score threshold, 8 thousands
SPARSE, DENSE = 3.2, 8.0


def random_checkpoint(recipe: Recipe, gain: float = SPARSE) -> Checkpoint:
    """Weights of ``recipe``, the same at each call; see :func:`random_state` for ``gain``."""
    classes = recipe.dataset.classes
    names = build_mmrotate(model_config(recipe, len(classes))).state_dict()
    card = ModelCard("random weights", recipe.name, classes, recipe.dataset.tile, recipe.dataset.overlap)
    return Checkpoint(random_state(names, gain), card)


def random_state(names: Mapping[str, Tensor], gain: float = SPARSE) -> State:
    """Tensors of the names and shapes of ``names``, each drawn from its own name, whatever the others are.

    What comes after the convolutions has the more to do the larger ``gain``, the factor of the classification layer.
    """
    state = {}
    for name, like in names.items():
        if not like.is_floating_point():
            continue  # a counter of batches
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        values = rng.standard_normal(like.shape).astype(np.float32)
        if name.endswith("running_var"):
            values = 0.5 + rng.random(like.shape, np.float32)
        elif like.ndim >= 2:
            factor = gain if "fc_cls" in name else 0.3 if "reg" in name else 1.0
            values *= factor / np.sqrt(np.prod(like.shape[1:]))
        elif name.endswith("weight"):
            values = 0.6 + 0.1 * values
        else:
            values *= 0.05
        state[name] = torch.from_numpy(values)
    return state
