"""Detectors that are tuned: their schedule, what is mixed in and held out, and the measure before and after."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blobs import write_tiles
from runs import NANO, curve

from legnet_cli.data.labels import IGNORED, ImageLabels
from legnet_cli.detectors.weights.checkpoint import read_checkpoint
from legnet_cli.engine.train import TrainConfig, train
from legnet_cli.engine.train.plan import recipe_plan
from legnet_cli.engine.train.start import FEW, hold_out, tuned


@pytest.mark.parametrize(
    ("images", "share", "settings", "expected"),
    [
        (40, 0.0, {}, (12, "cosine", 24, 5e-5)),  # 20 steps an epoch
        (40, 0.5, {}, (8, "cosine", 32, 5e-5)),
        (1000, 0.0, {}, (2, "cosine", 100, 5e-5)),
        (FEW + 1, 0.0, {}, (12, "step", 500, 2e-4)),
        (40, 0.0, {"epochs": 3}, (12, "cosine", 24, 5e-5)),
        (40, 0.0, {"overrides": ("schedule=step", "warmup=7", "optimizer.lr=2e-4")}, (12, "step", 500, 2e-4)),
        (40, 0.0, {"lr": 2e-4}, (12, "cosine", 24, 2e-4)),
        (40, 0.0, {"recipe": None, "config": Path("own.py")}, (12, "step", 500, 2e-4)),
    ],
)
def test_few_images_get_a_short_schedule_and_a_small_rate(images, share, settings, expected):
    plan = replace(recipe_plan(NANO, ("ship",), 1), batch=2, epochs=12, warmup=500, schedule="step", steps=(8, 11))
    plan = replace(plan, optimizer={**plan.optimizer, "lr": 2e-4})
    config = replace(TrainConfig(out=Path("run"), data=Path("data"), recipe=NANO), **settings)
    found = tuned(plan, images, share, 1, config)
    assert (found.epochs, found.schedule, found.warmup, found.optimizer["lr"]) == pytest.approx(expected)


def image(file, *names, difficult=0):
    n = len(names)
    quads = np.tile([[0, 0], [9, 0], [9, 9], [0, 9]], (n, 1, 1)).astype(float)
    return ImageLabels(file, quads, names, np.full(n, difficult), ({},) * n, places=("",) * n)


@pytest.mark.parametrize(
    ("images", "count"),
    [
        ([image(f"{i}.png", "ship") for i in range(20)], 4),
        ([image(f"{i}.png", "ship") for i in range(5)], 2),  # two at least
        ([image(f"{s}__96__{96 * i}___0.png", "ship") for s in "abcde" for i in range(4)], 4),
        ([image(f"a__96__{96 * i}___0.png", "ship") for i in range(10)], 2),  # tiles of one scene
        ([image(f"{i}.png") for i in range(20)], 0),
        ([image(f"{i}.png", IGNORED) for i in range(20)], 0),
        ([image(f"{i}.png", "ship", difficult=1) for i in range(20)], 0),
        ([image("a.png", "ship"), image("b.png", "ship")], 0),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_held_out(images, count, seed):
    held = hold_out(images, 0.2, seed)
    assert len(held) == count
    assert held == hold_out(images[::-1], 0.2, seed)
    if len({file[0] for file in map(str, held)}) and "__" in images[0].file and images[-1].file[0] != "a":
        assert len({file[0] for file in held}) == 1  # a whole scene


def test_a_detector_is_tuned_and_measured_before_and_after(whole, tmp_path, monkeypatch, caplog):
    """On images held out, which are not among those trained on, with old data mixed in; it can be resumed."""
    monkeypatch.setattr("legnet_cli.engine.train.log.draw_curves", lambda *_: None)
    new = write_tiles(tmp_path / "new", (("train", 8),), names=("bright", "bright"))
    weights = str(whole[0].out / "last.safetensors")
    config = replace(whole[0], data=new, also=whole[0].data, weights=weights, out=tmp_path / "run", epochs=2)
    caplog.set_level(logging.INFO)
    result = train(config)
    # the new data have one class, the weights two: none is forgotten
    assert read_checkpoint(tmp_path / "run/best.safetensors").card.classes == ("bright", "dim")
    assert "2 of 8 images are held out" in caplog.text
    assert "8 images of" in caplog.text
    assert "fine-tuning on 6 images: 2 epochs of 6 steps" in caplog.text
    assert (result.check.images, result.check.validation, result.step) == (6, 2, 12)
    assert result.before is not None
    assert result.best is not None
    monkeypatch.setattr("legnet_cli.engine.train.loop.Loop._stop_asked", lambda self: self.step == 7)
    again = replace(config, out=tmp_path / "again")
    assert train(again).stopped == "signal"
    monkeypatch.undo()
    resumed = train(TrainConfig(out=tmp_path / "again", resume=True))
    assert (resumed.before, resumed.best) == (result.before, result.best)
    assert curve(tmp_path / "again") == curve(tmp_path / "run")
    assert train(replace(config, out=tmp_path / "all", hold_out=0.0, epochs=1)).before is None
