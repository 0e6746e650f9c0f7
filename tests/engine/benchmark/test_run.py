"""What a benchmark measures adds up; nothing here depends on how fast the machine is."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from legnet_cli.detectors.loader import Detector
from legnet_cli.detectors.networks import random_checkpoint
from legnet_cli.detectors.weights.checkpoint import save_checkpoint
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.engine.benchmark import BenchmarkConfig, benchmark, time_training
from legnet_cli.engine.benchmark import run as module
from legnet_cli.engine.benchmark.report import as_dict
from legnet_cli.engine.benchmark.timings import OTHER
from legnet_cli.engine.sample_tiles import synthetic_tile
from legnet_cli.errors import ConfigError, DataError

CPU = torch.device("cpu")
NANO = "oriented-rcnn/legnet-nano"


def config(**values):
    return BenchmarkConfig(**({"tile": 64, "repeat": 1} | values))


@pytest.mark.usefixtures("mmrotate")
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
    assert result.params > 1e6
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
    result = benchmark(config(fps=True))
    assert (result.roofline, result.scene, result.baseline, result.flops) == (None, None, None, None)
    assert result.headline.fps > result.headline.batch / 100


def test_images_are_the_tiles(write_scene):
    paths = [write_scene(f"{i}.tif", np.full((3, 100, 120), 40 * i, np.uint8)) for i in (1, 2)]
    result = benchmark(config(images=tuple(paths), fps=True))
    assert result.tiles == "1.tif, 2.tif"
    with pytest.raises(DataError, match=r"120 × 100 pixels is smaller than a tile: give a smaller --tile"):
        benchmark(config(images=tuple(paths), tile=128))


def test_what_has_no_network_inside_gives_totals(monkeypatch, checkpoint, detector):
    bare = Detector(detector.card, CPU, "fp32", detector.search)
    monkeypatch.setattr(module, "load_detector", lambda *_, **__: bare)
    monkeypatch.setattr(module, "read_checkpoint", lambda path: pytest.fail("an exported file is no checkpoint"))
    result = benchmark(config())
    assert list(result.stages) == ["read", "merge", "write"]
    assert (result.params, result.flops, result.headline.fps_network) == (None, None, None)
    assert result.roofline.share is None
    assert result.headline.fps > 0
    assert as_dict(result)["roofline"]["rest_ms"] is None
    with pytest.raises(ConfigError, match="--baseline needs weights that mmrotate can load"):
        benchmark(config(baseline=True))


def test_random_weights_are_the_same_each_time_and_find_boxes():
    first, again = (random_checkpoint(get_recipe(NANO)) for _ in range(2))
    assert all(torch.equal(tensor, again.state[name]) for name, tensor in first.state.items())
    result = benchmark(config(recipe=NANO, fps=True, seconds=1e-9))
    assert result.card.name == "random weights"
    assert result.params == get_recipe(NANO).parameters
    assert result.headline.boxes > 20


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tile": 16}, "--tile 16"),
        ({"tile": 10**6}, "--tile 1000000"),
        ({"batches": (0,)}, "--batch"),
        ({"repeat": 0}, "--repeat 0"),
        ({"seconds": math.nan}, "--seconds"),
        ({"weights": "a", "recipe": NANO}, "--weights and --recipe"),
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


def test_weights_files_are_sized(tmp_path, checkpoint):
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, checkpoint.state, checkpoint.card)
    result = benchmark(config(weights=str(path), fps=True))
    assert result.weights_mb == path.stat().st_size / 1e6
    assert result.card == checkpoint.card


@pytest.mark.usefixtures("mmrotate")
def test_detectors_of_mmrotate_are_no_baseline_of_themselves():
    with pytest.raises(ConfigError, match="runs through mmrotate's own test path anyway"):
        benchmark(config(recipe="rotated-fcos/legnet-nano", baseline=True))


@pytest.mark.parametrize(("factor", "slow"), [(1e-3, True), (1e3, False)])
def test_an_earlier_report_is_compared(tmp_path, factor, slow):
    path = tmp_path / "old.json"
    benchmark(config(fps=True, json_file=path))
    report = json.loads(path.read_text())
    report["runs"][0]["latency_ms"]["p50"] *= factor
    path.write_text(json.dumps(report))
    comparison = benchmark(config(fps=True, compare=path, fail_if_slower=0.1)).comparison
    assert comparison.differences == ()
    assert bool(comparison.too_slow) == slow
    with pytest.raises(ConfigError, match="has no run of fp32 with batch 2"):
        benchmark(config(fps=True, compare=path, fail_if_slower=0.1, batches=(1, 2)))


def test_training_steps_are_timed(mmrotate, tmp_path):
    report = tmp_path / "t.json"
    speed = time_training(BenchmarkConfig(train=True, tile=64, batches=2, repeat=2, device="cpu", json_file=report))
    assert (speed.recipe, speed.batch, speed.size, len(speed.seconds)) == ("oriented-rcnn/legnet-nano", 2, 64, 2)
    assert speed.images_per_second == pytest.approx(2 / np.median(speed.seconds))
    assert 0 <= speed.waiting <= 1
    assert speed.memory_mb > 0
    assert json.loads(report.read_text())["images_per_second"] == pytest.approx(speed.images_per_second)
    with pytest.raises(ConfigError, match="--train times a --recipe on synthetic tiles"):
        BenchmarkConfig(train=True, weights="legnet-nano")
