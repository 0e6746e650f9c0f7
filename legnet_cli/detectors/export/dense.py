"""The convolutions of a detector as an ONNX model, in float32, float16 or int8: what PyTorch exports well."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from legnet_cli.backbones._layers import Exportable
from legnet_cli.detectors.export.onnx_builder import OPSET
from legnet_cli.detectors.fast.fold import fold_after
from legnet_cli.detectors.fast.oriented_rcnn import OrientedRCNN
from legnet_cli.detectors.weights.recipes import MEAN, STRIDE

_INT8_PRODUCTS = 256  # of a filter: 3 × 3 windows of 29 channels and more


class Dense(nn.Module):
    """What PyTorch exports of a detector: centred images (B, 3, H, W), sides multiples of 32, to maps.

    Attributes:
        names: of the outputs.
        dtype: of the images.
        precise: those outputs whose last convolutions stay in float32 beside int8 ones.
    """

    names: list[str]
    dtype: torch.dtype
    precise: set[str]

    def kinds(self) -> dict[str, str]:
        """Outputs and their kinds, as of :mod:`onnx_builder`."""
        raise NotImplementedError

    def _make_exportable(self) -> None:
        """Rewrite modules into what exporters know; outputs stay the same."""
        for module in list(self.modules()):
            if isinstance(module, Exportable):
                for conv, norm in module.make_exportable():
                    fold_after(cast(nn.Conv2d, module.get_submodule(conv)), module, norm)
        self.eval().requires_grad_(False)


class OrientedDense(Dense):
    """Oriented R-CNN's: pyramid levels, then logits, then offsets of anchors.

    Takes over the modules of ``network``.
    """

    def __init__(self, network: OrientedRCNN) -> None:
        super().__init__()
        self.backbone, self.neck, self.rpn_head = network.backbone, network.neck, network.rpn_head
        self._make_exportable()
        self.extra, self.neck.extra = self.neck.extra, 0
        self.dtype = network.dtype
        levels, logits, offsets = level_names(len(network.cfg["rpn_head"]["anchor_generator"]["strides"]))
        self.names, self.precise = [*levels, *logits, *offsets], {*logits, *offsets}

    def kinds(self) -> dict[str, str]:
        """As of :class:`Dense`."""
        return dict.fromkeys(self.names, "h" if self.dtype == torch.float16 else "f")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        levels = self.neck(self.backbone(x))
        for _ in range(self.extra):  # every other pixel; a slice of steps makes the tracer assume even sides
            levels.append(functional.max_pool2d(levels[-1], 1, 2))
        outputs = [self.rpn_head(level) for level in levels]
        return (*levels, *(logits for logits, _ in outputs), *(offsets for _, offsets in outputs))


def level_names(levels: int, *kinds: str) -> list[list[str]]:
    """Names of outputs, one for each level of each kind: ``level``, ``logits`` and ``offsets`` unless given."""
    return [[f"{kind}{i}" for i in range(levels)] for kind in kinds or ("level", "logits", "offsets")]


def centred(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An RGB image (H, W, 3) as a :class:`Dense` takes it, (1, 3, H', W')."""
    height, width = tile.shape[:2]
    x = np.pad(tile - np.array(MEAN, np.float32), [(0, -height % STRIDE), (0, -width % STRIDE), (0, 0)])
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None], np.float32)


def padded(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width rounded up to what the network takes."""
    return size[0] + -size[0] % STRIDE, size[1] + -size[1] % STRIDE


def export_dense(dense: Dense, size: tuple[int, int] | None) -> onnx.ModelProto:
    """``dense`` as a model of ``x``: (B, 3, H, W), sides multiples of 32.

    Args:
        dense: on the CPU, in the precision wanted.
        size: height and width of the only image it takes; None for any number of any size.
    """
    batch, height, width = (1, *padded(size)) if size else (2, 128, 192)
    x = torch.zeros(batch, 3, height, width, dtype=dense.dtype)
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # that this exporter is the older one: it needs no further package
        torch.onnx.export(
            dense,
            (x,),
            str(Path(folder, "dense.onnx")),
            input_names=["x"],
            output_names=dense.names,
            opset_version=OPSET,
            dynamo=False,
            dynamic_axes=None if size else {"x": {0: "batch", 2: "height", 3: "width"}},
        )
        return onnx.load(str(Path(folder, "dense.onnx")))


def quantise(model: onnx.ModelProto, precise: set[str], images: list[NDArray[np.float32]]) -> onnx.ModelProto:
    """``model`` with its convolutions in int8: weights by output channel, activations by the range seen on ``images``.

    Convolutions that sum up few products stay in float32: they cost little, and 8 bits of their narrow inputs cost
    most of the accuracy. So do those that outputs come out of.

    Args:
        model: of :func:`export_dense`, in float32.
        precise: names of these outputs.
        images: what it is fed with, (1, 3, H, W) each.
    """
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Hands the images out one by one."""

        def __init__(self) -> None:
            self._rest: Iterator[NDArray[np.float32]] = iter(images)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            """The next one, as the quantiser asks for it."""
            image = next(self._rest, None)
            return None if image is None else {"x": image}

    products = {tensor.name: int(np.prod(tensor.dims[1:])) for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    narrow = [node.name for node in convolutions if products.get(node.input[1], 0) < _INT8_PRODUCTS]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, source)
        level = logging.root.level
        logging.disable(logging.WARNING)  # it advises on the root logger
        try:
            quantization.quantize_static(
                source,
                target,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=narrow + _before(model, precise),
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )
        finally:
            logging.disable(logging.NOTSET)
            logging.root.setLevel(level)
        return onnx.load(target)


def _before(model: onnx.ModelProto, outputs: set[str]) -> list[str]:
    """Names of the convolutions that the named outputs come out of, without another one in between."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found, waiting, seen = [], list(outputs), set(outputs)
    while waiting:
        node = makers.get(waiting.pop())
        if node is None:
            continue
        if node.op_type == "Conv":
            found.append(node.name)
        else:
            waiting.extend(set(node.input) - seen)
            seen.update(node.input)
    return found
