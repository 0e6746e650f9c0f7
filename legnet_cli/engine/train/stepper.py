"""Optimisation steps: the mean gradient of several passes, clipped, at the learning rate of the plan.

All random numbers of a pass follow from the seed and the number of the pass, so a resumed run repeats what an
uninterrupted one would have done, and several processes what one process does that accumulates as many passes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from legnet_cli.engine.train.batches import Batch
from legnet_cli.engine.train.plan import TrainPlan
from legnet_cli.errors import ConfigError, DataError, DependencyError, reason


class Stepper:
    """A model and its optimizer on the devices of ``fabric``.

    Args:
        fabric: with its processes started.
        model: takes images (B, 3, H, W), boxes, labels and masks of ignored ground or None, and returns losses by name;
            with its first weights.
        plan: optimizer, learning rates, accumulation and clipping.
        steps_per_epoch: of all processes together.
        seed: random seed.

    Raises:
        ConfigError: the plan's optimizer cannot be made.
    """

    def __init__(self, fabric: Fabric, model: nn.Module, plan: TrainPlan, steps_per_epoch: int, seed: int) -> None:
        self._fabric, self._plan, self._seed, self._steps_per_epoch = fabric, plan, seed, steps_per_epoch
        if fabric.world_size > 1 and fabric.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        self.optimizer: Any
        self._model: Any
        self._bare = model
        self._model, self.optimizer = fabric.setup(model, make_optimizer(model, plan.optimizer))
        # scales losses in fp16
        self.scaler: Any = getattr(fabric.strategy.precision, "scaler", None)

    def take(self, step: int, batches: Iterator[Batch]) -> tuple[dict[str, float], float]:
        """Optimisation step number ``step``, from 0, on the next ``accumulate`` batches of this process.

        Returns:
            The mean losses over passes and processes, with their sum as ``loss``, and the learning rate.

        Raises:
            ConfigError: the model cannot take the images.
            DataError: a loss is not finite.
            DependencyError: the device has too little memory.
        """
        plan = self._plan
        rate = plan.optimizer["lr"] * plan.rate(step, self._steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._bare.train()
        sums: dict[str, Tensor] = {}
        for number in range(plan.accumulate):
            batch = next(batches)
            self._seed_pass(step * plan.accumulate + number)
            with self._fabric.no_backward_sync(self._model, enabled=number < plan.accumulate - 1):
                losses = self._losses(batch, step)
                total = torch.stack([value.float() for value in losses.values()]).sum()
                self._fabric.backward(total / plan.accumulate)
            for name, value in (*losses.items(), ("loss", total)):
                sums[name] = sums.get(name, 0) + value.detach() / plan.accumulate
            _check_finite(total, batch, step)
        self._fabric.clip_gradients(self._model, self.optimizer, max_norm=plan.clip, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return self._mean(sums), rate

    def _losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        try:
            moved = batch.to(self._fabric.device)
            found: dict[str, Tensor] = self._model(moved.images, moved.boxes, moved.labels, moved.ignored)
        except torch.OutOfMemoryError:
            raise DependencyError(
                f"{self._fabric.device}: out of memory with {self._plan.batch} images at once: give a smaller --batch, "
                "and --accumulate to keep the global batch"
            ) from None
        except (AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if step or not self._plan.own_model:
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"the model fails on its first images ({reason}): check its config and overrides"
            ) from error
        return found

    def _seed_pass(self, number: int) -> None:
        """Seed the global generators by the number of the pass among the passes of all processes."""
        place = number * self._fabric.world_size + self._fabric.global_rank
        seed = int(np.random.SeedSequence([self._seed, place, 1]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - mmdet's samplers draw from the global generator
        torch.manual_seed(seed)

    def _mean(self, sums: dict[str, Tensor]) -> dict[str, float]:
        values = torch.stack([sums[name].float() for name in sums])
        reduced = self._fabric.all_reduce(values, reduce_op="mean")
        assert isinstance(reduced, Tensor)
        return dict(zip(sums, reduced.tolist(), strict=True))


def _check_finite(total: Tensor, batch: Batch, step: int) -> None:
    value = float(total.detach())
    if not math.isfinite(value):
        raise DataError(
            f"the loss is {value} at step {step + 1} on {', '.join(batch.names)}: "
            "check these images and labels, or give a smaller --lr"
        )


def make_optimizer(model: nn.Module, settings: dict[str, Any]) -> torch.optim.Optimizer:
    """The class ``type`` of ``torch.optim`` with the other ``settings``, for the weights of ``model`` that learn.

    Raises:
        ConfigError: there is no such class, or it does not take the settings.
    """
    values = {key: value for key, value in settings.items() if key not in ("type", "paramwise_cfg")}
    made = getattr(torch.optim, settings["type"], None)
    if not (isinstance(made, type) and issubclass(made, torch.optim.Optimizer)):
        raise ConfigError(
            f"optimizer {settings['type']!r} is unknown to PyTorch: choose AdamW, SGD or another of torch.optim"
        )
    try:
        if "betas" in values:
            values["betas"] = tuple(values["betas"])
        optimizer: torch.optim.Optimizer = made([p for p in model.parameters() if p.requires_grad], **values)
    except Exception as error:  # of PyTorch, as the settings are
        raise ConfigError(f"optimizer {settings['type']}: {reason(error)}") from None
    return optimizer
