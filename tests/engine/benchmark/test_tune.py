"""The kernels and engine that a benchmark chooses, by races whose outcome the test decides."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from legnet_cli.detectors.loader import build_detector
from legnet_cli.detectors.measured import read_measured
from legnet_cli.detectors.race import Race
from legnet_cli.detectors.tuning import use_threads
from legnet_cli.engine.benchmark import BenchmarkConfig, benchmark
from legnet_cli.engine.benchmark.processes import ONE, SEVERAL, race_processes
from legnet_cli.engine.benchmark.tune import check_tuning, measure_tuning
from legnet_cli.errors import ConfigError
from legnet_cli.main import app

SIDE = 64


@pytest.fixture(autouse=True)
def races(monkeypatch, tmp_path):
    """The ways of each race to the fastest engine, and what wins."""
    monkeypatch.setenv("LEGNET_CACHE", str(tmp_path / "cache"))
    seen = {"winner": "tuned", "ways": []}

    def layers(ways, usual, rounds, clock, all_rounds):
        return Race({name: 2.0 - 0.5 * place for place, name in enumerate(ways)}, list(ways)[-1])

    def searches(ways, usual, rounds, all_rounds):
        for call in ways.values():
            call()
        seen["ways"].append(list(ways))
        return Race(dict.fromkeys(ways, 5.0), seen["winner"])

    monkeypatch.setattr("legnet_cli.detectors.fast.tune.race", layers)
    monkeypatch.setattr("legnet_cli.engine.benchmark.tune.race", searches)
    monkeypatch.setattr("legnet_cli.engine.benchmark.processes.race", searches)
    monkeypatch.setattr("legnet_cli.engine.benchmark.run.installed_engines", list)
    return seen


class Other:
    def detect(self, images):
        assert images.shape == (1, SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("winner", "engine", "kernels"),
    [("tuned", "torch", "tuned"), ("direct", "torch", "direct"), ("openvino", "openvino", "tuned")],
)
def test_the_winner_is_kept(checkpoint, races, winner, engine, kernels):
    races["winner"] = winner
    detector, tile = build_detector(checkpoint, torch.device("cpu")), np.zeros((SIDE, SIDE, 3), np.uint8)
    tuning = measure_tuning(detector, {"direct": Other(), "openvino": Other()}, tile, lambda text: None)
    assert races["ways"] == [["tuned", "direct", "openvino"]]
    known = read_measured(detector.key, SIDE, torch.get_num_threads())
    assert known == {"engine": engine, "kernels": detector.kernels}
    assert (detector.kernels == "direct") == (kernels == "direct")
    head = next(layer for layer in tuning.layers if layer.name == "rpn_head.rpn_conv")
    assert tuning.floor_ms(head) == pytest.approx(head.flops / 4 / tuning.gflops / 1e6)
    assert tuning.share(head) * head.race.ms[head.race.winner] == pytest.approx(4 * tuning.floor_ms(head))
    linear = next(layer for layer in tuning.layers if len(layer.weight) == 2)
    assert tuning.floor_ms(linear) == pytest.approx(linear.flops / tuning.gflops / 1e6)


@pytest.mark.parametrize(("winner", "workers"), [(ONE, 1), (SEVERAL, 2)])
def test_processes_are_raced_and_the_faster_number_is_kept(checkpoint, races, winner, workers):
    races["winner"] = winner
    detector, tile = build_detector(checkpoint, torch.device("cpu")), np.zeros((SIDE, SIDE, 3), np.uint8)
    with use_threads(1):
        assert race_processes(checkpoint, detector, tile) is None
    with use_threads(2):
        assert race_processes(checkpoint, detector, tile).winner == winner
        assert read_measured(detector.key, SIDE, 2) == {"workers": workers}
    assert races["ways"] == [[SEVERAL, ONE]]
    assert set(read_measured(detector.key, SIDE, 1)) == {"kernels"}


def test_a_benchmark_tunes_and_shows_it(tmp_path):
    report = tmp_path / "report.json"
    words = ["benchmark", "--tune", "--fps", "--tile", str(SIDE), "--repeat", "1", "--json-file", str(report)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert "from now on auto is: tuned" in result.stdout
    tuning = json.loads(report.read_text())["tuning"]
    assert {layer["kernel"] for layer in tuning["layers"]} >= {"winograd-conv", "product", "convolution"}
    assert set(tuning["search_ms"]) == {"tuned", "direct"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kernels": "direct"}, "leave out --kernels"),
        ({"engine": "openvino"}, "leave out --engine"),
        ({"precisions": "bf16"}, "--tune is for Oriented R-CNN on a CPU, in fp32 and by PyTorch"),
    ],
)
def test_what_cannot_be_tuned_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        benchmark(BenchmarkConfig(tune=True, tile=SIDE, **values))


def test_nor_other_detectors():
    with pytest.raises(ConfigError, match="--tune is for Oriented R-CNN"):
        check_tuning(type("Any", (), {"network": None})())
