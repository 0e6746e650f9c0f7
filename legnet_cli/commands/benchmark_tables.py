"""The tables of ``legnet benchmark``, on stdout."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from legnet_cli.engine.benchmark import Baseline, BenchmarkResult, Comparison, Roofline, SceneRun, TrainingSpeed, Tuning

_LEAST_SHARE = 0.005  # of the layers' time, for a layer to be listed


def show_fps(result: BenchmarkResult) -> None:
    """One line for each run, as papers report it."""
    for run in result.runs:
        without = f", {run.fps_network:.4g} without" if run.fps_network else ""
        _print(
            f"{result.card.recipe} {run.precision}{_by(result)}, batch {run.batch}, {result.size} × {result.size}, "
            f"{result.machine.place}: {run.fps:.4g} FPS with post-processing{without}"
        )


def _by(result: BenchmarkResult) -> str:
    return "" if result.engine == "torch" else f" by {result.engine}"


def show(result: BenchmarkResult) -> None:
    """Everything but the layers."""
    _print(
        f"{result.card.recipe} ({result.card.name}){_by(result)}, tiles: {result.tiles}, {result.size} × {result.size}"
    )
    machine = result.machine
    _print(f"{result.machine.place}; {', '.join(machine.features)}; torch {machine.torch}, {machine.os}")
    size = f"{result.weights_mb:,.1f} MB"
    if result.params:
        size = f"{result.params / 1e6:,.2f} M parameters, {size}"
    if result.flops:
        size += f", {result.flops / 1e9:,.1f} GFLOP a tile ({result.flops / 2e9:,.1f} G multiply-adds)"
    _print(size)
    _show_runs(result)
    if result.stages:
        _print_table(["stage", "ms a tile"], [(name, f"{ms:,.2f}") for name, ms in result.stages.items()])
    if result.roofline:
        _show_roofline(result.roofline)
    if result.scene:
        _show_scene(result.scene)
    if result.baseline:
        _show_baseline(result.baseline)


def show_layers(roofline: Roofline) -> None:
    """Convolutions and linear layers, slowest first."""
    whole = sum(layer.ms for layer in roofline.layers)
    rows = [
        (
            layer.name.removeprefix("backbone."),
            layer.shape,
            f"{layer.flops / 1e9:.2f}",
            f"{layer.bytes / 1e6:,.1f}",
            f"{layer.ms:.2f}",
            f"{layer.gflops:,.0f}",
            f"{layer.intensity:.1f}",
            f"{layer.share:.0%}",
        )
        for layer in roofline.layers
        if layer.ms >= _LEAST_SHARE * whole
    ]
    left = len(roofline.layers) - len(rows)
    _print_table(["layer", "shape", "GFLOP", "MB", "ms", "GFLOP/s", "FLOP/B", "of attainable"], rows, texts=2)
    listed = sum(layer.ms for layer in roofline.layers[: len(rows)])
    _print(f"{left} more layers: {whole - listed:.1f} ms; everything between layers: {roofline.rest_ms:.1f} ms")


def show_training(speed: TrainingSpeed) -> None:
    """Training steps in one line."""
    _print(
        f"training {speed.recipe}, batch {speed.batch}, {speed.size} × {speed.size}, {speed.machine.place}: "
        f"{speed.images_per_second:.3g} images/s (median of {len(speed.seconds)} steps, "
        f"{min(speed.seconds):.2f} to {max(speed.seconds):.2f} s), {speed.waiting:.1%} of it waiting for data, "
        f"{speed.memory_mb:,.0f} MB"
    )


def show_tuning(tuning: Tuning) -> None:
    """The kernels of each wide layer and the engines, with what was chosen; layers that are alike in one row."""
    alike: dict[object, list[Any]] = defaultdict(list)
    for layer in tuning.layers:
        alike[layer.weight, layer.inputs, layer.race.winner].append(layer)
    kernels = dict.fromkeys(kernel for layer in tuning.layers for kernel in layer.race.ms)
    rows = []
    for layers in sorted(alike.values(), key=lambda group: -len(group) * group[0].race.ms[group[0].race.winner]):
        layer, ms = layers[0], layers[0].race.ms
        shape = " × ".join(str(side) for side in layer.weight)
        place = "×".join(str(side) for side in layer.inputs[0][2:] or layer.inputs[0][:1])
        rows.append(
            (
                layer.name.removeprefix("backbone.") + (f" and {len(layers) - 1} more" if len(layers) > 1 else ""),
                *(shape, place + (" …" if len(layer.inputs) > 1 else "")),
                *(f"{ms[kernel]:,.2f}" if kernel in ms else "" for kernel in kernels),
                *(layer.race.winner, f"{layer.flops / 1e9:.2f}"),
                *(f"{tuning.share(layer):.0%}", f"{tuning.floor_ms(layer):.2f}"),
            )
        )
    titles = ["layer", "weight", "input", *kernels, "taken", "GFLOP", "of product", "floor ms"]
    _print_table(titles, rows, texts=3)
    taken = sum(layer.race.ms[layer.race.winner] for layer in tuning.layers)
    direct = sum(layer.race.ms["direct"] for layer in tuning.layers)
    floor = sum(tuning.floor_ms(layer) for layer in tuning.layers)
    _print(
        f"these layers: {taken:,.1f} ms as chosen, {direct:,.1f} ms directly ({direct / taken:.2f} ×), at least "
        f"{floor:,.1f} ms by the fewest multiplications at the {tuning.gflops:,.0f} GFLOP/s of a matrix product"
    )
    ms = tuning.searches.ms
    ways = ", ".join(f"{name} {value:,.0f} ms ({value / ms['tuned']:.2f} ×)" for name, value in ms.items())
    _print(f"a whole search: {ways}; from now on auto is: {tuning.searches.winner}")
    if tuning.processes:
        ways = ", ".join(f"{name} {value:,.0f} ms" for name, value in tuning.processes.ms.items())
        _print(f"a search by each thread: {ways}; from now on --workers auto is: {tuning.processes.winner}")


def show_comparison(comparison: Comparison) -> None:
    """Latencies before and after."""
    for difference in comparison.differences:
        _print(f"not comparable with {comparison.path}: {difference}")
    rows = [
        (c.precision, str(c.batch), f"{c.before:,.1f}", f"{c.after:,.1f}", f"{c.slower:+.1%}")
        for c in comparison.changes
    ]
    _print_table(["precision", "batch", "p50 ms before", "p50 ms now", "change"], rows)


def _show_runs(result: BenchmarkResult) -> None:
    rows = [
        (
            run.precision,
            str(run.batch),
            f"{run.fps:.4g}",
            f"{run.fps_network:.4g}" if run.fps_network else "",
            *(f"{run.percentile(percent):,.1f}" for percent in (50, 95, 99)),
            str(len(run.latencies)),
            f"{run.boxes:,.0f}",
            f"{run.peak_ram_mb:,.0f}",
            "" if run.peak_vram_mb is None else f"{run.peak_vram_mb:,.0f}",
        )
        for run in result.runs
    ]
    titles = ["precision", "batch", "FPS", "without NMS", "p50 ms", "p95", "p99", "searches", "boxes", "RAM MB"]
    _print_table([*titles, "VRAM MB"], rows)


def _show_roofline(roofline: Roofline) -> None:
    peaks = ", ".join(f"{name} {value:,.0f} GFLOP/s" for name, value in roofline.peaks.gflops.items())
    line = f"device: {peaks}, memory {roofline.peaks.bandwidth:,.1f} GB/s"
    if roofline.share and roofline.peak_share:
        whole = sum(layer.ms for layer in roofline.layers)
        line += (
            f"; {len(roofline.layers)} layers take {whole:,.1f} ms, everything else {roofline.rest_ms:,.1f} ms; "
            f"they reach {roofline.share:.0%} of their roofline, {roofline.peak_share:.0%} of the peak"
        )
    _print(line)


def _show_scene(scene: SceneRun) -> None:
    area = f", {scene.km2_per_second:.3g} km²/s" if scene.km2_per_second else ""
    _print(
        f"scene ({scene.path}): {scene.tiles} tiles, {scene.objects:,} objects in {scene.seconds:.2f} s{area}; "
        f"the network waited {scene.waiting:.1%} of the time"
    )


def _show_baseline(baseline: Baseline) -> None:
    low, high = baseline.quantile(0.25), baseline.quantile(0.75)
    owner = "mmcv's compiled" if baseline.operators == "mmcv" else "this project's"
    _print(
        f"{baseline.speedup:.2f} × as fast as mmrotate's test path with {owner} operators "
        f"(quartiles {low:.2f} to {high:.2f}, {len(baseline.ours)} pairs, "
        f"boxes {baseline.boxes[1]:,} and {baseline.boxes[0]:,})"
    )


def _print(text: str) -> None:
    Console(width=None if sys.stdout.isatty() else 120).print(text, markup=False, highlight=False, soft_wrap=True)


def _print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> None:
    """A table whose first ``texts`` columns are words, the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, title in enumerate(titles):
        table.add_column(title, justify="left" if place < texts else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 140, markup=False).print(table)
