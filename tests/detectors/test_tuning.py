"""Kernels are chosen by measuring, once, and the choice is used from then on."""

import logging

import pytest
import torch

from legnet_cli.detectors import tuning
from legnet_cli.detectors.fast.kernels import kernels_of, usual_choice
from legnet_cli.detectors.fast.tune import QUICK, THOROUGH, tune, tuned_choice
from legnet_cli.detectors.loader import build_detector, load_checkpoint, load_detector
from legnet_cli.detectors.measured import measured_path, note_measured, read_measured
from legnet_cli.detectors.networks import random_checkpoint
from legnet_cli.detectors.race import Race
from legnet_cli.detectors.tuning import WORTH, settle_kernels, tune_detector
from legnet_cli.detectors.weights.fetch import EMBEDDED
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.errors import ConfigError

CPU, TILE = torch.device("cpu"), 128


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LEGNET_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def detector():
    return build_detector(random_checkpoint(get_recipe("oriented-rcnn/legnet-nano")), CPU)


@pytest.fixture
def fastest(monkeypatch):
    """The last kernel of each layer wins, whatever the time; returns the calls."""
    calls = []

    def race(ways, usual, rounds, clock, all_rounds):
        calls.append((list(ways), usual, rounds))
        return Race(dict.fromkeys(ways, 1.0), list(ways)[-1])

    monkeypatch.setattr("legnet_cli.detectors.fast.tune.race", race)
    return calls


def last(detector):
    return {name: kernels_of(layer)[-1] for name, layer in detector.network.choosable.items()}


@pytest.mark.parametrize("rounds", [QUICK, THOROUGH])
def test_all_wide_layers_are_measured_on_their_inputs(detector, fastest, rounds):
    usual = usual_choice(detector.network.choosable)
    layers = tune(detector.network, TILE, usual, rounds)
    assert {layer.name for layer in layers} == set(detector.network.choosable)
    assert tuned_choice(layers) == last(detector)
    assert all(kernels[0] == "direct" and number == rounds for kernels, _, number in fastest)
    assert 0 < len(fastest) < len(layers)  # those that are alike together
    head = next(layer for layer in layers if layer.name == "rpn_head.rpn_conv")
    sides = (32, 16, 8, 4, 2) if rounds == THOROUGH else (32,)
    assert head.inputs == tuple((1, 64, side, side) for side in sides)
    assert head.flops == sum(2 * 9 * 64 * 64 * side**2 for side in sides)
    assert not any(module._forward_pre_hooks for module in detector.network.modules())


def test_a_kernel_that_differs_is_left_out(detector, fastest, monkeypatch):
    def make(layer, kernel):
        return layer if kernel == "direct" else lambda x: layer(x) * 1.001

    monkeypatch.setattr("legnet_cli.detectors.fast.tune.make_kernel", make)
    layers = tune(detector.network, 64, {})
    assert len(layers) > 1
    assert {layer.race.winner for layer in layers} == {"direct"}


def test_the_choice_is_kept_and_used_by_the_next_detector(detector, fastest):
    tune_detector(detector, TILE)
    known = read_measured(detector.key, TILE, torch.get_num_threads())
    assert known == {"kernels": detector.kernels}
    assert detector.kernels.count("winograd-conv") > 1
    again = load_detector(EMBEDDED, device="cpu")
    tune_detector(again, TILE)
    note_measured(again.key, again.card.tile, torch.get_num_threads(), {"kernels": again.kernels})
    assert load_detector(EMBEDDED, device="cpu").kernels == again.kernels
    usual = load_detector(EMBEDDED, device="cpu", kernels="default").kernels
    assert usual != again.kernels
    measured_path(again.key, again.card.tile, torch.get_num_threads()).write_text('{"found": {"kernels": "a=b"}}')
    assert load_detector(EMBEDDED, device="cpu").kernels == usual
    assert load_detector(EMBEDDED, device="cpu", kernels="direct").kernels == "direct"
    assert load_detector(EMBEDDED, device="cpu", kernels=again.kernels).kernels == again.kernels
    with pytest.raises(ConfigError, match="--kernels quick: these weights have no such kernel"):
        load_detector(EMBEDDED, device="cpu", kernels="quick")


def test_a_search_measures_if_it_is_worth_it(detector, fastest, caplog):
    caplog.set_level(logging.INFO)
    threads = torch.get_num_threads()
    settle_kernels(detector, "default", TILE, 0, threads)
    usual = detector.kernels
    for asked, tiles in (("auto", WORTH - 1), ("default", WORTH), ("direct", WORTH), (usual, WORTH)):
        assert settle_kernels(detector, asked, TILE, tiles, threads) == ("direct" if asked == "direct" else usual)
    assert (fastest, caplog.messages) == ([], [])
    tuned = settle_kernels(detector, "auto", TILE, WORTH, threads)
    assert tuned == detector.kernels != usual
    assert len(caplog.messages) == 1
    calls = len(fastest)
    assert settle_kernels(detector, "auto", TILE, WORTH, threads) == tuned
    assert settle_kernels(detector, "auto", TILE, 1, threads) == tuned
    assert len(fastest) == calls
    settle_kernels(detector, "auto", TILE, WORTH, threads + 1)  # each number of threads by itself
    assert len(fastest) == 2 * calls
    assert torch.get_num_threads() == threads


def test_what_has_no_kernels_stays_as_it_is(monkeypatch):
    detector = build_detector(load_checkpoint(EMBEDDED), CPU, "bf16")
    monkeypatch.setattr(tuning, "tune_detector", None)
    assert settle_kernels(detector, "auto", TILE, WORTH, 1) == "direct"
