"""Weights of a detector with their model card: ours in safetensors, and the authors' ``.pth``.

:func:`read_checkpoint` gives tensors under this project's names and a :class:`ModelCard`; for a file without a card
the recipe and the number of classes are inferred from the tensors alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from legnet_cli.detectors.weights.card import CardError, ModelCard, checked_card
from legnet_cli.detectors.weights.recipes import BACKBONES, DATASETS, Recipe, get_recipe
from legnet_cli.detectors.weights.tensors import State, read_state, tidy_state
from legnet_cli.errors import CheckpointError, ConfigError
from legnet_cli.files import atomic_path
from legnet_cli.untrusted import parse_json

logger = logging.getLogger(__name__)

CARD_VERSION = 1
_MOST_CLASSES = 1 << 16
_CARD_KEY = "legnet"  # of the safetensors metadata
# detector -> a tensor that tells it apart, and how many more outputs than classes that has; the first found decides
_HEADS = {
    "s2anet": ("odm_head.odm_cls.weight", 0),
    "r3det": ("refine_head.0.retina_cls.weight", 0),
    "rotated-fcos": ("bbox_head.conv_cls.weight", 0),
    "roi-transformer": ("roi_head.bbox_head.1.fc_cls.weight", 1),
    "oriented-rcnn": ("roi_head.bbox_head.fc_cls.weight", 1),
}


@dataclass(frozen=True)
class Checkpoint:
    """Tensors under this project's names, and their card."""

    state: State
    card: ModelCard

    @property
    def parameters(self) -> int:
        """Number of trained weights: without the statistics of batch norms."""
        statistics = ("running_mean", "running_var", "num_batches_tracked")
        return sum(tensor.numel() for name, tensor in self.state.items() if not name.endswith(statistics))


def read_checkpoint(path: str | Path, classes: Sequence[str] | None = None) -> Checkpoint:
    """Read a detector's weights; ``classes`` overrules the class names of the file.

    Raises:
        CheckpointError: if the file is missing, damaged, unsafe, or no detector of a known recipe.
    """
    path = Path(path)
    state, meta = read_state(path)
    card = _read_card(meta, path) if _CARD_KEY in meta else None
    if card is not None and card.model is not None:
        return Checkpoint(state, replace(card, classes=tuple(classes or card.classes)))
    recipe, count = infer_recipe(state, path)
    if card is not None:
        _check_card(card, recipe, path)
    names = tuple(classes or (card.classes if card else _known_classes(meta, count, path)))
    if len(names) != count:
        raise CheckpointError(f"{path}: has {count} classes, but {len(names)} names were given")
    if card is None:
        dataset = next((d for d in DATASETS.values() if set(d.classes) == set(names)), recipe.dataset)
        recipe = get_recipe(f"{recipe.name}@{dataset.name}")
        card = ModelCard(path.stem, recipe.name, names, recipe.dataset.tile, recipe.dataset.overlap)
    return Checkpoint(state, replace(card, classes=names))


def save_checkpoint(
    path: str | Path, state: Mapping[str, Tensor], card: ModelCard, dtype: torch.dtype = torch.float32
) -> None:
    """Write ``state`` and ``card`` as safetensors; the file appears whole or not at all.

    Floats are stored as ``dtype``, but those tensors in float32 that hold more than its range: in float16, variances.

    Raises:
        DataError: if the file cannot be written.
    """
    tensors = {}
    for name, tensor in tidy_state(state, path).items():
        stored = tensor.detach().cpu()
        if stored.is_floating_point():
            wide = bool((stored.abs() > torch.finfo(dtype).max).any())
            stored = stored.to(torch.float32 if wide else dtype)
        tensors[name] = stored.contiguous().clone()
    _write(Path(path), tensors, card)


def rewrite_card(path: Path, card: ModelCard) -> None:
    """Put ``card`` in place of that of a file of this project; its tensors stay as they are.

    Raises:
        CheckpointError: it is another kind of file.
        DataError: it cannot be written.
    """
    if path.suffix.lower() != ".safetensors" or _CARD_KEY not in read_state(path)[1]:
        raise CheckpointError(f"{path}: holds no model card to write to: only .safetensors of this project do")
    _write(path, load_file(path), card)


def _write(path: Path, tensors: dict[str, Tensor], card: ModelCard) -> None:
    # a single entry: safetensors writes several in any order
    metadata = {_CARD_KEY: json.dumps({"version": CARD_VERSION, **asdict(card)}, sort_keys=True)}
    data = save(tensors, metadata)
    with atomic_path(path) as scratch:
        scratch.write_bytes(data)


def infer_recipe(state: State, path: str | Path) -> tuple[Recipe, int]:
    """The recipe (on DOTA-v1.0) and the number of classes that names and shapes of ``state`` speak of.

    Raises:
        CheckpointError: if they are of no known detector, or of a backbone alone.
    """
    prefix = "backbone." if any(name.startswith("backbone.") for name in state) else ""
    backbone = None
    for kind, tensor, per_width in (("LEGNet", "Stem.LoG.conv_init.weight", 4), ("UnravelNet", "Stem.proj.weight", 1)):
        if prefix + tensor in state:
            width = per_width * _outputs(state, prefix + tensor)
            backbone = next((b for b in BACKBONES.values() if (b.kind, b.stem_dim) == (kind, width)), None)
    if backbone is None:
        raise CheckpointError(f"{path}: no LEGNet or UnravelNet of a known size ({', '.join(BACKBONES)})")
    if not any(name.partition(".")[0] in ("neck", "rpn_head", "roi_head", "bbox_head", "odm_head") for name in state):
        raise CheckpointError(f"{path}: holds only a {backbone.name} backbone: give a detector's weights")
    for detector, (tensor, extra) in _HEADS.items():
        if tensor in state:
            anchors = _outputs(state, "rpn_head.rpn_cls.weight") or 1
            regression = _outputs(state, "rpn_head.rpn_reg.weight")
            if detector == "oriented-rcnn" and regression == 4 * anchors:
                detector = "rotated-faster-rcnn"
            classes = _outputs(state, tensor) - extra
            if not 0 < classes <= _MOST_CLASSES:
                raise CheckpointError(f"{path}: {tensor} is of {classes:,} classes: give a detector's weights")
            return get_recipe(f"{detector}/{backbone.name}"), classes
    raise CheckpointError(f"{path}: unknown detection head: `legnet models` lists those")


def _outputs(state: State, name: str) -> int:
    """Length of a tensor's first axis; 0 if there is none."""
    return state[name].shape[0] if name in state and state[name].ndim else 0


def _read_card(meta: Mapping[str, Any], path: Path) -> ModelCard:
    try:
        values = parse_json(meta[_CARD_KEY])
        version = values["version"]
        card = ModelCard(**{f.name: values[f.name] for f in fields(ModelCard) if f.name in values})
        card, newer = checked_card(card), version > CARD_VERSION
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        detail = f" ({error})" if isinstance(error, CardError) else ""
        raise CheckpointError(f"{path}: its model card is damaged{detail}: download it again") from None
    if newer:
        raise CheckpointError(f"{path}: made by a newer legnet (card version {version}): update legnet")
    return card


def _check_card(card: ModelCard, recipe: Recipe, path: Path) -> None:
    try:
        stated = get_recipe(card.recipe)
    except ConfigError:
        raise CheckpointError(f"{path}: its model card is damaged: download it again") from None
    if (stated.detector, stated.backbone) != (recipe.detector, recipe.backbone):
        raise CheckpointError(f"{path}: its card says {card.recipe}, its tensors are of {recipe.name}")


def _known_classes(meta: Mapping[str, Any], count: int, path: Path) -> tuple[str, ...]:
    """Class names of the file, else of the benchmark with as many classes, else numbers."""
    names = meta.get("CLASSES")
    if isinstance(names, (list, tuple)) and len(names) == count and all(isinstance(name, str) for name in names):
        return tuple(names)
    dataset = next((d for d in DATASETS.values() if len(d.classes) == count > 1), None)
    source = f"those of {dataset.title}, which has as many" if dataset else "numbers"
    logger.warning("%s has no class names for its %d classes; using %s", path.name, count, source)
    return dataset.classes if dataset else tuple(f"class_{i}" for i in range(count))
