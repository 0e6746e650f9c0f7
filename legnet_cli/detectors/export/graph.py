"""A detector as one ONNX graph: uint8 RGB images in, boxes out, standard operators only.

The convolutions are exported by PyTorch (``dense``); everything after them is written operator by operator,
for PyTorch's exporters know neither rotated boxes nor lists whose length depends on the image.

Input ``images`` uint8 (B, H, W, 3); outputs ``boxes`` (n, 5) float32 ``cx, cy, w, h, angle`` (pixels and radians,
``le90``), ``scores`` (n,) float32, ``labels`` (n,) int64 and ``batch`` (n,) int64, the image each box is of. Boxes
are sorted by image, then by falling score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from legnet_cli.detectors.export.box_operators import RotatedNms
from legnet_cli.detectors.export.dense import Dense
from legnet_cli.detectors.export.onnx_builder import Graph, Value
from legnet_cli.detectors.metadata import ExportOptions
from legnet_cli.detectors.weights.recipes import MEAN, STRIDE


class DetectorGraph:
    """Puts the parts together; what is particular to a kind of detector is in its :meth:`find`.

    Args:
        config: mmrotate model dict.
        dense: what the maps that :meth:`find` gets are the outputs of.
        options: what the graph is fixed to.
    """

    def __init__(self, config: Mapping[str, Any], dense: Dense, options: ExportOptions) -> None:
        self.cfg, self.dense, self.options = config, dense, options
        self.graph = Graph()

    def build(self, model: onnx.ModelProto, metadata: dict[str, str]) -> onnx.ModelProto:
        """The whole model around ``model``, the exported ``dense``."""
        graph, kinds = self.graph, self.dense.kinds()
        shape: list[int | str] = [1, *self.options.size, 3] if self.options.size else ["batch", "height", "width", 3]
        images = graph.input("images", "u", shape)
        height, width = images.size(1), images.size(2)
        half = self.dense.dtype.itemsize == 2
        x = self._prepare(images, height, width).cast("h" if half else "f")
        found = self.find(graph.absorb(model, {"x": x}, kinds), (height, width), images.size(0))
        for name, value in zip(("boxes", "scores", "labels", "batch"), found, strict=True):
            graph.output(name, value, ["n", 5] if name == "boxes" else ["n"])
        return graph.model(str(self.cfg["type"]), metadata)

    def find(self, maps: dict[str, Value], size: tuple[Value, Value], images: Value) -> list[Value]:
        """Boxes, scores, labels and images of the ``images`` (1,) of ``size``, from the outputs of the dense part."""
        raise NotImplementedError

    def _prepare(self, images: Value, height: Value, width: Value) -> Value:
        """Centred images (B, 3, H', W'), zeros below and right up to a multiple of 32."""
        graph = self.graph
        x = (images.cast("f") - np.array(MEAN)).transpose(0, 3, 1, 2)
        below, right = ((-size) % STRIDE for size in (height, width))
        pads = graph.concat([graph.constant([0] * 6, "i"), below, right], 0)
        return x.op("Pad", pads, graph.constant(0.0, "f"))

    def select(
        self, boxes: Sequence[Value], image: Value, scores: Value, label: Value, classes: int, images: Value
    ) -> list[Value]:
        """Final boxes, scores, labels and images of candidates (n,), after NMS class by class.

        Args:
            boxes: five columns.
            image, scores, label: of each.
            classes: how many there are.
            images: how many there are, (1,).
        """
        graph, rules = self.graph, self.cfg["test_cfg"]
        scores, order = scores.largest(scores.size(0), 0)
        boxes, image, label = [column.take(order) for column in boxes], image.take(order), label.take(order)
        threshold = rules.get("rcnn", rules)["nms"]["iou_thr"]
        keep = RotatedNms(boxes, image * classes + label, threshold).keep()
        # (B, k): the kept boxes of each image, and the rank of each of them there
        numbers = graph.op("Range", graph.constant(0, "i"), images.squeeze(0), graph.constant(1, "i"))
        mine = numbers.unsqueeze(1).equals(image.take(keep).unsqueeze(0))
        rank = mine.cast("i").op("CumSum", graph.constant(1, "i"))
        batch, position = (mine & (rank <= self.options.max_detections)).op("NonZero").columns(0, 2)
        final = keep.take(position)
        return [graph.stack(boxes, 1).take(final), scores.take(final), label.take(final), batch]
