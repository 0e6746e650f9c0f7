"""Weight files: ours (safetensors with a model card) and the authors' ``.pth``, read without running code from them.

:func:`read_checkpoint` gives tensors under this project's names and a :class:`ModelCard`; for a file without a card
the recipe and the number of classes are inferred from the tensors alone. :func:`check_state` names every mismatch.
"""

from __future__ import annotations

import json
import logging
import pickle
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from legnet_cli.detectors.weights.recipes import BACKBONES, DATASETS, Recipe, get_recipe
from legnet_cli.errors import CheckpointError, ConfigError
from legnet_cli.files import atomic_path

logger = logging.getLogger(__name__)

State = dict[str, Tensor]

CARD_VERSION = 1
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
class ModelCard:
    """What a user of the weights must know.

    Attributes:
        name: of the model, as results name it.
        recipe: name of its recipe.
        classes: class names in the order of the labels.
        tile, overlap: of the training tiles, pixels.
        gsd: ground sampling distance it was trained at, metres per pixel; None if mixed or unknown.
        stretch: how pixels that are not 8-bit became 8-bit.
        licence: terms of the weights, if known.
        trained_on: the data in words, if known.
        data_sha256: of the images' names and labels it was trained on, if known.
        model: mmrotate's model dict, if it is not the recipe's own.
    """

    name: str
    recipe: str
    classes: tuple[str, ...]
    tile: int = 1024
    overlap: int = 200
    gsd: float | None = None
    stretch: str = "auto"
    licence: str | None = None
    trained_on: str | None = None
    data_sha256: str | None = None
    model: dict[str, Any] | None = None


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
    # a single entry: safetensors writes several in any order
    metadata = {_CARD_KEY: json.dumps({"version": CARD_VERSION, **asdict(card)}, sort_keys=True)}
    with atomic_path(path) as scratch:
        scratch.write_bytes(save(tensors, metadata))


def read_state(path: Path) -> tuple[State, dict[str, Any]]:
    """All tensors of a weight file, tidied to this project's names and float32, and the data kept beside them.

    Raises:
        CheckpointError: if the file is missing, damaged, unsafe or holds no tensors.
    """
    kind = _file_kind(path)
    content, meta = _read_safetensors(path) if kind == "safetensors" else _read_pickle(path)
    state = tidy_state(content, path)
    if not state:
        raise CheckpointError(f"{path}: holds no tensors")
    # a sum shows NaN and infinity as well as a look at every value, ten times faster
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor.sum())]
    if broken:
        raise CheckpointError(f"{path}: NaN or infinite values in {_some(broken)}: its training diverged")
    return state, meta


def tidy_state(state: Mapping[str, Tensor], source: str | Path) -> State:
    """``state`` as weight files hold it here: floats in float32, without what training adds.

    That is wrappers' prefixes, batch counters, mmcv's EMA copies and tensors stored twice.

    Raises:
        CheckpointError: naming ``source``, if two tensors of one name differ.
    """
    while state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    tidy: State = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked") or re.match(r"ema_[^.]*$", name):
            continue
        name = re.sub(r"\.(LFEA|BGA)\.block\.", r".\1.conv2d.", name)
        if name in tidy and not torch.equal(tidy[name], tensor.float()):
            raise CheckpointError(f"{source}: holds two different tensors for {name}")
        tidy[name] = tensor.float() if tensor.is_floating_point() else tensor
    return tidy


def infer_recipe(state: State, path: str | Path) -> tuple[Recipe, int]:
    """The recipe (on DOTA-v1.0) and the number of classes that names and shapes of ``state`` speak of.

    Raises:
        CheckpointError: if they are of no known detector, or of a backbone alone.
    """
    prefix = "backbone." if any(name.startswith("backbone.") for name in state) else ""
    backbone = None
    for kind, tensor, per_width in (("LEGNet", "Stem.LoG.conv_init.weight", 4), ("UnravelNet", "Stem.proj.weight", 1)):
        if prefix + tensor in state:
            width = per_width * state[prefix + tensor].shape[0]
            backbone = next((b for b in BACKBONES.values() if (b.kind, b.stem_dim) == (kind, width)), None)
    if backbone is None:
        raise CheckpointError(f"{path}: no LEGNet or UnravelNet of a known size ({', '.join(BACKBONES)})")
    if not any(name.partition(".")[0] in ("neck", "rpn_head", "roi_head", "bbox_head", "odm_head") for name in state):
        raise CheckpointError(f"{path}: holds only a {backbone.name} backbone: give a detector's weights")
    for detector, (tensor, extra) in _HEADS.items():
        if tensor in state:
            anchors = state["rpn_head.rpn_cls.weight"].shape[0] if "rpn_head.rpn_cls.weight" in state else 1
            regression = state.get("rpn_head.rpn_reg.weight", torch.zeros(0)).shape[0]
            if detector == "oriented-rcnn" and regression == 4 * anchors:
                detector = "rotated-faster-rcnn"
            return get_recipe(f"{detector}/{backbone.name}"), state[tensor].shape[0] - extra
    raise CheckpointError(f"{path}: unknown detection head: `legnet models` lists those")


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    """Refuse ``state`` unless it has exactly the names and shapes of ``expected`` (counters of batches aside).

    Raises:
        CheckpointError: naming the first few tensors that are missing, left over or misshapen.
    """
    state, expected = (
        {k: v for k, v in side.items() if not k.endswith("num_batches_tracked")} for side in (state, expected)
    )
    faults = {
        "missing": [k for k in expected if k not in state],
        "unexpected": [k for k in state if k not in expected],
        "of another shape": [
            f"{k} {list(state[k].shape)} for {list(v.shape)}"
            for k, v in expected.items()
            if k in state and state[k].shape != v.shape
        ],
    }
    listed = [f"{len(names)} {fault} ({_some(names)})" for fault, names in faults.items() if names]
    if listed:
        raise CheckpointError(f"{what}: tensors do not fit: {'; '.join(listed)}")


def _some(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")


def _file_kind(path: Path) -> str:
    """``safetensors`` or ``pickle`` by the first bytes, whatever the suffix."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a folder: give the weight file in it") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read it ({error.strerror})") from None
    if not head:
        raise CheckpointError(f"{path}: is empty: download it again")
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith((b"PK\x03\x04", b"\x80")):  # torch.save, new and old
        return "pickle"
    hint = "a web page or a Git LFS pointer? Download the file itself" if head.isascii() else "download it again"
    raise CheckpointError(f"{path}: not a weight file (.pth or .safetensors): {hint}")


def _read_safetensors(path: Path) -> tuple[State, dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is damaged or truncated: download it again ({error})") from None


def _read_pickle(path: Path) -> tuple[State, dict[str, Any]]:
    try:
        with torch.serialization.safe_globals(_harmless_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    # damaged bytes make the unpickler fail in any way it likes
    except Exception as error:
        refused = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused:
            advice = "loading it would run code: ask for a file that holds only tensors"
            raise CheckpointError(f"{path}: refused, it needs {refused[1]}: {advice}") from None
        raise CheckpointError(
            f"{path}: is damaged, truncated or not a PyTorch weight file: download it again"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a state dict")
    inner = next((content[key] for key in ("state_dict", "model") if isinstance(content.get(key), dict)), content)
    meta = content.get("meta")
    return {k: v for k, v in inner.items() if isinstance(v, Tensor)}, meta if isinstance(meta, dict) else {}


def _harmless_globals() -> list[Any]:
    """numpy's own constructors, met in the meta data of mmcv's checkpoints under the names of numpy 1 and 2."""
    multiarray = np.zeros(0).__reduce__()[0].__module__
    functions = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(0).__reduce__()[0]}
    harmless: list[Any] = [np.dtype, np.ndarray]
    harmless += [type(np.dtype(kind)) for kind in "?bhilqBHILQefdSU"]
    for module in {multiarray, "numpy.core.multiarray", "numpy._core.multiarray"}:
        harmless += [_renamed(function, module, name) for name, function in functions.items()]
    return harmless


def _renamed(function: Any, module: str, name: str) -> Callable[..., Any]:  # noqa: ANN401
    def call(*args: Any) -> Any:  # noqa: ANN401
        return function(*args)

    call.__module__, call.__name__, call.__qualname__ = module, name, name
    return call


def _read_card(meta: Mapping[str, Any], path: Path) -> ModelCard:
    try:
        values = json.loads(meta[_CARD_KEY])
        version = values["version"]
        card = ModelCard(**{f.name: values[f.name] for f in fields(ModelCard) if f.name in values})
        card = replace(card, classes=tuple(card.classes))
        if not all(isinstance(name, str) for name in card.classes):
            raise TypeError
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CheckpointError(f"{path}: its model card is damaged: download it again") from None
    if version > CARD_VERSION:
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
    if isinstance(names, (list, tuple)) and len(names) == count:
        return tuple(str(name) for name in names)
    dataset = next((d for d in DATASETS.values() if len(d.classes) == count > 1), None)
    source = f"those of {dataset.title}, which has as many" if dataset else "numbers"
    logger.warning("%s has no class names for its %d classes; using %s", path.name, count, source)
    return dataset.classes if dataset else tuple(f"class_{i}" for i in range(count))
