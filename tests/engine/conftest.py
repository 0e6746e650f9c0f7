import pytest
from blobs import BlobDetector
from eval_set import write_dota


@pytest.fixture
def dota(tmp_path):
    return write_dota(tmp_path / "dota")


@pytest.fixture
def detector(monkeypatch):
    found = BlobDetector()
    monkeypatch.setattr("legnet_cli.engine.eval.run.load_ensemble", lambda *_, **__: found)
    return found
