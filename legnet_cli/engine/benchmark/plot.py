"""A benchmark as one picture: where the time goes, how it varies, how near each layer comes to its roof."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from legnet_cli.engine.benchmark.report import BenchmarkResult
from legnet_cli.engine.benchmark.roofline import Roofline
from legnet_cli.engine.benchmark.timings import OTHER

# one colour a stage, from file to file; neighbours differ in brightness
_COLOURS = {
    "read": "#9aa3ad",
    "normalise": "#56B4E9",
    "backbone": "#0072B2",
    "neck": "#009E73",
    "rpn": "#F0E442",
    "roi": "#E69F00",
    "nms": "#D55E00",
    OTHER: "#d9dde1",
    "merge": "#CC79A7",
    "write": "#5c6670",
}

_LEAST_SHARE = 0.002  # of the layers' time, for a layer to be drawn
_NAMED = 5  # layers, the slowest


def plot(result: BenchmarkResult, path: Path) -> None:
    """Write the picture of ``result`` as PNG."""
    with matplotlib.rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True}):
        figure = Figure(figsize=(11, 8.5), layout="constrained")
        panes: dict[str, Axes] = figure.subplot_mosaic(
            [["stages", "stages"], ["latency", "roofline"]], height_ratios=[1, 1.6]
        )
        _stages(panes["stages"], result)
        _latencies(panes["latency"], result)
        _layers(panes["roofline"], result.roofline)
        title = f"{result.card.recipe} ({result.card.name}), {result.size} × {result.size}, {result.machine.place}"
        figure.suptitle(title, fontsize=11)
        figure.savefig(path, dpi=130, format="png")


def _stages(axes: Axes, result: BenchmarkResult) -> None:
    rows = [("read, merge, write", result.scene.stages)] if result.scene else []
    rows += [(f"{run.precision}, batch {run.batch}", run.stages) for run in result.runs]
    labelled: set[str] = set()
    for place, (_, stages) in enumerate(rows):
        left = 0.0
        for stage, ms in stages.items():
            label = None if stage in labelled else stage
            labelled.add(stage)
            axes.barh(place, ms, left=left, color=_COLOURS.get(stage, "#777"), label=label, edgecolor="white")
            left += ms
        axes.annotate(f" {left:,.0f} ms" if left >= 100 else f" {left:.3g} ms", (left, place), va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set(title="stages", xlabel="ms a tile")
    if labelled:
        axes.legend(ncols=len(labelled), fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.28), frameon=False)


def _latencies(axes: Axes, result: BenchmarkResult) -> None:
    for run in result.runs:
        times = np.sort(run.latencies) / run.percentile(50)
        share = (np.arange(len(times)) + 0.5) / len(times)
        middle, high = run.percentile(50), run.percentile(95)
        name = f"{run.precision}, batch {run.batch}: p50 {middle:,.4g} ms, p95 {high:,.4g} ms"
        axes.plot(times, share, ".-", label=name, linewidth=1.4, markersize=5)
    axes.set(title="latency", xlabel="time of a search over its median", ylabel="share of searches", ylim=(0, 1))
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)


def _layers(axes: Axes, roofline: Roofline | None) -> None:
    axes.set(title="layers under the roofline", xlabel="operations a byte", ylabel="GFLOP/s")
    if roofline is None or not roofline.layers:
        axes.text(0.5, 0.5, "no layers measured", ha="center", transform=axes.transAxes)
        return
    whole = sum(layer.ms for layer in roofline.layers)
    layers = [layer for layer in roofline.layers if layer.ms > _LEAST_SHARE * whole]
    intensity = np.array([layer.intensity for layer in layers])
    speed = np.array([layer.gflops for layer in layers])
    x = np.geomspace(intensity.min() / 2, intensity.max() * 2, 200)
    for dtype in dict.fromkeys(layer.dtype for layer in layers):
        peak = roofline.peaks.gflops[dtype]
        axes.plot(x, np.minimum(peak, x * roofline.peaks.bandwidth), label=f"{dtype}: {peak:,.0f} GFLOP/s")
    area = 12 + 600 * np.array([layer.ms for layer in layers]) / whole
    axes.scatter(intensity, speed, s=area, c="#0072B2", alpha=0.5, linewidths=0, label="a layer, area by time")
    for number, layer in enumerate(layers[:_NAMED], 1):
        name = layer.name.removeprefix("backbone.").removeprefix("roi_head.")
        axes.plot([], [], " ", label=f"{number}  {name}: {layer.ms / whole:.0%} of the layers' time")
        axes.annotate(str(number), (layer.intensity, layer.gflops), ha="center", va="center", fontsize=8)
    axes.set(xscale="log", yscale="log")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
