"""Records of a training run beyond its own files."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from legnet_cli.engine.train.log import RunLog


class Refused(Exception):
    """What the stand-in for wandb raises."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the W&B runs begun by a stand-in for the package, which refuses where no project is named."""
    ids: list[str] = []

    def init(*, id: str, **_: object) -> SimpleNamespace:
        if ids.count("refuse"):
            raise Refused("no key\nLog in.")
        ids.append(id)
        return SimpleNamespace(finish=lambda: None, log=lambda *_, **__: None)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, errors=SimpleNamespace(Error=Refused)))
    monkeypatch.setenv("WANDB_PROJECT", "test")
    return ids


def test_a_resumed_run_goes_on_in_wandb(begun, tmp_path):
    for out in ("a", "a", "b"):
        (tmp_path / out).mkdir(exist_ok=True)
        RunLog(tmp_path / out, 0).close()
    assert begun[0] == begun[1] != begun[2]


def test_without_a_key_the_run_stays_here(begun, tmp_path, caplog):
    begun.append("refuse")
    RunLog(tmp_path, 0).close()
    assert "Weights & Biases: no key Log in.: this run is not sent there" in caplog.text
    assert (tmp_path / "metrics.csv").exists()


def test_without_a_project_wandb_is_left_alone(begun, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_PROJECT")
    RunLog(tmp_path, 0).close()
    assert begun == []
