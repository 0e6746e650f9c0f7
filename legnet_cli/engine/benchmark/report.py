"""What a benchmark measured, and how it is written to JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from legnet_cli import __version__
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.engine.benchmark.baseline import Baseline
from legnet_cli.engine.benchmark.compare import Comparison
from legnet_cli.engine.benchmark.machine import Machine
from legnet_cli.engine.benchmark.roofline import Roofline
from legnet_cli.engine.benchmark.runs import Run
from legnet_cli.engine.benchmark.scene import SceneRun
from legnet_cli.engine.benchmark.tune import Tuning


@dataclass(frozen=True)
class BenchmarkResult:
    """What was measured; None for what was not asked for or is unknown.

    Attributes:
        card: of the weights.
        engine: torch, onnxruntime or openvino.
        tiles: what they show, in words.
        runs: by precision, then batch size.
        params: weights trained, batch norms included.
        weights_mb: MB (10⁶ bytes) of the file.
        flops: of convolutions and matrix products over one tile as run, two for each multiply-add.
    """

    card: ModelCard
    device: str
    engine: str
    size: int
    tiles: str
    machine: Machine
    runs: tuple[Run, ...]
    params: int | None
    weights_mb: float
    flops: int | None = None
    roofline: Roofline | None = None
    scene: SceneRun | None = None
    baseline: Baseline | None = None
    comparison: Comparison | None = None
    tuning: Tuning | None = None

    @property
    def headline(self) -> Run:
        """The run that papers report: the first precision, one tile at a time if that was timed."""
        return next((run for run in self.runs if run.batch == 1), self.runs[0])

    @property
    def stages(self) -> dict[str, float]:
        """Milliseconds a tile of every stage from file to file, in their order."""
        scene = self.scene.stages if self.scene else {}
        before = {"read": scene["read"]} if scene else {}
        return before | self.headline.stages | {name: ms for name, ms in scene.items() if name != "read"}


def as_dict(result: BenchmarkResult) -> dict[str, Any]:
    """The report; on top the figures of :attr:`BenchmarkResult.headline`, then all runs and the rest.

    Times are milliseconds, sizes 10⁶ bytes (weights) or MiB (memory). What was not measured is None.
    """
    head = _run(result.headline)
    report = {
        "legnet": __version__,
        "settings": settings(result.card, result.device, result.engine, result.size, result.tiles),
        "machine": asdict(result.machine),
        **{key: head[key] for key in ("precision", "batch", "fps", "fps_network", "latency_ms")},
        "stages_ms": result.stages,
        "params": result.params,
        "flops": result.flops,
        "macs": None if result.flops is None else result.flops // 2,
        "weights_mb": result.weights_mb,
        **{key: head[key] for key in ("peak_ram_mb", "peak_vram_mb")},
        "roofline": _roofline(result.roofline) if result.roofline else None,
        "baseline": _baseline(result.baseline) if result.baseline else None,
        "scene": _scene(result.scene) if result.scene else None,
        "tuning": _tuning(result.tuning) if result.tuning else None,
        "runs": [_run(run) for run in result.runs],
    }
    return {key: _plain(value) for key, value in report.items()}


def settings(card: ModelCard, device: str, engine: str, size: int, tiles: str) -> dict[str, object]:
    """What was timed."""
    how = {"device": device, "engine": engine, "size": size, "tiles": tiles}
    return {"model": card.name, "recipe": card.recipe, **how}


def _run(run: Run) -> dict[str, Any]:
    return {
        "precision": run.precision,
        "batch": run.batch,
        "fps": run.fps,
        "fps_network": run.fps_network,
        "latency_ms": {f"p{percent}": run.percentile(percent) for percent in (50, 95, 99)},
        "searches": len(run.latencies),
        "stages_ms": run.stages,
        "boxes": run.boxes,
        "peak_ram_mb": run.peak_ram_mb,
        "peak_vram_mb": run.peak_vram_mb,
    }


def _roofline(roofline: Roofline) -> dict[str, Any]:
    layers = [
        asdict(layer) | {"gflops": layer.gflops, "intensity": layer.intensity, "share": layer.share}
        for layer in roofline.layers
    ]
    return {
        "share": roofline.share,
        "peak_share": roofline.peak_share,
        "peak_gflops": roofline.peaks.gflops,
        "bandwidth_gb_s": roofline.peaks.bandwidth,
        "layers_ms": sum(layer.ms for layer in roofline.layers),
        "rest_ms": roofline.rest_ms,
        "layers": layers,
    }


def _baseline(baseline: Baseline) -> dict[str, Any]:
    low, high = baseline.quantile(0.25), baseline.quantile(0.75)
    return asdict(baseline) | {"speedup": baseline.speedup, "speedup_quartiles": [low, high]}


def _tuning(tuning: Tuning) -> dict[str, Any]:
    layers = [
        {
            **{key: getattr(layer, key) for key in ("name", "weight", "inputs", "flops")},
            "ms": layer.race.ms,
            "kernel": layer.race.winner,
            "share": tuning.share(layer),
            "floor_ms": tuning.floor_ms(layer),
        }
        for layer in tuning.layers
    ]
    searches = {"search_ms": tuning.searches.ms, "fastest": tuning.searches.winner}
    processes = tuning.processes and {"ms": tuning.processes.ms, "fastest": tuning.processes.winner}
    return {"peak_gflops": tuning.gflops, **searches, "processes": processes, "layers": layers}


def _scene(scene: SceneRun) -> dict[str, Any]:
    return asdict(scene) | {"km2_per_second": scene.km2_per_second, "waiting": scene.waiting}


def _plain(value: Any) -> Any:  # noqa: ANN401
    """``value`` with NaN as None, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
