"""Which parts the graph of a detector is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.detectors.export.dense import OrientedDense
from legnet_cli.detectors.export.graph import DetectorGraph
from legnet_cli.detectors.export.two_stage import TwoStageGraph
from legnet_cli.detectors.fast.oriented_rcnn import OrientedRCNN
from legnet_cli.detectors.metadata import ExportOptions
from legnet_cli.detectors.networks import Network
from legnet_cli.detectors.weights.tensors import State


def detector_graph(
    detector: str,
    config: dict[str, Any],
    state: State,
    options: ExportOptions,
    tiles: Sequence[NDArray[np.uint8]] = (),
) -> DetectorGraph:
    """The graph to be built.

    Args:
        detector: of ``recipes.DETECTORS``.
        config: its mmrotate model dict.
        state: its weights.
        options: what the file is fixed to.
        tiles: RGB images (H, W, 3) that set the ranges of box heads in int8.
    """
    int8, dtype = options.precision == "int8", torch.float16 if options.precision == "fp16" else torch.float32
    if detector == "oriented-rcnn":
        network = OrientedRCNN(config, state, device="cpu", dtype=dtype)
        ranges = input_ranges(network, tiles) if int8 else []
        return TwoStageGraph(config, OrientedDense(network), [network.roi_head.bbox_head], options, ranges)
    # these are mmrotate's
    from legnet_cli.detectors.export.heads import ONE_STAGE, ProposalDense
    from legnet_cli.detectors.export.one_stage import OneStageGraph
    from legnet_cli.detectors.mmrotate.build import MMRotateDetector

    if detector in ONE_STAGE:
        return OneStageGraph(config, ONE_STAGE[detector](config, state, dtype), options)
    ranges = input_ranges(MMRotateDetector(config, state, device=torch.device("cpu")), tiles) if int8 else []
    dense = ProposalDense(config, state, dtype)
    return TwoStageGraph(config, dense, dense.box_heads(), options, ranges)


def input_ranges(network: Network, tiles: Sequence[NDArray[np.uint8]]) -> list[tuple[float, float]]:
    """Least and largest input of each hidden layer of the box heads on images (H, W, 3)."""
    ranges = []
    for layer in (layer for name, layer in network.layers().items() if ".shared_fcs." in name):
        seen: list[float] = []

        def look(_: torch.nn.Module, inputs: tuple[torch.Tensor], seen: list[float] = seen) -> None:
            seen.extend(extreme.item() for extreme in inputs[0].aminmax())

        ranges.append((layer.register_forward_pre_hook(look), seen))
    for tile in tiles:
        network.detect(torch.from_numpy(tile[None]))
    for handle, _ in ranges:
        handle.remove()
    return [(min(seen, default=0.0), max(seen, default=0.0)) for _, seen in ranges]
