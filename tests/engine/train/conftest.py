from dataclasses import replace

import pytest
from blobs import write_tiles
from runs import NANO, QUICK

from legnet_cli.engine.train import TrainConfig, train


@pytest.fixture(scope="package")
def tiles(tmp_path_factory):
    return write_tiles(tmp_path_factory.mktemp("tiles") / "blobs")


@pytest.fixture(scope="package")
def whole(mmrotate, tiles, tmp_path_factory):
    """The settings of a run of two epochs of four steps, its result, and its steps; not to be changed."""
    config = TrainConfig(
        data=tiles, out=tmp_path_factory.mktemp("whole") / "run", recipe=NANO, weights="none", epochs=2, batch=2,
        overrides=QUICK, workers=0, device="cpu",
    )  # fmt: skip
    seen = []
    return config, train(config, seen.append), seen


@pytest.fixture
def config(whole, tmp_path, monkeypatch):
    """Settings of a run like that, which draws no curves."""
    monkeypatch.setattr("legnet_cli.engine.train.log.draw_curves", lambda *_: None)
    return replace(whole[0], out=tmp_path / "run")
