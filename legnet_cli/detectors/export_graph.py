"""Oriented R-CNN as one ONNX graph: uint8 RGB images in, boxes out, standard operators only.

The convolutions are exported by PyTorch (:mod:`export_dense`); everything after them is written here, operator by
operator, for PyTorch's exporters know neither rotated boxes nor lists whose length depends on the image.

Input ``images`` uint8 (B, H, W, 3); outputs ``boxes`` (n, 5) float32 ``cx, cy, w, h, angle`` (pixels and radians,
``le90``), ``scores`` (n,) float32, ``labels`` (n,) int64 and ``batch`` (n,) int64, the image each box is of. Boxes
are sorted by image, then by falling score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import onnx
import torch
from torch import nn

from legnet_cli.detectors.export import ExportOptions
from legnet_cli.detectors.export_boxes import (
    RotatedNms,
    anchors,
    bounds,
    decode_box_offsets,
    decode_midpoint_offsets,
    positions,
    zeros,
)
from legnet_cli.detectors.export_dense import dense_names
from legnet_cli.detectors.onnx_builder import Graph, Value
from legnet_cli.detectors.oriented_rcnn import MEAN, STRIDE, OrientedRCNN
from legnet_cli.ops.roi_align import unit_samples

_NEVER = -1e30  # below every logit
_CHUNK = 16  # boxes whose feature rows are gathered at once: about what a cache holds


class DetectorGraph:
    """Puts the parts together.

    Args:
        network: whose configuration and box head are used.
        options: what the graph is fixed to.
        ranges: least and largest input of each hidden layer of the box head, to compute these in int8.
    """

    def __init__(
        self, network: OrientedRCNN, options: ExportOptions, ranges: Sequence[tuple[float, float]] = ()
    ) -> None:
        self._network, self._options, self._ranges = network, options, ranges
        self._cfg = network.cfg
        self._graph = Graph()

    def build(self, dense: onnx.ModelProto, metadata: dict[str, str]) -> onnx.ModelProto:
        """The whole model around the model of the convolutions."""
        graph = self._graph
        shape: list[int | str] = [1, *self._options.size, 3] if self._options.size else ["batch", "height", "width", 3]
        images = graph.input("images", "u", shape)
        height, width = images.size(1), images.size(2)
        kind = "h" if self._network.dtype == torch.float16 else "f"
        names = dense_names(len(self._cfg["rpn_head"]["anchor_generator"]["strides"]))
        kinds = {name: kind for part in names for name in part}
        maps = graph.absorb(dense, {"x": self._prepare(images, height, width).cast(kind)}, kinds)
        levels, logits, offsets = ([maps[name] for name in part] for part in names)
        boxes, image = self._propose([x.cast("f") for x in logits], [x.cast("f") for x in offsets])
        pooled, place = self._pool(levels, boxes, image)
        # back in the order of the proposals, which decides between equal scores
        scores, moves = (x.take(place) for x in self._classify(pooled))
        found = self._select(boxes, image, scores, moves, (height, width), images.size(0))
        for name, value in zip(("boxes", "scores", "labels", "batch"), found, strict=True):
            graph.output(name, value, ["n", 5] if name == "boxes" else ["n"])
        return graph.model("oriented_rcnn", metadata)

    def _prepare(self, images: Value, height: Value, width: Value) -> Value:
        """Centred images (B, 3, H', W'), zeros below and right up to a multiple of 32."""
        graph = self._graph
        x = (images.cast("f") - np.array(MEAN)).transpose(0, 3, 1, 2)
        below, right = ((-size) % STRIDE for size in (height, width))
        pads = graph.concat([graph.constant([0] * 6, "i"), below, right], 0)
        return x.op("Pad", pads, graph.constant(0.0, "f"))

    def _propose(self, logits: Sequence[Value], offsets: Sequence[Value]) -> tuple[list[Value], Value]:
        """Proposals of all images: five columns (r,) and their image (r,)."""
        graph, rules = self._graph, self._cfg["test_cfg"]["rpn"]
        parts = [self._best_anchors(level, *maps) for level, maps in enumerate(zip(logits, offsets, strict=True))]
        score, centre, size, moves = (graph.concat(part, 1) for part in zip(*parts, strict=True))
        level = graph.concat([self._filled(part[0].size(1), i) for i, part in enumerate(parts)], 0)
        boxes = decode_midpoint_offsets(centre, size, _scaled(moves, self._cfg["rpn_head"]["bbox_coder"]))
        if rules["min_bbox_size"] > 0:
            fits = (boxes[2] >= rules["min_bbox_size"]) & (boxes[3] >= rules["min_bbox_size"])
            score = fits.where(score, _NEVER)
        # levels are what this operator calls classes: (B, L, N), each box in its own
        levels = graph.constant(np.arange(len(parts))[:, None], "i")
        by_level = level.unsqueeze(0).equals(levels).unsqueeze(0).where(score.unsqueeze(1), _NEVER)
        selected = graph.ops(
            "NonMaxSuppression",
            [
                graph.stack(bounds(boxes), -1),
                by_level,
                score.size(1),
                graph.constant([rules["nms"]["iou_threshold"]], "f"),
                graph.constant([_NEVER / 2], "f"),
            ],
            ["i"],
        )[0]
        kept = selected.take([0, 2], 1)
        ones = graph.constant([1.0], "f").op("Expand", selected.size(0))
        mark = (score * 0.0).op("ScatterND", kept, ones) > 0.5
        limit = score.size(1).op("Min", rules["max_per_img"])
        ranked, index = mark.where(score, _NEVER).largest(limit, 1)
        image, rank = (ranked > _NEVER / 2).op("NonZero").columns(0, 2)
        chosen = graph.stack([image, index.op("GatherND", graph.stack([image, rank], 1), kind="i")], 1)
        return [column.op("GatherND", chosen) for column in boxes], image

    def _best_anchors(self, level: int, logits: Value, offsets: Value) -> tuple[Value, Value, Value, Value]:
        """Logits (B, k), centres, sizes (B, k, 2) and offsets (B, k, 6) of a level's best anchors."""
        grid = self._cfg["rpn_head"]["anchor_generator"]
        flat = logits.transpose(0, 2, 3, 1).reshape(0, -1)
        best, index = flat.largest(flat.size(1).op("Min", self._cfg["test_cfg"]["rpn"]["nms_pre"]), 1)
        moves = offsets.transpose(0, 2, 3, 1).reshape(0, -1, 6).op("GatherND", index.unsqueeze(-1), batch_dims=1)
        centre, size = anchors(index, logits.size(3), grid["strides"][level], grid["scales"], grid["ratios"])
        return best, centre, size, moves

    def _filled(self, count: Value, value: int) -> Value:
        return self._graph.constant([value], "i").op("Expand", count)

    def _pool(self, levels: Sequence[Value], boxes: list[Value], image: Value) -> tuple[Value, Value]:
        """Features (r, bins * C) by rotated RoI align as weighted rows, and which of them is each proposal's (r,)."""
        graph, rules = self._graph, self._cfg["roi_head"]["bbox_roi_extractor"]
        strides, how = rules["featmap_strides"], rules["roi_layer"]
        levels = levels[: len(strides)]
        size = (boxes[2] * boxes[3]).op("Sqrt") * (1 / rules.get("finest_scale", 56))
        level = ((size + 1e-6).op("Log") * (1 / np.log(2))).op("Floor").clip(0.0, float(len(strides) - 1))
        # by level, then from top to bottom: neighbours share feature rows in the cache
        _, order = (-(level * float(1 << 20) + boxes[1])).largest(level.size(0), 0)
        boxes, image, level = [c.take(order) for c in boxes], image.take(order), level.take(order).cast("i")
        heights, widths = (graph.concat([x.size(axis) for x in levels], 0) for axis in (2, 3))
        areas = heights * widths
        first = areas.op("CumSum", graph.constant(0, "i"), exclusive=1)
        total = areas.op("ReduceSum", keepdims=1)
        start = (image * total + first.take(level)).unsqueeze(1)
        scale = graph.constant([1 / s for s in strides], "f").take(level)
        index, weight = _samples(
            [*(c * scale for c in boxes[:4]), boxes[4]],
            (heights.take(level).unsqueeze(1), widths.take(level).unsqueeze(1)),
            (how["out_size"], how["sample_num"]),
            clockwise=how["clockwise"],
        )
        # (B, C, pixels of all levels) -> rows (B * pixels, C)
        channels = self._cfg["roi_head"]["bbox_head"]["in_channels"]
        flat = graph.concat([x.reshape(0, channels, -1) for x in levels], 2)
        rows = flat.transpose(0, 2, 1).reshape(-1, channels)
        bins = how["out_size"] ** 2
        pooled = self._gather(rows, index + start, weight, bins, 4 * how["sample_num"] ** 2, channels)
        return pooled, zeros(order).op("ScatterElements", order, positions(order), axis=0)

    def _gather(self, rows: Value, index: Value, weight: Value, bins: int, taps: int, channels: int) -> Value:
        """Weighted sums of rows, (r, bins * C), of numbers and weights (r, bins * taps), some boxes at a time."""
        graph = self._graph
        count = index.size(0)
        zero = graph.constant([0], "i")
        spare = graph.concat([zero, zero, (-count) % _CHUNK, zero], 0)
        index = index.op("Pad", spare, graph.constant(0, "i"))
        weight = weight.op("Pad", spare, graph.constant(0.0, "f"))

        def turn(number: Value, _: list[Value]) -> tuple[None, list[Value], list[Value]]:
            start = number.reshape(1) * _CHUNK
            numbers = index.slice(start, start + _CHUNK).reshape(_CHUNK * bins, taps)
            weights = weight.slice(start, start + _CHUNK).reshape(_CHUNK * bins, 1, taps)
            sums = weights.op("MatMul", rows.take(numbers).cast("f"))
            return None, [], [sums.reshape(_CHUNK, bins * channels)]

        pooled = graph.loop([], turn, (index.size(0) / _CHUNK).squeeze(0))[0]
        return pooled.reshape(-1, bins * channels).slice([0], count)

    def _classify(self, pooled: Value) -> tuple[Value, Value]:
        """Class scores (r, num_classes) and offsets (r, 5) of features (r, bins * C)."""
        head = self._network.roi_head.bbox_head
        x = pooled.cast("h" if self._network.dtype == torch.float16 else "f")
        for i, layer in enumerate(head.shared_fcs):
            linear = cast(nn.Linear, layer)
            x = (self._linear8(x, linear, *self._ranges[i]) if self._ranges else self._linear(x, linear)).op("Relu")
        x = x.cast("f")
        scores = self._linear(x, head.fc_cls).op("Softmax", axis=1)
        return scores.slice([0], [self._cfg["roi_head"]["bbox_head"]["num_classes"]], 1), self._linear(x, head.fc_reg)

    def _linear(self, x: Value, layer: nn.Linear) -> Value:
        weight, bias = (self._graph.constant(p.detach().float().cpu().numpy(), x.kind) for p in layer.parameters())
        return x.op("Gemm", weight, bias, transB=1)

    def _linear8(self, x: Value, layer: nn.Linear, low: float, high: float) -> Value:
        """:meth:`_linear` of inputs between two bounds, in int8, each output with a scale of its own."""
        weight = layer.weight.detach().numpy().T
        step = np.abs(weight).max(0).clip(1e-12) / 127
        whole = self._graph.constant(np.rint(weight / step), "s")
        zero = self._graph.constant(np.zeros_like(step), "s")
        product = x.rounded(low, high).op(
            "MatMul", whole.op("DequantizeLinear", self._graph.constant(step, "f"), zero, kind="f", axis=1)
        )
        return product + layer.bias.detach().numpy()

    def _select(
        self,
        boxes: list[Value],
        image: Value,
        scores: Value,
        moves: Value,
        size: tuple[Value, Value],
        images: Value,
    ) -> list[Value]:
        """Final boxes, scores, labels and images."""
        graph, head = self._graph, self._cfg["roi_head"]["bbox_head"]
        boxes = decode_box_offsets(boxes, _scaled(moves, head["bbox_coder"]).columns(1, 5), *size)
        roi, label = (scores > self._options.score_threshold).op("NonZero").columns(0, 2)
        found = scores.op("GatherND", graph.stack([roi, label], 1))
        found, order = found.largest(found.size(0), 0)
        roi, label = roi.take(order), label.take(order)
        boxes, image = [column.take(roi) for column in boxes], image.take(roi)
        threshold = self._cfg["test_cfg"]["rcnn"]["nms"]["iou_thr"]
        keep = RotatedNms(boxes, image * head["num_classes"] + label, threshold).keep()
        # (B, k): which kept box is of which image, and the how manieth of it
        numbers = graph.op("Range", graph.constant(0, "i"), images.squeeze(0), graph.constant(1, "i"))
        mine = numbers.unsqueeze(1).equals(image.take(keep).unsqueeze(0))
        rank = mine.cast("i").op("CumSum", graph.constant(1, "i"))
        batch, position = (mine & (rank <= self._options.max_detections)).op("NonZero").columns(0, 2)
        final = keep.take(position)
        return [graph.stack(boxes, 1).take(final), found.take(final), label.take(final), batch]


def _samples(
    boxes: list[Value], size: tuple[Value, Value], grid: tuple[int, int], *, clockwise: bool
) -> tuple[Value, Value]:
    """Row numbers and weights (r, bins * samples * 4) that average a map over the bins of boxes in its pixels.

    ``size`` is each box's map's height and width (r, 1); ``grid`` bins along a side and samples along a side of a bin.
    """
    graph = boxes[0].graph
    cx, cy, w, h, angle = (column.unsqueeze(1) for column in boxes)
    cos, sin = angle.op("Cos"), angle.op("Sin")
    sin = -sin if clockwise else sin
    unit_y, unit_x = (t.numpy()[None] for t in unit_samples((grid[0],) * 2, (grid[1],) * 2, torch.zeros(0)))
    y = cy - 0.5 + h * cos * unit_y - w * sin * unit_x
    x = cx - 0.5 + h * sin * unit_y + w * cos * unit_x
    height, width = size
    rows, columns = _corners(y, height), _corners(x, width)
    index = graph.stack([row * width + column for row in rows[:2] for column in columns[:2]], 2)
    weight = graph.stack([row * column for row in rows[2:] for column in columns[2:]], 2)
    count = grid[0] ** 2 * grid[1] ** 2 * 4
    return index.reshape(-1, count), (weight * (1 / grid[1] ** 2)).reshape(-1, count)


def _corners(t: Value, size: Value) -> list[Value]:
    """Lower and upper neighbour of coordinates along an axis, and the weight of each: ``sampling.clamped_corners``."""
    inside = (t >= -1.0) & (t <= size.cast("f"))
    t = inside.where(t, 0.0).clip(0.0, size.cast("f") - 1.0)
    low = t.op("Floor")
    high = (low + 1.0).op("Min", size.cast("f") - 1.0)
    upper, weight = t - low, inside.cast("f")
    return [low.cast("i"), high.cast("i"), (upper * -1.0 + 1.0) * weight, upper * weight]


def _scaled(offsets: Value, coder: dict[str, Sequence[float]]) -> Value:
    """Offsets as trained, times the coder's deviations plus its means."""
    return offsets * np.array(coder["target_stds"]) + np.array(coder["target_means"])
