"""Time the rotated-box operators, each against its target on two CPU cores.

    uv run examples/ops_speed.py                  # all rows, half a minute
    uv run examples/ops_speed.py nms --device cuda
    uv run examples/ops_speed.py 100k --repeats 9 --threads 2

Columns: median and least of the repeats; the memory a row took beyond its input, as far as it raised the peak of
the process, so the rows go from small to large.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import shapely
import torch
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.ops.diff_iou import diff_rotated_iou
from legnet_cli.ops.iou import rotated_iou
from legnet_cli.ops.nms import nms, nms_rotated
from legnet_cli.ops.roi_align import roi_align_rotated

Inputs = tuple[Tensor, ...]


def spread(n: int, extent: float, seed: int = 0) -> Inputs:
    """Boxes (n, 5) of 10 to 60 pixels anywhere in a square of ``extent`` pixels, and scores (n,)."""
    u = torch.rand(n, 6, generator=torch.Generator().manual_seed(seed))
    return torch.cat([u[:, :2] * extent, 10 + u[:, 2:4] * 50, (u[:, 4:5] - 0.5) * 3.14], 1), u[:, 5]


def clustered(objects: int, copies: int, extent: float, classes: int = 15) -> Inputs:
    """What a detector's head gives: jittered copies of each object, some under another class; with scores, labels."""
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(objects, 5, generator=generator)
    boxes = torch.cat([u[:, :2] * extent, 10 + u[:, 2:4] * 35, (u[:, 4:] - 0.5) * 3.14], 1).repeat_interleave(copies, 0)
    noise = torch.randn(len(boxes), 5, generator=generator) * 0.08
    boxes = torch.cat(
        [boxes[:, :2] + noise[:, :2] * boxes[:, 2:4], boxes[:, 2:4] * noise[:, 2:4].exp(), boxes[:, 4:]], 1
    )
    labels = torch.randint(classes, (objects,), generator=generator).repeat_interleave(copies)
    other = torch.randint(classes, labels.shape, generator=generator)
    labels = torch.where(torch.rand(len(labels), generator=generator) < 0.1, other, labels)
    return boxes, torch.rand(len(boxes), generator=generator), labels


def proposals() -> Inputs:
    """What a region proposal network gives at 1024 pixels: upright boxes of five levels, scores, levels."""
    generator = torch.Generator().manual_seed(0)
    counts, sides = torch.tensor([2000, 2000, 2000, 2000, 768]), torch.tensor([32.0, 64, 128, 256, 512])
    levels = torch.repeat_interleave(torch.arange(5), counts)
    centres = torch.rand(len(levels), 2, generator=generator) * 1024
    half = sides[levels, None] * (torch.randn(len(levels), 2, generator=generator) * 0.35).exp() / 2
    boxes = torch.cat([centres - half, centres + half], 1).clamp(0, 1024)
    return boxes, torch.rand(len(levels), generator=generator), levels


def regions() -> Inputs:
    """Features (1, 256, 256, 256), channels last, of a 1024 pixel image, and 2000 rotated boxes (2000, 6) on them."""
    features = torch.randn(1, 256, 256, 256).to(memory_format=torch.channels_last)
    return features, torch.cat([torch.zeros(2000, 1), spread(2000, 1024)[0]], 1)


def nms_by_strtree(boxes: Tensor, scores: Tensor, iou_threshold: float) -> list[int]:
    """The same suppression with shapely: a tree for the pairs, its clipping, then a loop."""
    order = scores.argsort(descending=True)
    polygons = shapely.polygons(boxes_to_polygons(boxes[order].double().cpu().numpy()))
    i, j = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    i, j = i[i < j], j[i < j]
    area, shared = shapely.area(polygons), shapely.area(shapely.intersection(polygons[i], polygons[j]))
    close = shared > iou_threshold * (area[i] + area[j] - shared)
    keep = [True] * len(polygons)
    for first, second in sorted(zip(i[close].tolist(), j[close].tolist(), strict=True)):
        if keep[first]:
            keep[second] = False
    return order[torch.tensor(keep)].tolist()


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor | None = None) -> Tensor:
    """Oriented suppression as in the stock configurations."""
    return nms_rotated(boxes, scores, 0.1, labels)


def loss_step(boxes: Tensor, target: Tensor) -> None:
    """IoU forward and backward."""
    diff_rotated_iou(boxes.requires_grad_(), target).sum().backward()


class Row(NamedTuple):
    """A line of the table: what is timed, its target in milliseconds, a maker of its input, and the call."""

    name: str
    target: float | None
    make: Callable[[], Inputs]
    call: Callable[..., Any]


ROWS = [
    Row("iou 2000 x 2000 in 1024 px", 100, lambda: (spread(2000, 1024)[0], spread(2000, 1024, 1)[0]), rotated_iou),
    Row("iou 2000 x 2000 in 4000 px", 100, lambda: (spread(2000, 4000)[0], spread(2000, 4000, 1)[0]), rotated_iou),
    Row("iou with gradient, 2000 pairs", None, lambda: (spread(2000, 99)[0], spread(2000, 99, 1)[0]), loss_step),
    Row("nms, 8.8k proposals, 5 levels", 30, proposals, lambda boxes, scores, levels: nms(boxes, scores, 0.8, levels)),
    Row("nms_rotated 2000 spread", 40, lambda: spread(2000, 1024), suppress),
    Row("nms_rotated 2000 clustered", 40, lambda: clustered(200, 10, 1024, 1), suppress),
    Row("nms_rotated 10.7k, 15 classes", 120, lambda: clustered(1070, 10, 1024), suppress),
    Row(
        "roi_align_rotated 2000x256x7x7",
        130,
        regions,
        lambda maps, rois: roi_align_rotated(maps, rois, (7, 7), 0.25, 2),
    ),
    Row("nms_rotated 20k identical", None, lambda: (torch.ones(20_000, 5), torch.rand(20_000)), suppress),
    Row("nms_rotated 100k in 40k px", 1500, lambda: spread(100_000, 40_000), suppress),
    Row(
        "the same by shapely's STRtree", None, lambda: spread(100_000, 40_000), lambda *both: nms_by_strtree(*both, 0.1)
    ),
    Row("nms_rotated 1M in 40k px", 20_000, lambda: spread(1_000_000, 40_000), suppress),
]


def peak_bytes(device: str) -> int:
    """Most memory held so far: of the device, or of this process."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(row: Row, device: str, repeats: int) -> tuple[list[float], float]:
    """Milliseconds of each repeat after a first call, and megabytes by which the peak rose."""
    inputs = [value.to(device) for value in row.make()]
    before, times = peak_bytes(device), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        row.call(*inputs)
        if device != "cpu":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    return times[1:], (peak_bytes(device) - before) / 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="?", default="", help="rows whose name holds this")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = Table(Column("operator", no_wrap=True))
    for name in ("median ms", "least ms", "target ms", "memory MB"):
        table.add_column(name, justify="right")
    for row in ROWS:
        if options.only in row.name:
            times, memory = measure(row, options.device, options.repeats)
            target = "" if row.target is None else f"{row.target:,.0f}"
            table.add_row(row.name, f"{statistics.median(times):,.1f}", f"{min(times):,.1f}", target, f"{memory:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
