"""Optimisation steps on a model of three numbers: what is done with gradients can be told from the outside."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from legnet_cli.engine.train.batches import Batch
from legnet_cli.engine.train.plan import TrainPlan
from legnet_cli.engine.train.stepper import Stepper, make_optimizer
from legnet_cli.errors import ConfigError, DataError, DependencyError


class Linear(nn.Module):
    """Its gradient is the mean colour of the images, over 255; a second loss weighs a tenth of it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.frozen = nn.Parameter(torch.zeros(3), requires_grad=False)
        self.drawn = []

    def forward(self, images, boxes, labels, ignored=None):
        self.drawn.append((random.random(), np.random.random(), float(torch.rand(()))))  # noqa: NPY002 - mmdet's
        whole = (self.weight * images.float().mean((0, 2, 3)) / 255).sum()
        return {"loss_a": 0.9 * whole + 1, "loss_b": 0.1 * whole}


class Process(Fabric):
    """One of several processes, as far as numbers go."""

    place = (0, 1)
    global_rank = property(lambda self: self.place[0])
    world_size = property(lambda self: self.place[1])


def plan(**changes):
    values = {
        "recipe": "r",
        "angle": "le90",
        "classes": ("a",),
        "model": {},
        "own_model": False,
        "transforms": [],
        "optimizer": {"type": "SGD", "lr": 0.5},
        "epochs": 2,
        "warmup": 0,
    }
    return TrainPlan(**values | changes)


def batch(*colours, side=2):
    images = torch.tensor(colours, dtype=torch.uint8).view(-1, 3, 1, 1).repeat(1, 1, side, side)
    return Batch(images, [torch.zeros(0, 5)] * len(images), [torch.zeros(0)] * len(images), ["a.png"] * len(images))


def stepper(model, seed=0, place=(0, 1), steps_per_epoch=2, **changes):
    fabric = Process(accelerator="cpu", devices=1)
    fabric.place = place
    return Stepper(fabric, model, plan(**changes), steps_per_epoch, seed)


def test_a_step_follows_the_mean_of_its_passes():
    model = Linear()
    parts = [batch((255, 0, 51)), batch((51, 0, 51)), batch((0, 204, 51))]
    _, rate = stepper(model, accumulate=3).take(0, iter(parts))
    assert rate == 0.5
    torch.testing.assert_close(model.weight.data, -0.5 * torch.tensor([0.4, 0.8 / 3, 0.2]))
    one = Linear()
    stepper(one).take(0, iter([batch((255, 0, 51), (51, 0, 51), (0, 204, 51))]))
    torch.testing.assert_close(model.weight.data, one.weight.data)


def test_losses_are_the_means_of_the_passes():
    model = Linear()
    model.weight.data.copy_(torch.tensor([1.0, 2.0, 3.0]))
    losses, _ = stepper(model, accumulate=2).take(0, iter([batch((255, 0, 0)), batch((0, 255, 0))]))
    assert losses == pytest.approx({"loss_a": 0.9 * 1.5 + 1, "loss_b": 0.1 * 1.5, "loss": 2.5})


def test_gradients_do_not_add_up_over_steps():
    model = Linear()
    steps = stepper(model)
    for number in range(2):
        steps.take(number, iter([batch((51, 51, 51))]))
    torch.testing.assert_close(model.weight.data, torch.full((3,), -2 * 0.5 * 0.2))
    assert model.weight.grad is None


@pytest.mark.parametrize(("clip", "length"), [(0.1, 0.1), (0.5, 0.5), (35.0, 3**0.5)])
def test_the_norm_of_the_mean_gradient_is_clipped(clip, length):
    model = Linear()
    white = batch((255, 255, 255))
    stepper(model, clip=clip, accumulate=2).take(0, iter([white, white]))
    torch.testing.assert_close(model.weight.data.norm(), torch.tensor(0.5 * length), rtol=1e-4, atol=0)


def test_the_rate_of_each_step_is_that_of_the_plan():
    model = Linear()
    steps = stepper(model, epochs=4, steps=(2, 3), warmup=2, warmup_ratio=0.5, optimizer={"type": "SGD", "lr": 0.8})
    rates, moves = [], []
    for number in range(8):
        before = model.weight.data.clone()
        rates.append(steps.take(number, iter([batch((255, 0, 0))]))[1])
        moves.append(float((before - model.weight.data)[0]))
    assert rates == pytest.approx([0.4, 0.6, 0.8, 0.8, 0.08, 0.08, 0.008, 0.008])
    assert moves == pytest.approx(rates, rel=1e-4)


def test_random_numbers_of_a_pass_follow_from_its_place_among_all_passes():
    """Two processes draw what one does that accumulates twice as much, whatever was drawn before."""

    def drawn(seed, place, accumulate, first=0):
        random.seed(9)
        torch.manual_seed(9)
        model = Linear()
        steps = stepper(model, seed, place, accumulate=accumulate)
        for number in range(first, 3):
            steps.take(number, iter([batch((1, 2, 3))] * accumulate))
        return model.drawn

    alone = drawn(5, (0, 1), 4)
    assert len(set(alone)) == len(alone) == 12
    assert [drawn(5, (rank, 2), 2) for rank in range(2)] == [alone[0::2], alone[1::2]]
    assert drawn(5, (0, 1), 4, first=2) == alone[8:]  # resumed
    assert not set(drawn(6, (0, 1), 4)) & set(alone)


def test_a_loss_that_is_not_finite_names_step_and_images():
    model = Linear()
    model.weight.data.fill_(torch.inf)
    with pytest.raises(DataError, match=r"the loss is inf at step 8 on a\.png: check these images"):
        stepper(model).take(7, iter([batch((9, 9, 9))]))


def raising(error):
    model = Linear()

    def forward(*_):
        raise error

    model.forward = forward
    return model


def test_errors_of_a_model_of_ones_own_in_the_first_step_are_the_users():
    with pytest.raises(ConfigError, match=r"the model fails on its first images \(no such layer\)"):
        stepper(raising(ValueError("no such layer")), own_model=True).take(0, iter([batch((0, 0, 0))]))
    for options, number in (({"own_model": True}, 1), ({}, 0)):
        with pytest.raises(KeyError):
            stepper(raising(KeyError("a bug")), **options).take(number, iter([batch((0, 0, 0))]))


def test_too_little_memory_names_the_flags_that_help():
    with pytest.raises(DependencyError, match=r"out of memory with 2 images at once: give a smaller --batch"):
        stepper(raising(torch.OutOfMemoryError()), batch=2).take(0, iter([batch((0, 0, 0))]))


def test_the_optimizer_has_its_settings_and_what_learns():
    settings = {"type": "AdamW", "lr": 0.1, "betas": [0.5, 0.6], "weight_decay": 0.7}
    (group,) = make_optimizer(Linear(), settings).param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.1, (0.5, 0.6), 0.7)
    assert len(group["params"]) == 1
