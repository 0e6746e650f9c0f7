"""Detectors with proposals as an ONNX graph, from the maps of their convolutions to boxes (see ``graph``).

That is Oriented R-CNN, whose proposals are rotated, Rotated Faster R-CNN, whose proposals are upright, and RoI
Transformer, which turns upright ones and looks again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from legnet_cli.detectors.export.box_operators import (
    anchors,
    bounds,
    clip_centres,
    decode_box_offsets,
    decode_midpoint_offsets,
    decode_upright,
)
from legnet_cli.detectors.export.dense import Dense, level_names
from legnet_cli.detectors.export.graph import DetectorGraph
from legnet_cli.detectors.export.onnx_builder import Value
from legnet_cli.detectors.export.pool import pool_rotated, pool_upright
from legnet_cli.detectors.metadata import ExportOptions

_NEVER = -1e30  # below every logit


class TwoStageGraph(DetectorGraph):
    """Proposals, then one or two rounds of box features, classes and better boxes.

    Args:
        config: mmrotate model dict.
        dense: backbone, neck and proposal network: outputs ``level``, ``logits`` and ``offsets`` on each level.
        heads: the box head of each round: ``shared_fcs``, ``fc_cls`` and ``fc_reg``. Those of rotated boxes read
            features flattened from (bins, channels), those of upright ones from (channels, bins).
        options: what the graph is fixed to.
        ranges: least and largest input of each hidden layer of the heads, to compute these in int8.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        dense: Dense,
        heads: Sequence[nn.Module],
        options: ExportOptions,
        ranges: Sequence[tuple[float, float]] = (),
    ) -> None:
        super().__init__(config, dense, options)
        self._heads, self._ranges = heads, iter(ranges)
        self._upright = config["rpn_head"]["bbox_coder"]["type"] == "DeltaXYWHBBoxCoder"

    def find(self, maps: dict[str, Value], size: tuple[Value, Value], images: Value) -> list[Value]:
        """As of :class:`DetectorGraph`."""
        graph = self.graph
        names = level_names(len(self.cfg["rpn_head"]["anchor_generator"]["strides"]))
        levels, logits, offsets = ([maps[name] for name in part] for part in names)
        boxes, image = self._propose([x.cast("f") for x in logits], [x.cast("f") for x in offsets], size)
        rounds = list(zip(self._heads, *box_rules(self.cfg), strict=True))
        votes: list[Value] = []
        for number, (head, rules, pool) in enumerate(rounds):
            pooled, place = (pool_upright if len(boxes) == 4 else pool_rotated)(levels, boxes, image, pool)
            # back in the order of the proposals, which decides between equal scores
            vote, moves = (x.take(place) for x in self._classify(pooled, head))
            votes.append(vote)
            if number < len(rounds) - 1:  # one box for all classes, turned
                boxes = _moved(boxes, moves, rules["bbox_coder"], size)
        vote = sum(votes[1:], votes[0])
        classes = rules["num_classes"]
        scores = (vote * (1 / len(votes))).op("Softmax", axis=1).slice([0], [classes], 1)
        roi, label = (scores > self.options.score_threshold).op("NonZero").columns(0, 2)
        pairs = graph.stack([roi, label], 1)
        moves = moves.take(roi) if rules["reg_class_agnostic"] else moves.reshape(-1, classes, 5).op("GatherND", pairs)
        boxes = _moved([column.take(roi) for column in boxes], moves, rules["bbox_coder"], size)
        return self.select(boxes, image.take(roi), scores.op("GatherND", pairs), label, classes, images)

    def _propose(
        self, logits: Sequence[Value], offsets: Sequence[Value], size: tuple[Value, Value]
    ) -> tuple[list[Value], Value]:
        """Proposals of all images, columns (r,), and their image (r,).

        That is five columns of rotated boxes, or four ``x1, y1, x2, y2`` where those of the network are upright.
        """
        graph, rules = self.graph, self.cfg["test_cfg"]["rpn"]
        parts = [self._best_anchors(level, *maps) for level, maps in enumerate(zip(logits, offsets, strict=True))]
        score, centre, side, moves = (graph.concat(part, 1) for part in zip(*parts, strict=True))
        level = graph.concat([self._filled(part[0].size(1), i) for i, part in enumerate(parts)], 0)
        moves = _scaled(moves, self.cfg["rpn_head"]["bbox_coder"])
        if self._upright:
            boxes = ends = decode_upright(centre, side, moves, *size)
            sides = [ends[2] - ends[0], ends[3] - ends[1]]
        else:
            boxes = decode_midpoint_offsets(centre, side, moves)
            ends, sides = bounds(boxes), boxes[2:4]
        if rules["min_bbox_size"] > 0:
            fits = (sides[0] >= rules["min_bbox_size"]) & (sides[1] >= rules["min_bbox_size"])
            score = fits.where(score, _NEVER)
        chosen = self._proposal_nms(score, level, ends, len(parts))
        return [column.op("GatherND", chosen) for column in boxes], chosen.columns(1, 2)[0]

    def _proposal_nms(self, score: Value, level: Value, ends: Sequence[Value], count: int) -> Value:
        """Image and number (r, 2) of the proposals that are left of logits (B, N), level by level, best first."""
        graph, rules = self.graph, self.cfg["test_cfg"]["rpn"]
        # levels are what this operator calls classes: (B, L, N), each box in its own
        levels = graph.constant(np.arange(count)[:, None], "i")
        by_level = level.unsqueeze(0).equals(levels).unsqueeze(0).where(score.unsqueeze(1), _NEVER)
        selected = graph.ops(
            "NonMaxSuppression",
            [
                graph.stack(ends, -1),
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
        return graph.stack([image, index.op("GatherND", graph.stack([image, rank], 1), kind="i")], 1)

    def _best_anchors(self, level: int, logits: Value, offsets: Value) -> tuple[Value, Value, Value, Value]:
        """Logits (B, k), centres, sizes (B, k, 2) and offsets (B, k, 6 or 4) of a level's best anchors."""
        grid = self.cfg["rpn_head"]["anchor_generator"]
        flat = logits.transpose(0, 2, 3, 1).reshape(0, -1)
        best, index = flat.largest(flat.size(1).op("Min", self.cfg["test_cfg"]["rpn"]["nms_pre"]), 1)
        moves = offsets.transpose(0, 2, 3, 1).reshape(0, -1, 4 if self._upright else 6)
        moves = moves.op("GatherND", index.unsqueeze(-1), batch_dims=1)
        centre, size = anchors(index, logits.size(3), grid["strides"][level], grid["scales"], grid["ratios"])
        return best, centre, size, moves

    def _filled(self, count: Value, value: int) -> Value:
        return self.graph.constant([value], "i").op("Expand", count)

    def _classify(self, pooled: Value, head: nn.Module) -> tuple[Value, Value]:
        """Class logits (r, num_classes + 1) and offsets (r, 5 or 5 * num_classes) of features (r, bins * C)."""
        x = pooled.cast("h" if self.dense.dtype == torch.float16 else "f")
        for layer in cast(nn.ModuleList, head.shared_fcs):
            linear, ends = cast(nn.Linear, layer), next(self._ranges, None)
            x = (self._linear8(x, linear, *ends) if ends else self._linear(x, linear)).op("Relu")
        x = x.cast("f")
        logits, moves = (self._linear(x, cast(nn.Linear, layer)) for layer in (head.fc_cls, head.fc_reg))
        return logits, moves

    def _linear(self, x: Value, layer: nn.Linear) -> Value:
        weight, bias = (self.graph.constant(p.detach().float().cpu().numpy(), x.kind) for p in layer.parameters())
        return x.op("Gemm", weight, bias, transB=1)

    def _linear8(self, x: Value, layer: nn.Linear, low: float, high: float) -> Value:
        """:meth:`_linear` of inputs between two bounds, in int8, each output with a scale of its own."""
        weight = layer.weight.detach().numpy().T
        step = np.abs(weight).max(0).clip(1e-12) / 127
        whole = self.graph.constant(np.rint(weight / step), "s")
        zero = self.graph.constant(np.zeros_like(step), "s")
        product = x.rounded(low, high).op(
            "MatMul", whole.op("DequantizeLinear", self.graph.constant(step, "f"), zero, kind="f", axis=1)
        )
        return product + layer.bias.detach().numpy()


def box_rules(config: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """mmrotate's ``bbox_head`` and ``bbox_roi_extractor`` of each round."""
    heads, pools = (config["roi_head"][key] for key in ("bbox_head", "bbox_roi_extractor"))
    return (heads, pools) if isinstance(heads, list) else ([heads], [pools])


def _moved(boxes: list[Value], moves: Value, coder: Mapping[str, Any], size: tuple[Value, Value]) -> list[Value]:
    """Five columns of boxes from four or five, and offsets (n, 5); rotated ones end in an image of ``size``."""
    upright = len(boxes) == 4
    if upright:
        x1, y1, x2, y2 = boxes
        boxes = [(x1 + x2) * 0.5, (y1 + y2) * 0.5, x2 - x1, y2 - y1, x1 * 0.0]
    moved = decode_box_offsets(boxes, _scaled(moves, coder).columns(1, 5))
    return moved if upright else clip_centres(moved, *size)


def _scaled(offsets: Value, coder: Mapping[str, Any]) -> Value:
    """Offsets as trained, times the coder's deviations plus its means; angles in radians."""
    deviations, means = np.array(coder["target_stds"], float), np.array(coder["target_means"], float)
    if coder.get("norm_factor"):
        turn = np.array([1, 1, 1, 1, coder["norm_factor"] * math.pi])
        deviations, means = deviations * turn, means * turn
    return offsets * deviations + means
