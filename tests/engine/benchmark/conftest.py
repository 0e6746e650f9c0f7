import pytest
import torch

from legnet_cli.detectors.loader import build_detector
from legnet_cli.detectors.weights.checkpoint import read_checkpoint
from legnet_cli.detectors.weights.fetch import EMBEDDED, fetch


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Matrices and arrays that take no time, and hardly any warm-up."""
    monkeypatch.setattr("legnet_cli.engine.benchmark.runs._WARM_SEARCHES", 1)
    monkeypatch.setattr("legnet_cli.engine.benchmark.roofline._SIDES", {"cpu": (32,)})
    monkeypatch.setattr("legnet_cli.engine.benchmark.roofline._TRIAD_MB", {"cpu": 1})
    monkeypatch.setattr("legnet_cli.engine.benchmark.roofline.PASSES", 1)


@pytest.fixture(scope="package")
def checkpoint():
    """The demonstration weights: they find few boxes in a synthetic tile, where random ones find thousands."""
    return read_checkpoint(fetch(EMBEDDED))


@pytest.fixture(scope="package")
def detector(checkpoint):
    return build_detector(checkpoint, torch.device("cpu"))
