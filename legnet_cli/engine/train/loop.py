"""The training loop: passes, optimisation steps, evaluation, and going on after any interruption.

Every random draw of a pass follows from the seed and the number of the pass, so a resumed run repeats what an
uninterrupted one would have done, and several processes what one process does that accumulates as many passes.
"""

from __future__ import annotations

import logging
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from legnet_cli.detectors.mmrotate.augment import Augment
from legnet_cli.detectors.mmrotate.training import TrainableDetector
from legnet_cli.detectors.weights.checkpoint import ModelCard, save_checkpoint, tidy_state
from legnet_cli.engine.train.data import Batch, Order, Samples, TrainData, make_loader
from legnet_cli.engine.train.log import RunLog
from legnet_cli.engine.train.plan import Plan
from legnet_cli.engine.train.state import CHECKPOINT, Average, save_run
from legnet_cli.engine.train.steps import Ended, Pace, Step, StepCost
from legnet_cli.engine.train.validation import Score, Validation
from legnet_cli.errors import ConfigError, DataError, DependencyError

logger = logging.getLogger(__name__)

BEST, LAST = "best.safetensors", "last.safetensors"


class Loop:
    """A model, its optimizer and its data on their devices.

    Args:
        fabric: with its processes started.
        model: with its first weights.
        plan: what to do.
        data: to train on.
        seed: of everything random.
        stretch: how pixels become 8-bit RGB.
        workers: processes that read images.

    Raises:
        ConfigError: the plan's optimizer or transforms cannot be made.
    """

    def __init__(
        self,
        fabric: Fabric,
        model: TrainableDetector,
        plan: Plan,
        data: TrainData,
        seed: int,
        stretch: str,
        workers: int,
    ) -> None:
        self.fabric, self.plan, self.seed = fabric, plan, seed
        if fabric.world_size > 1 and fabric.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        optimizer = _optimizer(model, plan.optimizer)
        self.model: Any
        self.optimizer: Any
        self.model, self.optimizer = fabric.setup(model, optimizer)
        self.bare = model
        self.average = Average(model.weights(), plan.ema) if plan.ema else None
        self.order = Order(len(data.images), plan.batch, plan.accumulate, fabric.global_rank, fabric.world_size, seed)
        samples = Samples(data, Augment(plan.transforms, plan.angle), seed, stretch)
        self.loader = make_loader(samples, self.order, workers, fabric.device.type == "cuda")
        self.steps = self.order.steps * plan.epochs
        self.step = 0
        self.signalled = False
        self.passes: Iterator[Batch] = iter(())
        self.pace = Pace(plan.batch * plan.accumulate * fabric.world_size)

    def weights(self) -> dict[str, Tensor]:
        """The model to keep: the running average if there is one."""
        return self.average.state if self.average else self.bare.weights()

    def dry_run(self) -> StepCost:
        """Take two steps, and say what the second one cost; the model is of no use afterwards."""
        self.order.end = 2
        with self._reading():
            self._take_step()
            self.step, begin = 1, time.perf_counter()
            self._take_step()
            seconds = time.perf_counter() - begin
        return StepCost(seconds, self._memory(), self.pace.images, self.order.steps)

    def run(
        self,
        out: Path,
        card: ModelCard,
        validation: Validation | None,
        resumed: dict[str, Any] | None,
        patience: int,
        save_seconds: float,
        on_step: Callable[[Step], None],
    ) -> Ended:
        """Train to the end, or until a signal or patience stops it; files are written by the first process.

        Args:
            out: folder of the run.
            card: of the weights.
            validation: what to evaluate on.
            resumed: content of the last checkpoint.
            patience: epochs without a better score before training stops; 0 for never.
            save_seconds: between checkpoints.
            on_step: told of each step, on the first process.
        """
        state: dict[str, Any] = {"best": None, "history": []}
        if resumed is not None:
            self._restore(resumed)
            state = {"best": resumed["best"], "history": resumed["history"]}
        self.order.start, self.order.end = self.step, self.steps
        first = self.fabric.is_global_zero
        log = RunLog(out, self.step) if first else None
        stopped, saved = "", time.monotonic()
        with self._signals(), self._reading():
            while self.step < self.steps and not stopped:
                losses, rate = self._take_step()
                self.step += 1
                if self.average:
                    self.average.follow(self.bare.weights(), self.step)
                epoch_ends = self.step % self.order.steps == 0
                score = self._end_epoch(out, card, validation, state) if epoch_ends else None
                if self._stop_asked():
                    stopped = "signal"
                elif epoch_ends and self._patience_over(state, patience):
                    stopped = "patience"
                if first and log is not None:
                    told = self._tell(losses, rate, score)
                    log.add(told)
                    on_step(told)
                    due = time.monotonic() - saved > save_seconds
                    if epoch_ends or stopped or due:
                        log.flush()
                        save_run(out / CHECKPOINT, self._content(state))
                        saved = time.monotonic()
        if log is not None:
            log.close()
        return Ended(self.step // self.order.steps, self.step, stopped, state["best"])

    def _take_step(self) -> tuple[dict[str, float], float]:
        """One optimisation step: the mean losses of its passes, and its learning rate."""
        plan, begin, waited = self.plan, time.perf_counter(), 0.0
        rate = plan.optimizer["lr"] * plan.rate(self.step, self.order.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.bare.train()
        sums: dict[str, Tensor] = {}
        for number in range(plan.accumulate):
            asked = time.perf_counter()
            batch = next(self.passes)
            waited += time.perf_counter() - asked
            self._seed_pass(self.step * plan.accumulate + number)
            with self.fabric.no_backward_sync(self.model, enabled=number < plan.accumulate - 1):
                losses = self._losses(batch)
                total = torch.stack([value.float() for value in losses.values()]).sum()
                self.fabric.backward(total / plan.accumulate)
            for name, value in (*losses.items(), ("loss", total)):
                sums[name] = sums.get(name, 0) + value.detach() / plan.accumulate
            self._check_finite(total, batch)
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=plan.clip, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        means = self._mean(sums)
        self.pace.add(time.perf_counter() - begin, waited)
        return means, rate

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        try:
            moved = batch.to(self.fabric.device)
            found: dict[str, Tensor] = self.model(moved.images, moved.boxes, moved.labels)
        except torch.OutOfMemoryError:
            raise DependencyError(
                f"{self.fabric.device}: out of memory with {self.plan.batch} images at once: give a smaller --batch, "
                "and --accumulate to keep the global batch"
            ) from None
        except (AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if self.step or not self.plan.own_model:
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"the model fails on its first images ({reason}): check its config and overrides"
            ) from error
        return found

    def _check_finite(self, total: Tensor, batch: Batch) -> None:
        value = float(total.detach())
        if not math.isfinite(value):
            raise DataError(
                f"the loss is {value} at step {self.step + 1} on {', '.join(batch.names)}: "
                "look at these images and labels, or give a smaller --lr"
            )

    def _seed_pass(self, number: int) -> None:
        """Draws of this pass depend on the seed and its number among the passes of all processes alone."""
        place = number * self.fabric.world_size + self.fabric.global_rank
        seed = int(np.random.SeedSequence([self.seed, place, 1]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - mmdet's samplers draw from the global generator
        torch.manual_seed(seed)

    def _mean(self, sums: dict[str, Tensor]) -> dict[str, float]:
        values = torch.stack([sums[name].float() for name in sums])
        if self.fabric.world_size > 1:
            values = self._reduced(values, "mean")
        return dict(zip(sums, values.tolist(), strict=True))

    def _end_epoch(
        self, out: Path, card: ModelCard, validation: Validation | None, state: dict[str, Any]
    ) -> Score | None:
        """Evaluate and keep the weights, the best ones apart; the score on the first process."""
        epoch = self.step // self.order.steps
        weights = {name: tensor.detach().clone() for name, tensor in self.weights().items()}
        first = self.fabric.is_global_zero
        if first:
            save_checkpoint(out / LAST, weights, card)
        score = self._evaluate(weights, card, validation) if validation else None
        if first:
            if score is None or state["best"] is None or score.map50 > state["best"][0]:
                save_checkpoint(out / BEST, weights, card)
                state["best"] = (score.map50, epoch) if score else None
            state["history"].append((epoch, score.map50 if score else None))
        state["best"] = self.fabric.broadcast(state["best"]) if self.fabric.world_size > 1 else state["best"]
        self.bare.train()
        return score

    def _evaluate(self, weights: dict[str, Tensor], card: ModelCard, validation: Validation) -> Score | None:
        """Search the images with all processes; the score on the first one."""
        rank, processes = self.fabric.global_rank, self.fabric.world_size
        if processes == 1:
            return validation.score([validation.find(tidy_state(weights, "training"), card, self.fabric.device)])
        for tensor in weights.values():  # the statistics of batch norm may differ between processes
            torch.distributed.broadcast(tensor, 0)
        found = validation.find(tidy_state(weights, "training"), card, self.fabric.device, rank, processes)
        every: list[Any] = [None] * processes
        torch.distributed.gather_object(found, None if rank else every)
        return None if rank else validation.score(every)

    def _patience_over(self, state: dict[str, Any], patience: int) -> bool:
        best = state["best"]
        return bool(patience and best and self.step // self.order.steps - best[1] >= patience)

    def _stop_asked(self) -> bool:
        """Whether any process got a signal; all stop at the same step."""
        if self.fabric.world_size == 1:
            return self.signalled
        return bool(self._reduced(torch.tensor(float(self.signalled), device=self.fabric.device), "sum") > 0)

    def _reduced(self, value: Tensor, how: str) -> Tensor:
        reduced = self.fabric.all_reduce(value, reduce_op=how)
        assert isinstance(reduced, Tensor)
        return reduced

    def _tell(self, losses: dict[str, float], rate: float, score: Score | None) -> Step:
        pace, waiting, seconds = self.pace.rates()
        epoch = (self.step - 1) // self.order.steps + 1
        left = (self.steps - self.step) * seconds
        return Step(
            self.step, self.steps, epoch, self.plan.epochs, losses, rate, pace, waiting, self._memory(), left, score
        )

    def _memory(self) -> float:
        if self.fabric.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.fabric.device) / 2**20
        from legnet_cli.engine.process import peak_mb

        return peak_mb()

    def _content(self, state: dict[str, Any]) -> dict[str, Any]:
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        return {
            "step": self.step,
            "model": self.bare.weights(),
            "average": self.average.state if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            **state,
        }

    def _restore(self, content: dict[str, Any]) -> None:
        self.step = content["step"]
        self.bare.detector.load_state_dict(content["model"])
        if self.average:
            for name, tensor in content["average"].items():
                self.average.state[name].copy_(tensor)
        self.optimizer.load_state_dict(content["optimizer"])
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        if scaler and content["scaler"]:
            scaler.load_state_dict(content["scaler"])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Let the reading processes run; they end once nothing refers to the batches that they make."""
        self.passes = iter(self.loader)
        try:
            yield
        finally:
            self.passes = iter(())

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGTERM and Ctrl-C end training after the step they came in."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: object) -> None:
            if self.signalled and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.signalled = True

        before = {kind: signal.signal(kind, note) for kind in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)


def _optimizer(model: nn.Module, settings: dict[str, Any]) -> torch.optim.Optimizer:
    values = {key: value for key, value in settings.items() if key not in ("type", "paramwise_cfg")}
    made = getattr(torch.optim, settings["type"], None)
    if made is None:
        raise ConfigError(
            f"optimizer {settings['type']!r} is unknown to PyTorch: choose AdamW, SGD or another of torch.optim"
        )
    if "betas" in values:
        values["betas"] = tuple(values["betas"])
    try:
        optimizer: torch.optim.Optimizer = made([p for p in model.parameters() if p.requires_grad], **values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer {settings['type']}: {error}") from None
    return optimizer
