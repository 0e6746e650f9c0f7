"""Runs that are interrupted, killed, resumed, extended and started again."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch
import yaml
from forks import Fork
from runs import curve, rows

from legnet_cli.detectors.weights.checkpoint import read_checkpoint
from legnet_cli.engine.train import TrainConfig, train
from legnet_cli.errors import CheckpointError, ConfigError, DataError


def again(config, **changes):
    return TrainConfig(out=config.out, resume=True, workers=0, device="cpu", **changes)


@pytest.fixture
def copied(whole, config):
    """A run that is complete, and may be changed."""
    shutil.copytree(whole[0].out, config.out)
    return config


@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
def test_a_stopped_run_equals_an_uninterrupted_one(whole, config, caplog):
    def stop(step):
        if step.step == 3:  # the next step ends an epoch
            os.kill(os.getpid(), signal.SIGINT)
        if step.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = train(config, stop)
    assert (stopped.stopped, stopped.step) == ("signal", 4)
    assert caplog.text.count("stopping after this step") == 1
    assert rows(config.out)[-1]["map50"] == ""  # it did not wait for the evaluation
    assert not (config.out / "best.safetensors").exists()
    stopped = train(again(config), stop)
    assert (stopped.stopped, stopped.step) == ("signal", 6)
    train(again(config))
    assert curve(config.out) == curve(whole[0].out)
    one, two = (read_checkpoint(c.out / "last.safetensors").state for c in (config, whole[0]))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_signal_during_the_evaluation_is_heeded_after_it(config, monkeypatch, caplog):
    monkeypatch.setattr("legnet_cli.engine.train.loop.Loop._evaluate", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    stopped = train(config)
    assert (stopped.stopped, stopped.step) == ("signal", 4)
    assert "stopping after this evaluation" in caplog.text


def power_failure(at):
    def die(step):
        if step.step == at:
            raise RuntimeError("power failure")

    return die


def test_a_killed_run_goes_on_from_its_last_checkpoint(whole, config):
    with pytest.raises(RuntimeError, match="power failure"):
        train(config, power_failure(6))
    assert len(rows(config.out)) == 4  # of the epoch that was finished
    (config.out / ".legnet-left").mkdir()
    train(again(config))
    assert curve(config.out) == curve(whole[0].out)
    assert not (config.out / ".legnet-left").exists()


def test_checkpoints_within_an_epoch(whole, config):
    with pytest.raises(RuntimeError, match="power failure"):
        train(replace(config, save_minutes=0), power_failure(3))
    assert len(rows(config.out)) == 2
    train(again(config, epochs=2))
    assert curve(config.out) == curve(whole[0].out)


def test_a_run_killed_before_its_first_checkpoint_starts_again(whole, config):
    for settings in (config, config, again(config)):
        with pytest.raises(RuntimeError, match="power failure"):
            train(settings, power_failure(1))
        assert {path.name for path in config.out.iterdir()} <= {"config.yaml", "tensorboard"}
    train(again(config))
    assert curve(config.out) == curve(whole[0].out)


def test_a_complete_run_says_so_and_can_be_extended(whole, copied, caplog):
    caplog.set_level("INFO")
    before = {path.name: path.read_bytes() for path in copied.out.iterdir() if path.is_file()}
    result = train(again(copied))
    assert (result.step, result.stopped, result.best) == (8, "", whole[1].best)
    assert "is complete after 2 epochs: --epochs continues for more" in caplog.text
    assert {path.name: path.read_bytes() for path in copied.out.iterdir() if path.is_file()} == before
    with pytest.raises(ConfigError, match=r"--epochs 1: the run in .* has 2: give more"):
        train(again(copied, epochs=1))
    result = train(again(copied, epochs=3))
    assert (result.epochs, result.step) == (3, 12)
    assert "3 epochs in place of 2: the learning rate falls after epochs 2, 4, 6" in caplog.text
    assert curve(copied.out)[:8] == curve(whole[0].out)
    assert float(rows(copied.out)[8]["lr"]) == pytest.approx(0.00025 / 10 * (1 / 3 + 8 / 500 * 2 / 3))
    assert yaml.safe_load((copied.out / "config.yaml").read_text())["plan"]["epochs"] == 3


def test_an_existing_run_is_kept(copied):
    for name in ("last.ckpt", "last.safetensors", "best.safetensors"):
        with pytest.raises(ConfigError, match="--overwrite"):
            train(replace(copied, resume=False))
        (copied.out / name).unlink()


def test_what_a_run_cannot_go_on_with_is_named(copied):
    with pytest.raises(ConfigError, match=r"--seed 5: the run in .* has 0"):
        train(again(copied, seed=5))
    content = torch.load(copied.out / "last.ckpt", weights_only=True)
    for change, message in (
        ({"model": {}}, "does not fit its run"),
        ({"optimizer": 3}, "does not fit its run"),
        ({"step": None}, "does not fit its run"),
    ):
        torch.save(content | change, copied.out / "last.ckpt")
        with pytest.raises(CheckpointError, match=message):
            train(again(copied))
    torch.save([1], copied.out / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"is damaged \(holds a list\)"):
        train(again(copied))
    (copied.out / "last.ckpt").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(CheckpointError, match="is damaged"):
        train(again(copied))
    (copied.out / "last.ckpt").unlink()
    with pytest.raises(CheckpointError, match="there is nothing to resume"):
        train(again(copied))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"config\.yaml: cannot be read"),
        ("a: [", r"config\.yaml: cannot be read"),
        ("settings: {}", r"config\.yaml: cannot be read"),
        ("settings: {data: a, config: b, sed: 1}\nplan: {}", r"config\.yaml: cannot be read .*sed"),
        (None, "no run to resume"),
    ],
)
def test_settings_that_cannot_be_read(config, text, message):
    config.out.mkdir()
    if text is not None:
        (config.out / "config.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        train(again(config))


@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
def test_sigterm_before_the_first_step_ends_at_once_and_leaves_nothing(config, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "legnet_cli.engine.train.run.load_train_data", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)
    )
    process = Fork(train, config)
    assert process.communicate() == (143, "")
    assert list(tmp_path.iterdir()) == []
