"""What is kept of measurements, and when it does not count."""

import pytest
import torch

from legnet_cli.detectors import measured
from legnet_cli.detectors.measured import measured_path, network_key, note_measured, read_measured

PLACE = ("network", 1024, 2)


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LEGNET_CACHE", str(tmp_path / "cache"))


def test_what_is_noted_is_known_and_grows():
    assert read_measured(*PLACE) == {}
    note_measured(*PLACE, {"kernels": "a=winograd"})
    note_measured(*PLACE, {"bf16": 2.5})
    assert read_measured(*PLACE) == {"kernels": "a=winograd", "bf16": 2.5}
    note_measured(*PLACE, {"kernels": "direct"})
    assert read_measured(*PLACE)["kernels"] == "direct"


@pytest.mark.parametrize("text", ["", "{", '{"found": 3}', "[]", '{"found": [1, 2]}', "\0", "[" * 100_000])
def test_damage_is_as_nothing(text):
    note_measured(*PLACE, {"kernels": "a=winograd"})
    measured_path(*PLACE).write_text(text)
    assert read_measured(*PLACE) == {}
    note_measured(*PLACE, {"kernels": "direct"})
    assert read_measured(*PLACE) == {"kernels": "direct"}


@pytest.mark.parametrize("other", [("another", 1024, 2), ("network", 512, 2), ("network", 1024, 1)])
def test_networks_tiles_and_threads_are_apart(other):
    note_measured(*PLACE, {"kernels": "a=winograd"})
    assert read_measured(*other) == {}


def test_so_are_machines(monkeypatch):
    note_measured(*PLACE, {"kernels": "a=winograd"})
    with monkeypatch.context() as patch:
        patch.setattr(measured, "cpu_name", lambda: "another")
        assert read_measured(*PLACE) == {}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert read_measured(*PLACE) == {}


def test_a_cache_that_cannot_be_written_does_not_matter(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEGNET_CACHE", str(tmp_path / "file"))
    note_measured(*PLACE, {"kernels": "a=winograd"})
    assert read_measured(*PLACE) == {}


def test_a_network_is_known_by_names_and_shapes():
    state = {"a": torch.zeros(2, 3), "b": torch.zeros(4)}
    assert network_key(state) == network_key({"b": torch.ones(4), "a": torch.ones(2, 3)})
    assert len({network_key(state), network_key({**state, "b": torch.zeros(5)}), network_key({"a": state["a"]})}) == 3
