"""What a run will do: the published recipes' learning rates, and overrides."""

from __future__ import annotations

import pytest

from legnet_cli.detectors.weights.recipes import RECIPES
from legnet_cli.engine.train import TrainConfig
from legnet_cli.engine.train.plan import TrainPlan, override, recipe_plan
from legnet_cli.engine.train.run import resolve
from legnet_cli.errors import ConfigError

PLAN = TrainPlan(
    recipe="r",
    angle="le90",
    classes=("a",),
    model={"neck": {"type": "FPN"}, "train_cfg": {"num": 1}},
    own_model=False,
    transforms=[],
    optimizer={"type": "SGD", "lr": 0.1},
    epochs=4,
)

# Learning rates at steps of epochs of 1000 steps each: warm-up from a third over 500 steps, then ten times less after
# epochs 13, 24 and 33 of 36,
LEGNET = {
    0: 6.6666667e-5, 1: 6.6933333e-5, 250: 1.3333333e-4, 499: 1.9973333e-4, 500: 2e-4, 12_999: 2e-4,
    13_000: 2e-5, 23_999: 2e-5, 24_000: 2e-6, 32_999: 2e-6, 33_000: 2e-7, 35_999: 2e-7,
}  # fmt: skip
SLOWER = {
    0: 5e-5, 1: 5.02e-5, 250: 1e-4, 499: 1.498e-4, 500: 1.5e-4, 12_999: 1.5e-4,
    13_000: 1.5e-5, 23_999: 1.5e-5, 24_000: 1.5e-6, 32_999: 1.5e-6, 33_000: 1.5e-7, 35_999: 1.5e-7,
}  # fmt: skip
# epochs 24 and 33 of 36,
UNRAVELNET = {
    0: 5e-5, 1: 5.02e-5, 250: 1e-4, 499: 1.498e-4, 500: 1.5e-4, 13_000: 1.5e-4,
    23_999: 1.5e-4, 24_000: 1.5e-5, 32_999: 1.5e-5, 33_000: 1.5e-6, 35_999: 1.5e-6,
}  # fmt: skip
# epochs 8 and 11 of 12,
SHORT = {
    0: 3.3333333e-5, 1: 3.3466667e-5, 250: 6.6666667e-5, 499: 9.9866667e-5, 500: 1e-4,
    7_999: 1e-4, 8_000: 1e-5, 10_999: 1e-5, 11_000: 1e-6, 11_999: 1e-6,
}  # fmt: skip
# or down half a cosine over 12 epochs
NANO = {
    0: 3.3333333e-4, 1: 3.3466666e-4, 250: 6.6595297e-4, 499: 9.9441185e-4, 500: 9.9572243e-4,
    3_000: 8.5355339e-4, 4_000: 7.5e-4, 6_000: 5e-4, 9_000: 1.4644661e-4, 11_999: 1.7134730e-11,
}  # fmt: skip
PUBLISHED = {
    "oriented-rcnn/legnet-nano": NANO,
    "oriented-rcnn/legnet-tiny": LEGNET,
    "oriented-rcnn/legnet-small": LEGNET,
    "oriented-rcnn/legnet-small@dota15": SLOWER,
    "oriented-rcnn/legnet-small@fair1m": SHORT,
    "oriented-rcnn/legnet-small@dior-r": SHORT,
    "oriented-rcnn/unravelnet-tiny": UNRAVELNET,
    "oriented-rcnn/unravelnet-small": UNRAVELNET,
    "roi-transformer/legnet-small": LEGNET,
    "rotated-faster-rcnn/legnet-small": SLOWER,
    "rotated-fcos/legnet-small": LEGNET,
    "s2anet/legnet-small": LEGNET,
    "r3det/legnet-small": LEGNET,
}


def test_every_recipe_has_its_learning_rates():
    assert PUBLISHED.keys() == RECIPES.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_learning_rates_are_the_published_ones(name):
    plan = recipe_plan(name, RECIPES[name].dataset.classes, 1)
    assert plan.epochs * 1000 == max(PUBLISHED[name]) + 1
    assert (plan.warmup, plan.warmup_ratio, plan.clip) == (500, 1 / 3, 35)
    assert plan.optimizer == {"type": "AdamW", "lr": RECIPES[name].lr, "betas": [0.9, 0.999], "weight_decay": 0.05}
    for step, rate in PUBLISHED[name].items():
        assert plan.optimizer["lr"] * plan.rate(step, 1000) == pytest.approx(rate, rel=1e-6), step


def test_the_rate_counts_epochs_by_their_steps():
    plan = override(PLAN, ["steps=[2, 3]", "warmup=4", "warmup_ratio=0.5"])
    assert [plan.rate(step, 2) for step in range(8)] == pytest.approx([0.5, 0.625, 0.75, 0.875, 0.1, 0.1, 0.01, 0.01])
    assert [plan.rate(step, 3) for step in range(4, 12)] == pytest.approx([1, 1, *[0.1] * 3, *[0.01] * 3])


@pytest.mark.parametrize(
    ("changes", "devices", "batch", "rate"),
    [
        ({}, 1, 4, 1e-3 * 4 / 8),
        ({"batch": 2}, 1, 2, 1e-3 * 2 / 8),
        ({"batch": 2, "accumulate": 4}, 1, 2, 1e-3),
        ({}, 2, 4, 1e-3),
        ({}, 4, 2, 1e-3),
        ({}, 16, 1, 2e-3),
        ({"batch": 2}, 8, 2, 2e-3),
        ({"batch": 2, "lr": 3e-4}, 8, 2, 3e-4),
        ({"overrides": ("optimizer.lr=7e-5",)}, 1, 4, 7e-5),
        ({"overrides": ("batch=2",)}, 1, 2, 1e-3 * 2 / 8),
    ],
)
def test_the_rate_follows_the_global_batch(tmp_path, changes, devices, batch, rate):
    config = TrainConfig(data=tmp_path, out=tmp_path, recipe="oriented-rcnn/legnet-nano", **changes)
    plan = resolve(config, ("a", "b"), devices)
    assert plan.batch == batch
    assert plan.optimizer["lr"] == pytest.approx(rate)


@pytest.mark.parametrize(("epochs", "steps"), [(None, (13, 24, 33)), (12, (4, 8, 11)), (1, (1, 1, 1))])
def test_a_shorter_run_falls_in_proportion(tmp_path, epochs, steps):
    config = TrainConfig(data=tmp_path, out=tmp_path, recipe="oriented-rcnn/legnet-tiny", epochs=epochs)
    assert resolve(config, ("a",), 1).steps == steps


def test_overrides():
    plan = override(PLAN, ["ema=0.5", "optimizer.momentum=0.9", "model.neck.type=PAFPN", "transforms=[{type: A}]"])
    assert (plan.ema, plan.optimizer["momentum"], plan.model["neck"]["type"]) == (0.5, 0.9, "PAFPN")
    assert plan.own_model
    assert override(plan, ["transforms.0.type=B"]).transforms == [{"type": "B"}]
    assert not override(PLAN, ["model.train_cfg.num=2"]).own_model
    assert override(PLAN, ["optimizer.lr=1e-4"]).optimizer["lr"] == 1e-4  # a word, to YAML
    assert TrainPlan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("ema", "key=value"),
        ("emma=0.5", "did you mean ema"),
        ("model.nek.type=1", "did you mean neck"),
        ("transforms.0.type=A", "there is no transforms.0: known are none"),
        ("ema=[", "not YAML"),
        ("ema=1", "ema 1"),
        ("epochs=0", "epochs 0"),
        ("batch=0", "batch and accumulate"),
        ("accumulate=0", "batch and accumulate"),
        ("schedule=linear", "step or cosine"),
        ("clip=0", "clip 0"),
        ("warmup=-1", "warmup"),
        ("warmup_ratio=2", "warmup"),
        ("optimizer.lr=0", "lr 0"),
    ],
)
def test_wrong_overrides_are_named(assignment, message):
    with pytest.raises(ConfigError, match=message):
        override(PLAN, [assignment])
