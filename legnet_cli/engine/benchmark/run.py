"""Measure how fast a detector is on this machine, and how near that is to what the machine can do.

from legnet_cli.engine.benchmark import BenchmarkConfig, benchmark
result = benchmark(BenchmarkConfig(recipe="oriented-rcnn/legnet-tiny", batches=(1, 4)))
print(result.headline.fps)
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.detectors.devices import choose_device, choose_precision
from legnet_cli.detectors.engines import TORCH, check_engine, needs_export
from legnet_cli.detectors.fast.kernels import DIRECT
from legnet_cli.detectors.loader import Detector, build_detector, load_detector
from legnet_cli.detectors.mmrotate.door import import_mm
from legnet_cli.detectors.networks import is_fast, random_checkpoint
from legnet_cli.detectors.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from legnet_cli.detectors.weights.fetch import EMBEDDED, fetch
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.engine.benchmark.baseline import time_baseline
from legnet_cli.engine.benchmark.compare import check_comparable, compare_reports, read_report
from legnet_cli.engine.benchmark.config import BenchmarkConfig
from legnet_cli.engine.benchmark.machine import detect_machine
from legnet_cli.engine.benchmark.processes import race_processes
from legnet_cli.engine.benchmark.report import BenchmarkResult, as_dict, settings
from legnet_cli.engine.benchmark.roofline import count_flops, measure_layers
from legnet_cli.engine.benchmark.runs import time_searches
from legnet_cli.engine.benchmark.scene import time_scene, time_synthetic_scene
from legnet_cli.engine.benchmark.tune import check_tuning, installed_engines, measure_tuning
from legnet_cli.engine.sample_tiles import read_tiles, synthetic_tile
from legnet_cli.errors import ConfigError, DataError
from legnet_cli.files import atomic_path, check_output
from legnet_cli.geo.inputs import expand_scenes

_MOST_TILES = 32  # of --images, held in memory
PAIRS = 5  # of the baseline, unless --repeat says otherwise


@dataclass(frozen=True)
class _Subject:
    """Weights to be timed; ``checkpoint`` is None for an exported file."""

    first: Detector
    checkpoint: Checkpoint | None
    megabytes: float


def benchmark(
    config: BenchmarkConfig,
    on_step: Callable[[str], None] = lambda text: None,
    on_download: Callable[[int, int | None], None] = lambda done, total: None,
) -> BenchmarkResult:
    """Measure what ``config`` asks for, and write its JSON and plot.

    Args:
        config: what to do.
        on_step: told what is being measured.
        on_download: told the bytes so far and in all (None if unknown) while weights are fetched.

    Raises:
        ConfigError: settings that are wrong or disagree, or an earlier report of another machine, tile or model.
        DataError: weights, images, a scene or an earlier report that cannot be used.
        DependencyError: a device or package that is absent.
    """
    _check_outputs(config)
    earlier = read_report(config.compare) if config.compare else None
    device = choose_device(config.device, config.engine)
    for name in config.precisions:  # refuses what cannot be done, before anything is loaded
        choose_precision(name, device)
        check_engine(config.engine, config.weights or EMBEDDED, precision=name, compile=False, device=device)
    tiles = _tiles(config)
    if config.scene:
        expand_scenes([config.scene])  # now, not after minutes
    on_step("loading the weights")
    subject = _open(config, device, on_download)
    # an exported file has the one it was exported with
    others = [choose_precision(name, device) for name in config.precisions[1:]]
    precisions = list(dict.fromkeys([subject.first.precision, *others]))
    if config.baseline:
        _check_baseline(subject)
    if config.tune:
        check_tuning(subject.first)
    shown = ", ".join(Path(path).name for path in config.images) or "synthetic"
    first = subject.first
    known = {
        "settings": settings(first.card, str(device), first.engine, config.tile, shown),
        "machine": asdict(detect_machine(device)),
    }
    if earlier is not None and config.compare and config.fail_if_slower is not None:
        runs = {(precision, batch) for precision in precisions for batch in config.batches}
        check_comparable(config.compare, earlier, known, runs)
    result = replace(_measure(config, subject, precisions, tiles, on_step), tiles=shown)
    if earlier is not None and config.compare:
        result = replace(
            result, comparison=compare_reports(config.compare, earlier, as_dict(result), config.fail_if_slower)
        )
    _write(config, result)
    return result


def _tiles(config: BenchmarkConfig) -> list[NDArray[np.uint8]]:
    if not config.images:
        return [synthetic_tile(config.tile, config.tile)]
    tiles = read_tiles(config.images, config.tile, _MOST_TILES)
    if small := [tile.shape for tile in tiles if min(tile.shape[:2]) < config.tile]:
        height, width, _ = small[0]
        raise DataError(f"--images: one of {width} × {height} pixels is smaller than a tile: give a smaller --tile")
    if not tiles:
        raise DataError(f"--images {config.images[0]}: has no valid pixel: choose other rasters")
    return tiles


def _check_outputs(config: BenchmarkConfig) -> None:
    for path, suffix in ((config.json_file, ".json"), (config.plot, ".png")):
        if path is not None:
            check_output(path, overwrite=config.overwrite, suffixes=(suffix,))


def _open(
    config: BenchmarkConfig,
    device: torch.device,
    on_download: Callable[[int, int | None], None],
) -> _Subject:
    if config.recipe:
        made = random_checkpoint(get_recipe(config.recipe))
        size = sum(tensor.numel() * tensor.element_size() for tensor in made.state.values())
        if needs_export(config.engine):
            return _Subject(_exported(config, made, config.engine), None, size / 1e6)
        return _Subject(_built(config, made, device, config.precisions[0]), made, size / 1e6)
    weights = config.weights or EMBEDDED
    first = load_detector(
        weights,
        device=config.device,
        engine=TORCH if config.tune else config.engine,
        precision=config.precisions[0],
        kernels=config.kernels,
        tile=config.tile,
        force_precision=True,  # a benchmark is there to tell
        progress=on_download,
    )
    path = fetch(weights)
    # OpenVINO keeps the weights in a file beside the network
    size = sum(part.stat().st_size for part in {path, path.with_suffix(".bin")} if part.is_file())
    checkpoint = read_checkpoint(path) if first.network else None
    return _Subject(first, checkpoint and replace(checkpoint, card=first.card), size / 1e6)


def _built(config: BenchmarkConfig, checkpoint: Checkpoint, device: torch.device, precision: str) -> Detector:
    chosen = choose_precision(precision, device)
    return build_detector(checkpoint, device, chosen, kernels=config.kernels, tile=config.tile)


def _rivals(config: BenchmarkConfig, subject: _Subject) -> dict[str, Detector]:
    """The same weights without tuned kernels, and on each other engine."""
    made = subject.checkpoint
    assert made is not None
    direct = build_detector(made, subject.first.device, kernels=DIRECT)
    return {DIRECT: direct, **{name: _exported(config, made, name) for name in installed_engines()}}


def _exported(config: BenchmarkConfig, made: Checkpoint, engine: str) -> Detector:
    """Weights in memory on a runtime that takes exported files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.safetensors")
        save_checkpoint(path, made.state, made.card)
        return load_detector(path, device=config.device, engine=engine, precision=config.precisions[0])


def _check_baseline(subject: _Subject) -> None:
    if subject.checkpoint is None:
        raise ConfigError("--baseline needs weights that mmrotate can load: give the .safetensors or .pth file")
    if not is_fast(subject.first.card):
        raise ConfigError(
            f"--baseline: {subject.first.card.recipe} runs through mmrotate's own test path anyway: leave it out"
        )
    import_mm()  # refused before anything is measured


def _measure(
    config: BenchmarkConfig,
    subject: _Subject,
    precisions: Sequence[str],
    tiles: Sequence[NDArray[np.uint8]],
    on_step: Callable[[str], None],
) -> BenchmarkResult:
    first, runs = subject.first, []
    tuning = None
    if config.tune:
        tuning = measure_tuning(first, _rivals(config, subject), tiles[0], on_step)
        on_step("searches by one process and by several")
        assert subject.checkpoint is not None
        tuning = replace(tuning, processes=race_processes(subject.checkpoint, first, tiles[0]))
    for precision in precisions:
        detector = first if precision == first.precision else _load(config, subject, precision)
        for batch in config.batches:
            on_step(f"{precision}, batch {batch}")
            runs.append(time_searches(detector, tiles, batch, repeat=config.repeat, seconds=config.seconds))
        del detector  # the memory of the next precision should not count this one's
    result = BenchmarkResult(
        card=first.card,
        device=str(first.device),
        engine=first.engine,
        size=config.tile,
        tiles="",
        machine=detect_machine(first.device),
        runs=tuple(runs),
        params=subject.checkpoint.parameters if subject.checkpoint else None,
        weights_mb=subject.megabytes,
        tuning=tuning,
    )
    return result if config.fps else _measure_rest(config, subject, tiles[0], result, on_step)


def _measure_rest(
    config: BenchmarkConfig,
    subject: _Subject,
    tile: NDArray[np.uint8],
    result: BenchmarkResult,
    on_step: Callable[[str], None],
) -> BenchmarkResult:
    first = subject.first
    on_step("the device's peaks and each layer")
    flops = count_flops(first, tile) if first.network else None
    roofline = measure_layers(first, tile)
    on_step("a scene")
    batch = result.headline.batch
    if config.scene:
        scene = time_scene(first, config.scene, config.tile, batch)
    else:
        scene = time_synthetic_scene(first, config.tile, batch)
    baseline = None
    if config.baseline and subject.checkpoint:
        on_step("mmrotate's test path")
        baseline = time_baseline(subject.checkpoint, first, tile, config.repeat or PAIRS)
    return replace(result, flops=flops, roofline=roofline, scene=scene, baseline=baseline)


def _load(config: BenchmarkConfig, subject: _Subject, precision: str) -> Detector:
    if subject.checkpoint:
        return _built(config, subject.checkpoint, subject.first.device, precision)
    weights = config.weights or EMBEDDED
    return load_detector(weights, device=config.device, engine=config.engine, precision=precision)


def _write(config: BenchmarkConfig, result: BenchmarkResult) -> None:
    if config.json_file is not None:
        with atomic_path(config.json_file) as scratch:
            scratch.write_text(json.dumps(as_dict(result), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if config.plot is not None:
        from legnet_cli.engine.benchmark.plot import plot

        with atomic_path(config.plot) as scratch:
            plot(result, scratch)
