"""From the name of weights to a detector that takes pixels: the one entry point for inference."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from legnet_cli.boxes import Detections
from legnet_cli.detectors.engines import (
    ONNXRUNTIME,
    OPENVINO,
    TORCH,
    check_engine,
    engine_of,
    kept_export,
    needs_export,
    prepare_compiling,
)
from legnet_cli.detectors.exported import is_exported, onnx_providers, open_exported
from legnet_cli.detectors.fast.cpu import fast_products, slow_bf16
from legnet_cli.detectors.stages import StageObserver
from legnet_cli.detectors.weights.checkpoint import Checkpoint, ModelCard, read_checkpoint
from legnet_cli.detectors.weights.fetch import WEIGHTS, Progress, fetch, sha256
from legnet_cli.detectors.weights.recipes import BACKBONES, DETECTORS, get_recipe, model_config
from legnet_cli.errors import CheckpointError, ConfigError, DependencyError

logger = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Network(Protocol):
    """What a detector runs, as far as those see into it who measure it."""

    def observed(self, observer: StageObserver) -> AbstractContextManager[None]:
        """Report the stages of each search to ``observer`` inside a ``with`` body; one may hold another."""

    def layers(self) -> dict[str, nn.Module]:
        """Convolutions and linear layers by name."""


@dataclass(frozen=True)
class Detector:
    """Weights on a device, ready to search images.

    Attributes:
        card: classes, recipe, tile size and more.
        device: where it runs.
        precision: fp32, bf16 or fp16, as chosen for ``auto``; an exported file may also be int8.
        network: the PyTorch network that searches, if it is one.
        engine: torch, onnxruntime or openvino.
    """

    card: ModelCard
    device: torch.device
    precision: str
    _search: Callable[[Tensor], list[Detections]] = field(repr=False)
    network: Network | None = field(default=None, repr=False)
    engine: str = TORCH

    def detect(self, images: NDArray[np.uint8]) -> list[Detections]:
        """Detections in pixels in each of the images, RGB (B, H, W, 3) of any size, best first.

        Raises:
            DependencyError: if the device has too little memory for so many images of that size.
        """
        if len(images) == 0:
            return []
        batch = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cpu":  # one by one: a batch gains nothing there, and would change the last digits
            return [found for i in range(len(batch)) for found in self._search(batch[i : i + 1])]
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        try:
            return self._search(batch.to(self.device, non_blocking=True))
        except torch.OutOfMemoryError:
            count, height, width = images.shape[:3]
            tiles = f"{count} tiles of {width} × {height}"
            raise DependencyError(
                f"{self.device}: out of memory with {tiles}: give a smaller --batch or --tile"
            ) from None


def load_detector(
    weights: str | Path,
    *,
    recipe: str | None = None,
    classes: Sequence[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    compile: bool = False,
    score_threshold: float = 0.05,
    max_detections: int = 2000,
    progress: Progress | None = None,
) -> Detector:
    """Load weights and the detector they are of.

    Args:
        weights: name of published weights, file (an exported one too) or http(s) URL.
        recipe: refuse weights of another detector or backbone than this recipe's.
        classes: names of the classes, where the file's own are wrong or missing.
        device: ``auto`` (CUDA where there is one, else the CPU), cpu, cuda, cuda:N or mps.
        precision: fp32, bf16, fp16, or ``auto``, see :func:`choose_precision`.
        engine: torch, onnxruntime or openvino (see ``engines``); ``auto`` is PyTorch for weights, and for an exported
            file the runtime of its format.
        compile: compile the network, which takes minutes at first: for GPUs and many images.
        score_threshold: lowest score kept, 0 to 1.
        max_detections: most boxes per image.
        progress: told the bytes so far and in all during a download.

    Raises:
        CheckpointError: if the weights cannot be had, read or used.
        ConfigError: for an unknown recipe, device or precision, or settings that do not go together.
        DependencyError: if the device or a package is absent.
    """
    place = choose_device(device, engine)
    check_engine(engine, str(weights), precision=precision, compile=compile, device=place)
    if is_exported(weights):
        if precision != "auto" or compile:
            flag = f"--precision {precision}" if precision != "auto" else "--compile"
            raise ConfigError(f"{flag}: {weights} is fixed as it was exported: leave the flag out")
        path = fetch(weights, progress)
        return _exported(path, place, recipe, classes, score_threshold, max_detections, device, engine)
    chosen = choose_precision(precision, place)
    if compile:
        prepare_compiling()
    checkpoint = load_checkpoint(weights, classes, progress)
    _check_recipe(weights, checkpoint.card, recipe)
    try:
        if needs_export(engine):
            if engine == ONNXRUNTIME:
                onnx_providers(place, chosen=device != "auto")  # refused before the export, not after it
            path = kept_export(checkpoint, sha256(fetch(weights)), str(weights), score_threshold, max_detections)
            return _exported(path, place, None, None, score_threshold, max_detections, device, engine)
        return build_detector(
            checkpoint,
            place,
            chosen,
            compile=compile,
            score_threshold=score_threshold,
            max_detections=max_detections,
        )
    except CheckpointError as error:
        raise CheckpointError(f"{weights}: {error}") from None


def load_checkpoint(
    weights: str | Path, classes: Sequence[str] | None = None, progress: Progress | None = None
) -> Checkpoint:
    """Tensors and card of weights; arguments and errors as of :func:`load_detector`."""
    published = WEIGHTS.get(str(weights))
    if published and published.backbone_only:
        raise CheckpointError(f"{weights}: holds only a backbone, to train from: give a detector's weights")
    checkpoint = read_checkpoint(fetch(weights, progress), classes)
    if published:
        card = replace(checkpoint.card, name=str(weights), licence=published.licence)
        checkpoint = replace(checkpoint, card=card)
    return checkpoint


def _check_recipe(weights: str | Path, card: ModelCard, recipe: str | None) -> None:
    if recipe is not None and _network_name(recipe) != _network_name(card.recipe):
        raise CheckpointError(f"{weights}: weights of {card.recipe}, not of {recipe}")


def _exported(
    path: Path,
    place: torch.device,
    recipe: str | None,
    classes: Sequence[str] | None,
    score_threshold: float,
    max_detections: int,
    asked: str,
    engine: str,
) -> Detector:
    """The detector of a file that ``legnet export`` wrote."""
    model, place = open_exported(path, place, chosen=asked != "auto", openvino=engine == OPENVINO)
    _check_recipe(path, model.card, recipe)
    if classes and len(classes) != len(model.card.classes):
        known = len(model.card.classes)
        raise CheckpointError(f"{path}: it tells {known} classes apart, but {len(classes)} class names were given")
    if score_threshold < model.facts.score_threshold:
        lowest = model.facts.score_threshold
        logger.warning("%s gives no box under its own threshold %g: export with a lower one", path, lowest)

    def search(images: Tensor) -> list[Detections]:
        return model.search(images, score_threshold, max_detections)

    card = replace(model.card, classes=tuple(classes or model.card.classes))
    return Detector(card, place, model.facts.precision, search, engine=engine_of(path, engine))


def build_detector(
    checkpoint: Checkpoint,
    device: torch.device,
    precision: Precision = "fp32",
    *,
    compile: bool = False,
    score_threshold: float = 0.05,
    max_detections: int = 2000,
) -> Detector:
    """The detector of weights in memory; arguments as of :func:`load_detector`.

    Raises:
        CheckpointError: if names or shapes of the tensors do not fit the recipe.
    """
    if precision == "bf16" and device.type == "cpu" and slow_bf16():
        logger.warning("--precision bf16: this CPU computes it more slowly than fp32: leave the flag out for speed")
    options = {"compile": compile, "score_threshold": score_threshold, "max_detections": max_detections}
    search, network = _network(checkpoint, device, precision, options)
    return Detector(checkpoint.card, device, precision, search, network)


def choose_device(name: str, engine: str = TORCH) -> torch.device:
    """The device called ``name``; ``auto`` is CUDA where there is one and the engine runs on it, else the CPU.

    Raises:
        ConfigError: if there is no such kind of device.
        DependencyError: if this PyTorch does not see it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() and engine != OPENVINO else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"--device {name}: choose auto, cpu, cuda, cuda:N or mps")
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[device.type]
    if present == 0:
        kind = {"cuda": "CUDA GPU", "mps": "Apple GPU"}[device.type]
        raise DependencyError(f"--device {name}: this PyTorch sees no {kind}; use --device cpu or run legnet doctor")
    if (device.index or 0) >= present:
        raise DependencyError(f"--device {name}: this PyTorch sees {present}, counted from 0; run legnet doctor")
    return device


def choose_precision(name: str, device: torch.device) -> Precision:
    """fp32, bf16 or fp16 for ``name``, which may be ``auto``.

    ``auto`` is fp32 everywhere: it keeps every box of the reference implementation. Halves are the user's choice: on
    the reference's test networks bf16 kept 35 to 82 % of the boxes within 0.95 IoU and 0.01 in score, although boxes
    are decoded in float32 at any precision. On GPUs with TF32, convolutions use it in fp32 (PyTorch's default).

    Raises:
        ConfigError: if there is no such precision, or not on ``device``.
    """
    if name == "auto":
        return "fp32"
    chosen = next((known for known in PRECISIONS if known == name), None)
    if chosen is None:
        raise ConfigError(f"--precision {name}: choose auto, {', '.join(PRECISIONS)}")
    if chosen == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 needs a GPU: use bf16 or fp32 on the CPU")
    return chosen


def _network_name(recipe: str) -> str:
    return get_recipe(recipe).name.partition("@")[0]


def _network(
    checkpoint: Checkpoint, device: torch.device, precision: Precision, options: dict[str, Any]
) -> tuple[Callable[[Tensor], list[Detections]], Network]:
    """The quickest way to run the detector of ``checkpoint``, and what runs."""
    config = network_config(checkpoint.card)
    if not is_fast(checkpoint.card):
        from legnet_cli.detectors.mmrotate.build import MMRotateDetector

        dtype = PRECISIONS[precision]
        slow = MMRotateDetector(config, checkpoint.state, device=device, dtype=dtype, **options)
        return slow.detect, slow
    # needs neither mmdet nor mmrotate, which take seconds to import
    from legnet_cli.detectors.fast.oriented_rcnn import OrientedRCNN

    network = OrientedRCNN(config, checkpoint.state, device=device, precision=precision, **options)

    if device.type == "cpu" and precision == "fp32" and not options["compile"] and fast_products():
        network.use_winograd()

    def search(images: Tensor) -> list[Detections]:
        return [
            Detections(boxes.double().cpu().numpy(), scores.float().cpu().numpy(), labels.long().cpu().numpy())
            for boxes, scores, labels in network.detect(images)
        ]

    return search, network


def network_config(card: ModelCard) -> dict[str, Any]:
    """mmrotate's model dict of the network that ``card`` describes."""
    return card.model or model_config(get_recipe(card.recipe), len(card.classes))


def is_fast(card: ModelCard) -> bool:
    """Whether the network is one that ``OrientedRCNN`` runs: a card's model may have other heads."""
    return network_config(card)["type"] == "OrientedRCNN" and stock_detector(card) is not None


def stock_detector(card: ModelCard) -> str | None:
    """Which of ``recipes.DETECTORS`` the network is: its model may differ from a recipe's in numbers alone."""
    if card.model is None:
        return get_recipe(card.recipe).detector
    kind = card.model["backbone"]["type"]
    size = next((b for b in BACKBONES.values() if b.kind == kind), None)
    if size is None:
        return None
    shape = _shape(card.model)
    return next((d for d in DETECTORS if _shape(model_config(get_recipe(f"{d}/{size.name}"), 1)) == shape), None)


def _shape(node: Any) -> Any:  # noqa: ANN401
    """``node`` without its numbers."""
    if isinstance(node, Mapping):
        return {key: _shape(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_shape(value) for value in node] if any(isinstance(v, (Mapping, str)) for v in node) else []
    return node if isinstance(node, (str, bool)) else None
