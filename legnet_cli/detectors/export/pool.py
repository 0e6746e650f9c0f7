"""RoI align as ONNX operators: features of boxes, from the level of the pyramid that fits each box."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from legnet_cli.detectors.export.box_operators import positions, zeros
from legnet_cli.detectors.export.onnx_builder import Value
from legnet_cli.ops.roi_align import unit_samples

_CHUNK = 16  # boxes whose feature rows are gathered at once: about what a cache holds


def pool_upright(
    levels: Sequence[Value], boxes: Sequence[Value], image: Value, rules: Mapping[str, Any]
) -> tuple[Value, Value]:
    """Features of upright boxes.

    Args:
        levels: the pyramid, (B, C, H, W) each.
        boxes: four columns (r,) ``x1, y1, x2, y2`` in image pixels.
        image: of each box, (r,).
        rules: mmrotate's ``bbox_roi_extractor``.

    Returns:
        Features (r, C * bins) in another order, and which of them is each box's (r,).
    """
    graph, strides, how = image.graph, rules["featmap_strides"], rules["roi_layer"]
    mode = "half_pixel" if how.get("aligned", True) else "output_half_pixel"
    x1, y1, x2, y2 = boxes
    level = _level(x2 - x1, y2 - y1, rules)
    ends = graph.stack(boxes, 1)
    pooled, orders = [], []
    for number, stride in enumerate(strides):
        members = level.equals(float(number)).op("NonZero").squeeze(0)
        found = (
            levels[number]
            .cast("f")
            .op(
                "RoiAlign",
                ends.take(members),
                image.take(members),
                coordinate_transformation_mode=mode,
                output_height=how["output_size"],
                output_width=how["output_size"],
                sampling_ratio=how["sampling_ratio"],
                spatial_scale=1 / stride,
            )
        )
        pooled.append(found.op("Flatten", axis=1))
        orders.append(members)
    return graph.concat(pooled, 0), _inverse(graph.concat(orders, 0))


def pool_rotated(
    levels: Sequence[Value], boxes: Sequence[Value], image: Value, rules: Mapping[str, Any]
) -> tuple[Value, Value]:
    """Features of rotated boxes, as weighted rows of the maps.

    Args:
        levels: the pyramid, (B, C, H, W) each.
        boxes: five columns (r,) in image pixels.
        image: of each box, (r,).
        rules: mmrotate's ``bbox_roi_extractor``.

    Returns:
        Features (r, bins * C) in another order, and which of them is each box's (r,).
    """
    graph, strides, how = image.graph, rules["featmap_strides"], rules["roi_layer"]
    levels = levels[: len(strides)]
    level = _level(boxes[2], boxes[3], rules)
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
    channels = rules["out_channels"]
    flat = graph.concat([x.reshape(0, channels, -1) for x in levels], 2)
    rows = flat.transpose(0, 2, 1).reshape(-1, channels)
    pooled = _gather(rows, index + start, weight, how["out_size"] ** 2, 4 * how["sample_num"] ** 2, channels)
    return pooled, _inverse(order)


def _level(width: Value, height: Value, rules: Mapping[str, Any]) -> Value:
    """The level (r,), a float, that boxes are pooled from, as ``fast.decoding.pyramid_level``."""
    size: Value = (width * height).op("Sqrt") * (1 / rules.get("finest_scale", 56))
    level = ((size + 1e-6).op("Log") * (1 / math.log(2))).op("Floor")
    return level.clip(0.0, float(len(rules["featmap_strides"]) - 1))


def _inverse(order: Value) -> Value:
    """Where each number is in a permutation (r,)."""
    return zeros(order).op("ScatterElements", order, positions(order), axis=0)


def _gather(rows: Value, index: Value, weight: Value, bins: int, taps: int, channels: int) -> Value:
    """Weighted sums of rows, (r, bins * C), of numbers and weights (r, bins * taps), some boxes at a time."""
    graph = rows.graph
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

    pooled: Value = graph.loop([], turn, (index.size(0) / _CHUNK).squeeze(0))[0]
    return pooled.reshape(-1, bins * channels).slice([0], count)


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
