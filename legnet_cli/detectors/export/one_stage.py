"""Detectors with one box a pixel as an ONNX graph, from the maps of their convolutions to boxes.

That is Rotated FCOS, S²ANet and R³Det: what sets them apart is in their dense parts (``heads``).
"""

from __future__ import annotations

from legnet_cli.detectors.export.box_operators import clip_centres, to_le90
from legnet_cli.detectors.export.dense import level_names
from legnet_cli.detectors.export.graph import DetectorGraph
from legnet_cli.detectors.export.heads import OneStageDense
from legnet_cli.detectors.export.onnx_builder import Value


class OneStageGraph(DetectorGraph):
    """The best pixels of each level, then their classes over the threshold.

    Args:
        config: mmrotate model dict.
        dense: its convolutions.
        options: what the graph is fixed to.
    """

    dense: OneStageDense

    def find(self, maps: dict[str, Value], size: tuple[Value, Value], images: Value) -> list[Value]:
        """As of :class:`DetectorGraph`."""
        graph = self.graph
        levels = zip(*level_names(len(maps) // len(self.dense.outputs), *self.dense.outputs), strict=True)
        parts = [self._best([maps[name] for name in level]) for level in levels]
        scores, boxes, *factor = (graph.concat(part, 1) for part in zip(*parts, strict=True))
        image, pixel, label = (scores > self.options.score_threshold).op("NonZero").columns(0, 3)
        chosen = graph.stack([image, pixel], 1)
        found = scores.op("GatherND", graph.stack([image, pixel, label], 1))
        for values in factor:
            found = found * values.op("GatherND", chosen)
        columns = boxes.op("GatherND", chosen).columns(1, 5)
        if self.dense.clip_centres:
            columns = clip_centres(columns, *size)
        return self.select(to_le90(columns), image, found, label, self.dense.classes, images)

    def _best(self, level: list[Value]) -> list[Value]:
        """Of the maps (B, N, ...) of a level, the pixels with the highest scores: (B, k, ...)."""
        scores = level[0]
        for factor in level[2:]:
            scores = scores * factor.unsqueeze(-1)
        best = scores.op("ReduceMax", self.graph.constant([-1], "i"), keepdims=0)
        _, index = best.largest(best.size(1).op("Min", self.cfg["test_cfg"]["nms_pre"]), 1)
        return [values.op("GatherND", index.unsqueeze(-1), batch_dims=1) for values in level]
