"""From the name of weights to a detector that takes pixels: the one entry point for inference."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from legnet_cli.boxes import Detections
from legnet_cli.detectors import engines
from legnet_cli.detectors.devices import NetworkPrecision, choose_device, choose_precision
from legnet_cli.detectors.engines import (
    ONNXRUNTIME,
    OPENVINO,
    TORCH,
    check_engine,
    engine_of,
    measured_engine,
    needs_export,
    prepare_compiling,
)
from legnet_cli.detectors.export.cache import kept_export
from legnet_cli.detectors.fast.kernels import DIRECT
from legnet_cli.detectors.fast.oriented_rcnn import OrientedRCNN
from legnet_cli.detectors.measured import network_key
from legnet_cli.detectors.metadata import is_exported
from legnet_cli.detectors.networks import AUTO, Network, build_network
from legnet_cli.detectors.precision import refuse_slower
from legnet_cli.detectors.runtimes import onnx_providers, open_exported
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import Checkpoint, read_checkpoint
from legnet_cli.detectors.weights.fetch import WEIGHTS, DownloadProgress, fetch, sha256
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.errors import CheckpointError, ConfigError, DependencyError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Detector:
    """Weights on a device, ready to search images.

    Attributes:
        card: classes, recipe, tile size and more.
        device: where it runs.
        precision: fp32, bf16 or fp16, as chosen for ``auto``; an exported file may also be int8.
        search: detections in each of uint8 images (B, H, W, 3) that are on the device.
        network: the PyTorch network that searches, if it is one.
        engine: torch, onnxruntime or openvino.
        key: of the network in PyTorch, under which measurements of it are kept.
        fixed_kernels: how layers are computed where there is not one network to choose for.
    """

    card: ModelCard
    device: torch.device
    precision: str
    search: Callable[[Tensor], list[Detections]] = field(repr=False)
    network: Network | None = field(default=None, repr=False)
    engine: str = TORCH
    key: str = ""
    fixed_kernels: str = DIRECT

    @property
    def kernels(self) -> str:
        """How layers are computed, see ``fast.kernels``."""
        return self.network.kernels if isinstance(self.network, OrientedRCNN) else self.fixed_kernels

    def detect(self, images: NDArray[np.uint8]) -> list[Detections]:
        """Detections in pixels in each of the images, RGB (B, H, W, 3) of any size, best first.

        Raises:
            DependencyError: if the device has too little memory for so many images of that size.
        """
        if len(images) == 0:
            return []
        batch = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cpu":  # one by one: a batch gains nothing there, and would change the last digits
            return [found for i in range(len(batch)) for found in self.search(batch[i : i + 1])]
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        try:
            return self.search(batch.to(self.device, non_blocking=True))
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
    kernels: str = AUTO,
    tile: int | None = None,
    compile: bool = False,
    force_precision: bool = False,
    score_threshold: float | None = 0.05,
    max_detections: int = 2000,
    progress: DownloadProgress | None = None,
) -> Detector:
    """Load weights and the detector they are of.

    Args:
        weights: name of published weights, file (an exported one too) or http(s) URL.
        recipe: refuse weights of another detector or backbone than this recipe's.
        classes: names of the classes, where the file's own are wrong or missing.
        device: ``auto`` (CUDA where there is one, else the CPU), cpu, cuda, cuda:N or mps.
        precision: fp32, bf16, fp16, or ``auto``, see :func:`choose_precision`.
        engine: torch, onnxruntime or openvino (see ``engines``); ``auto`` is the runtime of its format for an exported
            file, else the one that ``legnet benchmark --tune`` has found to be the fastest on this CPU, or PyTorch.
        kernels: how layers are computed on a CPU: ``auto`` as measured on this machine (see ``tuning``) or else by the
            kind of CPU, ``default`` by that alone, ``direct`` by PyTorch's own layers, or a choice of ``fast.kernels``.
        tile: side of the images that the choice of engine and kernels is for; the card's by default.
        compile: compile the network, which takes minutes at first: for GPUs and many images.
        force_precision: take a precision that a CPU computes more slowly than fp32.
        score_threshold: lowest score kept, 0 to 1; None for the least threshold of the card.
        max_detections: most boxes per image.
        progress: told the bytes so far and in all during a download.

    Raises:
        CheckpointError: if the weights cannot be had, read or used.
        ConfigError: for an unknown recipe, device or precision, settings that do not go together, or a precision that
            would be slower.
        DependencyError: if the device or a package is absent.
    """
    place = choose_device(device, engine)
    check_engine(engine, str(weights), precision=precision, compile=compile, device=place)
    if is_exported(weights):
        if precision != "auto" or compile:
            flag = f"--precision {precision}" if precision != "auto" else "--compile"
            raise ConfigError(f"{flag}: {weights} is fixed as it was exported: leave the flag out")
        path = fetch(weights, progress)
        return _open_file(path, place, recipe, classes, score_threshold, max_detections, device, engine)
    chosen = choose_precision(precision, place)
    if compile:
        prepare_compiling()
    checkpoint = load_checkpoint(weights, classes, progress)
    score_threshold = _least(checkpoint.card, score_threshold)
    _check_recipe(weights, checkpoint.card, recipe)
    side = tile or checkpoint.card.tile
    if engine == engines.AUTO and place.type == "cpu" and chosen == "fp32" and kernels == AUTO and not compile:
        engine = measured_engine(network_key(checkpoint.state), side)
    try:
        if place.type == "cpu" and chosen != "fp32" and not force_precision:
            refuse_slower(checkpoint, chosen)
        if needs_export(engine):
            if engine == ONNXRUNTIME:
                onnx_providers(place, chosen=device != "auto")  # refused before the export, not after it
            path = kept_export(checkpoint, sha256(fetch(weights)), str(weights), score_threshold, max_detections)
            return _open_file(path, place, None, None, score_threshold, max_detections, device, engine)
        return build_detector(
            checkpoint,
            place,
            chosen,
            kernels=kernels,
            tile=side,
            compile=compile,
            score_threshold=score_threshold,
            max_detections=max_detections,
        )
    except CheckpointError as error:
        raise CheckpointError(f"{weights}: {error}") from None


def load_checkpoint(
    weights: str | Path, classes: Sequence[str] | None = None, progress: DownloadProgress | None = None
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


def _least(card: ModelCard, asked: float | None) -> float:
    return float(card.thresholds(asked).min())


def _check_recipe(weights: str | Path, card: ModelCard, recipe: str | None) -> None:
    if recipe is None:
        return
    wanted, found = (get_recipe(name) for name in (recipe, card.recipe))
    if (wanted.detector, wanted.backbone) != (found.detector, found.backbone):
        raise CheckpointError(f"{weights}: weights of {card.recipe}, not of {recipe}")


def _open_file(
    path: Path,
    place: torch.device,
    recipe: str | None,
    classes: Sequence[str] | None,
    score_threshold: float | None,
    max_detections: int,
    asked: str,
    engine: str,
) -> Detector:
    """The detector of a file that ``legnet export`` wrote."""
    model, place = open_exported(path, place, chosen=asked != "auto", openvino=engine == OPENVINO)
    _check_recipe(path, model.card, recipe)
    if classes and len(classes) != len(model.card.classes):
        known = len(model.card.classes)
        raise CheckpointError(f"{path}: has {known} classes, but {len(classes)} names were given")
    lowest_score = _least(model.card, score_threshold)
    if lowest_score < model.facts.score_threshold:
        lowest = model.facts.score_threshold
        logger.warning("%s gives no box under its own threshold %g: export with a lower one", path, lowest)

    def search(images: Tensor) -> list[Detections]:
        return model.search(images, lowest_score, max_detections)

    card = replace(model.card, classes=tuple(classes or model.card.classes))
    return Detector(card, place, model.facts.precision, search, engine=engine_of(path, engine))


def build_detector(
    checkpoint: Checkpoint,
    device: torch.device,
    precision: NetworkPrecision = "fp32",
    *,
    kernels: str = AUTO,
    tile: int | None = None,
    compile: bool = False,
    score_threshold: float = 0.05,
    max_detections: int = 2000,
) -> Detector:
    """The detector of weights in memory; arguments as of :func:`load_detector`.

    Raises:
        CheckpointError: if names or shapes of the tensors do not fit the recipe.
        DependencyError: if the detector needs mmrotate and that is absent.
    """
    network = build_network(
        checkpoint,
        device,
        precision,
        kernels=kernels,
        tile=tile,
        compile=compile,
        score_threshold=score_threshold,
        max_detections=max_detections,
    )
    return Detector(checkpoint.card, device, precision, network.detect, network, key=network_key(checkpoint.state))
