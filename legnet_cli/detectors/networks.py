"""The network of a checkpoint: which detector it is of, and the quickest way to run that."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from legnet_cli.boxes import Detections
from legnet_cli.detectors.devices import PRECISIONS, NetworkPrecision
from legnet_cli.detectors.fast.kernels import text_to_choice, usual_choice
from legnet_cli.detectors.fast.oriented_rcnn import OrientedLayers, OrientedRCNN
from legnet_cli.detectors.measured import network_key, read_measured
from legnet_cli.detectors.stages import StageObserver
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import Checkpoint
from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.random_weights import random_state
from legnet_cli.detectors.weights.recipes import BACKBONES, DETECTORS, Recipe, get_recipe
from legnet_cli.errors import ConfigError

AUTO, USUAL = "auto", "default"  # choices of kernels by name, besides ``direct``


class Network(Protocol):
    """What a detector runs: it searches images, and lets its stages and layers be measured."""

    def detect(self, images: Tensor) -> list[Detections]:
        """Detections in pixels in each of the images, uint8 RGB (B, H, W, 3), best first."""

    def observed(self, observer: StageObserver) -> AbstractContextManager[None]:
        """Report the stages of each search to ``observer`` inside a ``with`` body; one may hold another."""

    def layers(self) -> dict[str, nn.Module]:
        """Convolutions and linear layers by name."""


def build_network(
    checkpoint: Checkpoint,
    device: torch.device,
    precision: NetworkPrecision,
    *,
    compile: bool,
    score_threshold: float,
    max_detections: int,
    kernels: str = AUTO,
    tile: int | None = None,
) -> Network:
    """The quickest way to run the detector of ``checkpoint``; arguments as of ``OrientedRCNN``.

    ``kernels`` and ``tile`` are as of ``loader.load_detector``; on a CPU in float32, uncompiled, there is a choice.

    Raises:
        CheckpointError: if names or shapes of the tensors do not fit the recipe.
        DependencyError: if it runs through mmrotate and that is absent.
    """
    options: dict[str, Any] = {"device": device, "dtype": PRECISIONS[precision], "compile": compile}
    options |= {"score_threshold": score_threshold, "max_detections": max_detections}
    config = network_config(checkpoint.card)
    if not is_fast(checkpoint.card):
        from legnet_cli.detectors.mmrotate.build import MMRotateDetector

        return MMRotateDetector(config, checkpoint.state, **options)
    network = OrientedRCNN(config, checkpoint.state, **options)
    if device.type == "cpu" and not compile:
        network.work_in_strips()
    if device.type == "cpu" and precision == "fp32" and not compile:
        use_kernels(network, kernels, network_key(checkpoint.state), tile or checkpoint.card.tile)
    return network


def use_kernels(network: OrientedRCNN, asked: str, key: str, tile: int) -> None:
    """Have ``network``, of that key, compute its layers as ``asked``, on tiles of ``tile`` pixels.

    Raises:
        ConfigError: ``asked`` is neither a name nor a choice for its layers.
    """
    layers = network.choosable
    kept = read_measured(key, tile, torch.get_num_threads()).get("kernels") if asked == AUTO else None
    try:
        choice = None if kept is None else text_to_choice(str(kept), layers)
    except ConfigError:  # a damaged file
        choice = None
    if choice is None:
        choice = usual_choice(layers) if asked in (AUTO, USUAL) else text_to_choice(asked, layers)
    network.use_kernels(choice)


def random_checkpoint(recipe: Recipe) -> Checkpoint:
    """Random weights of ``recipe``, the same at each call.

    Raises:
        DependencyError: if its detector is one of mmrotate's and that is absent.
    """
    classes = recipe.dataset.classes
    card = ModelCard("random weights", recipe.name, classes, recipe.dataset.tile, recipe.dataset.overlap)
    config = network_config(card)
    if is_fast(card):
        with torch.device("meta"):
            names = OrientedLayers(config).state_dict()
    else:
        from legnet_cli.detectors.mmrotate.build import build_mmrotate

        names = build_mmrotate(config).state_dict()
    return Checkpoint(random_state(names), card)


def network_config(card: ModelCard) -> dict[str, Any]:
    """mmrotate's model dict of the network that ``card`` describes."""
    return card.model or model_config(get_recipe(card.recipe), len(card.classes))


def is_fast(card: ModelCard) -> bool:
    """Whether the network is one that ``OrientedRCNN`` runs: a card's model may have other heads."""
    return stock_detector(card) == "oriented-rcnn"


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
