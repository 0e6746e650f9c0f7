"""What a benchmark measures adds up; nothing here depends on how fast the machine is."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from legnet_cli.detectors.fast.winograd import WinogradConv
from legnet_cli.detectors.loader import Detector, build_detector
from legnet_cli.detectors.networks import random_checkpoint
from legnet_cli.detectors.stages import unobserved
from legnet_cli.detectors.weights.checkpoint import save_checkpoint
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.engine.benchmark import BenchmarkConfig, benchmark
from legnet_cli.engine.benchmark import run as module
from legnet_cli.engine.benchmark.baseline import Baseline
from legnet_cli.engine.benchmark.compare import Change, Comparison
from legnet_cli.engine.benchmark.report import as_dict
from legnet_cli.engine.benchmark.roofline import Peaks, Roofline, TimedLayer, count_flops, measure_layers
from legnet_cli.engine.benchmark.runs import Run
from legnet_cli.engine.benchmark.timings import OTHER, Stopwatch
from legnet_cli.engine.sample_tiles import synthetic_tile
from legnet_cli.errors import ConfigError, DataError

CPU = torch.device("cpu")
NANO = "oriented-rcnn/legnet-nano"
PEAKS = Peaks({"float32": 100.0, "bfloat16": 200.0}, 10.0)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Matrices and arrays that take no time, and hardly any warm-up."""
    monkeypatch.setattr("legnet_cli.engine.benchmark.runs._WARM_SEARCHES", 1)
    monkeypatch.setattr("legnet_cli.engine.benchmark.roofline._SIDES", {"cpu": (32,)})
    monkeypatch.setattr("legnet_cli.engine.benchmark.roofline._TRIAD_MB", {"cpu": 1})
    monkeypatch.setattr("legnet_cli.engine.benchmark.roofline.PASSES", 1)


@pytest.fixture(scope="module")
def checkpoint():
    return random_checkpoint(get_recipe(NANO))


@pytest.fixture(scope="module")
def detector(checkpoint):
    return build_detector(checkpoint, CPU)


def config(**values):
    return BenchmarkConfig(**({"recipe": NANO, "tile": 64, "repeat": 1} | values))


def run(latencies=(10.0, 20.0, 30.0), batch=1, precision="fp32", stages=None):
    return Run(precision, batch, latencies, stages or {}, 5.0, 100.0, None)


def test_a_whole_benchmark(tmp_path, write_scene):
    scene = write_scene("s.tif", np.moveaxis(synthetic_tile(70, 110), 2, 0))
    out = config(
        batches=(1, 2),
        precisions=("fp32", "bf16"),
        repeat=2,
        baseline=True,
        scene=scene,
        json_file=tmp_path / "r.json",
        plot=tmp_path / "r.png",
    )
    steps = []
    result = benchmark(out, steps.append)
    assert [(r.precision, r.batch, len(r.latencies)) for r in result.runs] == [
        ("fp32", 1, 2),
        ("fp32", 2, 2),
        ("bf16", 1, 2),
        ("bf16", 2, 2),
    ]
    assert list(result.stages) == [
        "read",
        "normalise",
        "backbone",
        "neck",
        "rpn",
        "roi",
        "nms",
        OTHER,
        "merge",
        "write",
    ]
    assert all(ms > 0 for ms in result.stages.values())
    assert result.headline is result.runs[0]
    assert result.params == get_recipe(NANO).parameters
    assert result.scene.tiles == 4
    assert result.scene.km2 == pytest.approx(70 * 110 * 0.25e-6, rel=0.01)
    assert 0 <= result.scene.waiting < 1
    assert len(result.baseline.ours) == len(result.baseline.theirs) == 2
    assert result.baseline.boxes[0] == pytest.approx(result.baseline.boxes[1], abs=2)
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    assert len(steps) >= 6
    report = json.loads((tmp_path / "r.json").read_text())
    assert report == json.loads(json.dumps(as_dict(result)))
    for key in ("fps", "latency_ms", "stages_ms", "params", "flops", "weights_mb", "peak_ram_mb", "machine"):
        assert report[key], key
    assert list(report["latency_ms"]) == ["p50", "p95", "p99"]
    assert report["peak_vram_mb"] is None
    assert report["roofline"]["share"] > 0
    assert report["baseline"]["speedup"] > 0
    assert report["settings"]["size"] == 64
    assert not list(tmp_path.glob(".legnet*"))


def test_fps_measures_nothing_else():
    result = benchmark(config(fps=True, recipe=None))
    assert (result.roofline, result.scene, result.baseline, result.flops) == (None, None, None, None)
    assert result.card.name != "random weights"
    assert result.params > 1e6
    assert result.headline.fps > result.headline.batch / 100


def test_images_are_the_tiles(write_scene):
    paths = [write_scene(f"{i}.tif", np.full((3, 100, 120), 40 * i, np.uint8)) for i in (1, 2)]
    result = benchmark(config(images=tuple(paths), fps=True))
    assert result.tiles == "1.tif, 2.tif"
    with pytest.raises(DataError, match=r"120 × 100 pixels is smaller than a tile: give a smaller --tile"):
        benchmark(config(images=tuple(paths), tile=128))


@pytest.mark.parametrize("recipe", ["roi-transformer/legnet-nano", "rotated-fcos/legnet-nano"])
def test_detectors_of_mmrotate_have_coarser_stages(recipe):
    result = benchmark(config(recipe=recipe))
    wanted = {"backbone", "neck"} | ({"rpn", "roi", "nms"} if "roi" in recipe else set())
    assert wanted <= set(result.stages)
    assert (result.headline.fps_network is not None) == ("nms" in wanted)
    assert result.roofline.layers
    with pytest.raises(ConfigError, match="runs through mmrotate's own test path anyway"):
        benchmark(config(recipe=recipe, baseline=True))


def test_what_has_no_network_inside_gives_totals(monkeypatch, checkpoint, detector):
    bare = Detector(detector.card, CPU, "fp32", detector._search)
    monkeypatch.setattr(module, "load_detector", lambda *_, **__: bare)
    monkeypatch.setattr(module, "read_checkpoint", lambda path: pytest.fail("an exported file is no checkpoint"))
    result = benchmark(config(recipe=None))
    assert list(result.stages) == ["read", "merge", "write"]
    assert (result.params, result.flops, result.headline.fps_network) == (None, None, None)
    assert result.roofline.share is None
    assert result.headline.fps > 0
    assert as_dict(result)["roofline"]["rest_ms"] is None
    with pytest.raises(ConfigError, match="--baseline needs weights that mmrotate can load"):
        benchmark(config(recipe=None, baseline=True))


def test_layers_are_counted_as_pytorch_counts_them(detector):
    tile = synthetic_tile(96, 96)
    roofline = measure_layers(detector, tile)
    counted = count_flops(detector, tile)
    convolutions = sum(layer.flops for layer in roofline.layers)
    assert convolutions == pytest.approx(counted, rel=0.01)
    assert [layer.ms for layer in roofline.layers] == sorted((layer.ms for layer in roofline.layers), reverse=True)
    first = next(layer for layer in roofline.layers if layer.name == "backbone.Stem.LoG.conv_init")
    assert first.shape == "3→4, 7×7"
    assert first.flops == 2 * 96 * 96 * 4 * 3 * 49
    assert first.bytes == 4 * (96 * 96 * (3 + 4) + 4 * 3 * 49)
    assert next(layer for layer in roofline.layers if layer.name == "rpn_head.rpn_conv").calls == 5


def test_measuring_leaves_nothing_behind(detector):
    measure_layers(detector, synthetic_tile(64, 64))
    count_flops(detector, synthetic_tile(64, 64))
    with detector.network.observed(Stopwatch(CPU).stage), pytest.raises(RuntimeError):
        detector.network.detect(torch.zeros(1, 64, 64, 7).byte())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in detector.network.modules())
    assert detector.network._stage is unobserved


def test_random_weights_are_the_same_each_time_and_find_boxes(checkpoint, detector):
    again = random_checkpoint(get_recipe(NANO))
    assert all(torch.equal(tensor, again.state[name]) for name, tensor in checkpoint.state.items())
    assert len(detector.detect(synthetic_tile(256, 256)[None])[0]) > 20


@pytest.mark.parametrize(
    ("flops", "size", "dtype", "ms"),
    [(1e9, 1, "float32", 10), (1e9, 1, "bfloat16", 5), (1, 1e8, "float32", 10), (1e9, 2e8, "float32", 20)],
)
def test_a_layer_is_bound_by_the_slower_of_two(flops, size, dtype, ms):
    assert PEAKS.least_ms(flops, size, dtype) == pytest.approx(ms)


def test_shares_of_the_roofline():
    def layer(flops, size, ms):
        return TimedLayer("x", "", "float32", 1, flops, size, ms, PEAKS.least_ms(flops, size, "float32"))

    a, b = layer(1e9, 1, 20.0), layer(1, 1e8, 20.0)
    roofline = Roofline(PEAKS, (a, b), 3.0)
    assert (a.gflops, a.share, b.intensity) == (50, 0.5, 1e-8)
    assert roofline.share == pytest.approx(0.5)
    assert roofline.peak_share == pytest.approx(0.25)
    assert Roofline(PEAKS, (), math.nan).share is None


def test_figures_of_a_run():
    one = run((10.0, 20.0, 30.0), batch=2, stages={"backbone": 4.0, "nms": 2.0})
    assert one.percentile(50) == 20
    assert one.fps == 100
    assert one.fps_network == 125
    assert run().fps_network is None


def test_speedup_is_the_median_over_pairs():
    raced = Baseline((20.0, 40.0, 90.0), (10.0, 10.0, 10.0), "torch", (1, 1))
    assert raced.speedup == 4
    assert (raced.quantile(0), raced.quantile(1)) == (2, 9)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tile": 16}, "--tile 16"),
        ({"tile": 10**6}, "--tile 1000000"),
        ({"batches": (0,)}, "--batch"),
        ({"repeat": 0}, "--repeat 0"),
        ({"seconds": math.nan}, "--seconds"),
        ({"weights": "a"}, "--weights and --recipe"),
        ({"fail_if_slower": 0.1}, "needs --compare"),
        ({"fail_if_slower": -1, "compare": Path("x")}, "0 % or more"),
        ({"fps": True, "plot": Path("x.png")}, "--fps"),
    ],
)
def test_wrong_settings(values, words):
    with pytest.raises(ConfigError, match=words):
        config(**values)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"recipe": "frobnicate"}, ConfigError, "no recipe 'frobnicate'"),
        ({"precisions": ("fp16",)}, ConfigError, "fp16 needs a GPU"),
        ({"precisions": ("fp33",)}, ConfigError, "fp33"),
        ({"device": "tpu"}, ConfigError, "tpu"),
        ({"json_file": Path("x.txt")}, ConfigError, "unknown output format"),
        ({"images": ("nowhere.tif",)}, DataError, "nowhere.tif"),
        ({"scene": "nowhere.tif"}, DataError, "nowhere.tif"),
        ({"compare": Path("nowhere.json")}, DataError, "nowhere.json: cannot read it"),
    ],
)
def test_wrong_inputs(values, error, words):
    with pytest.raises(error, match=words):
        benchmark(config(**values))


@pytest.fixture
def earlier(tmp_path):
    path = tmp_path / "old.json"
    benchmark(config(fps=True, json_file=path))
    return path


def changed(path, factor=1.0, **settings):
    report = json.loads(path.read_text())
    report["runs"][0]["latency_ms"]["p50"] *= factor
    for key, value in settings.items():
        report["machine" if key in report["machine"] else "settings"][key] = value
    path.write_text(json.dumps(report))


@pytest.mark.parametrize(("factor", "slow"), [(1e-3, True), (1e3, False)])
def test_a_slower_run_is_noticed(earlier, factor, slow):
    changed(earlier, factor)
    result = benchmark(config(fps=True, compare=earlier, fail_if_slower=0.1))
    assert result.comparison.differences == ()
    assert bool(result.comparison.too_slow) == slow


@pytest.mark.parametrize(("key", "value"), [("cpu", "another"), ("size", 1024), ("tiles", "b.tif"), ("threads", 999)])
def test_unlike_reports_are_not_judged(earlier, key, value):
    changed(earlier, **{key: value})
    asked = config(fps=True, compare=earlier)
    with pytest.raises(ConfigError, match=f"cannot be compared: different .*{value}"):
        benchmark(replace(asked, fail_if_slower=0.1))
    shown = benchmark(asked).comparison
    assert len(shown.differences) == 1
    assert str(value) in shown.differences[0]
    assert shown.too_slow == ()


def test_a_run_that_was_not_measured_cannot_be_judged(earlier):
    with pytest.raises(ConfigError, match="has no run of fp32 with batch 2"):
        benchmark(config(fps=True, compare=earlier, fail_if_slower=0.1, batches=(1, 2)))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": {}, "settings": {}, "runs": [{}]}', "\xff"])
def test_reports_that_are_none(tmp_path, text):
    path = tmp_path / "old.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match="not a report of legnet benchmark"):
        benchmark(config(compare=path))


def test_limits_of_a_comparison():
    changes = Change("fp32", 1, 100.0, 111.0), Change("bf16", 1, 100.0, 109.0)
    assert changes[0].slower == pytest.approx(0.11)
    assert Comparison(Path("o"), (), changes, 0.1).too_slow == changes[:1]
    assert Comparison(Path("o"), (), changes, None).too_slow == ()


def test_weights_files_are_sized(tmp_path, checkpoint):
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, checkpoint.state, checkpoint.card)
    result = benchmark(config(recipe=None, weights=str(path), fps=True))
    assert result.weights_mb == path.stat().st_size / 1e6
    assert result.card == checkpoint.card


def test_a_convolution_counts_as_defined_however_it_runs():
    conv = nn.Conv2d(128, 128, 3, padding=1)
    wide, last = WinogradConv(conv), nn.Linear(128, 5)

    @torch.inference_mode()
    def detect(images):
        x = torch.randn(1, 128, 24, 24)
        return last(wide(x).mean((2, 3))) @ torch.ones(5, 7)

    network = SimpleNamespace(layers=lambda: {"wide": wide, "last": last})
    flops = count_flops(SimpleNamespace(network=network, detect=detect), synthetic_tile(64, 64))
    assert flops == 2 * (24 * 24 * 128 * 128 * 9 + 128 * 5 + 5 * 7)
