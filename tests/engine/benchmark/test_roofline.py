import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from legnet_cli.detectors.fast.winograd import WinogradConv
from legnet_cli.detectors.stages import unobserved
from legnet_cli.engine.benchmark.roofline import Peaks, Roofline, TimedLayer, count_flops, measure_layers
from legnet_cli.engine.benchmark.timings import Stopwatch
from legnet_cli.engine.sample_tiles import synthetic_tile

PEAKS = Peaks({"float32": 100.0, "bfloat16": 200.0}, 10.0)


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
    with detector.network.observed(Stopwatch(torch.device("cpu")).stage), pytest.raises(RuntimeError):
        detector.network.detect(torch.zeros(1, 64, 64, 7).byte())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in detector.network.modules())
    assert detector.network._stage is unobserved


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


def test_the_best_of_two_measurements_of_peaks():
    other = Peaks({"float32": 90.0, "bfloat16": 300.0}, 12.0)
    assert PEAKS.best(other) == Peaks({"float32": 100.0, "bfloat16": 300.0}, 12.0)
