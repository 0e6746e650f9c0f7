"""The training loop: steps, evaluation and checkpoints, and going on after any interruption."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from legnet_cli.detectors.mmrotate.augment import Augment
from legnet_cli.detectors.mmrotate.training import TrainableDetector
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import save_checkpoint
from legnet_cli.detectors.weights.tensors import tidy_state
from legnet_cli.engine.process import peak_mb
from legnet_cli.engine.train.batches import Batch, GlobalBatchSampler, Samples, make_loader
from legnet_cli.engine.train.data import TrainData
from legnet_cli.engine.train.log import RunLog
from legnet_cli.engine.train.plan import TrainPlan
from legnet_cli.engine.train.signals import StopSignal
from legnet_cli.engine.train.state import CHECKPOINT, WeightAverage, save_run
from legnet_cli.engine.train.stepper import Stepper
from legnet_cli.engine.train.steps import Ended, Pace, Step, StepCost
from legnet_cli.engine.train.validation import Score, Validation
from legnet_cli.errors import CheckpointError

logger = logging.getLogger(__name__)

BEST, LAST = "best.safetensors", "last.safetensors"


@dataclass(frozen=True)
class Keeping:
    """What becomes of a run besides steps.

    Attributes:
        out: folder of the run.
        card: of the weights.
        validation: what to evaluate on.
        patience: epochs without a better score before training stops; 0 for never.
        save_seconds: between checkpoints within an epoch.
        before: whether to evaluate the weights that training starts from, too.
        on_step: told of each step, on the first process.
    """

    out: Path
    card: ModelCard
    validation: Validation | None
    patience: int
    save_seconds: float
    before: bool
    on_step: Callable[[Step], None]


class Loop:
    """A model, its optimizer and its data on their devices.

    Args:
        fabric: with its processes started.
        model: with its first weights.
        plan: what to do.
        data: to train on.
        seed: random seed.
        stretch: how pixels become 8-bit RGB.
        workers: processes that read images.

    Raises:
        ConfigError: the plan's optimizer or transforms cannot be made.
    """

    def __init__(
        self,
        fabric: Fabric,
        model: TrainableDetector,
        plan: TrainPlan,
        data: TrainData,
        seed: int,
        stretch: str,
        workers: int,
    ) -> None:
        self.fabric, self.plan, self.model = fabric, plan, model
        place = fabric.global_rank, fabric.world_size
        self.sampler = GlobalBatchSampler(
            len(data.images), plan.batch, plan.accumulate, *place, seed, also=data.also, share=data.share
        )
        self.epoch_steps = self.sampler.steps
        self.steps = self.epoch_steps * plan.epochs
        self.step = 0
        self.stepper = Stepper(fabric, model, plan, self.epoch_steps, seed)
        self.average = WeightAverage(model.weights(), plan.ema) if plan.ema else None
        augment = Augment(plan.transforms, plan.angle)
        fill = not (model.ignores and augment.moves_masks)
        samples = Samples(data, augment, seed, stretch, fill=fill)
        self.loader = make_loader(samples, self.sampler, workers, fabric.device.type == "cuda")
        self.stop = StopSignal()
        self.pace = Pace(plan.batch * plan.accumulate * fabric.world_size)
        # what a checkpoint holds besides tensors: mAP50 before the first step, best mAP50 and its epoch, (epoch, mAP50)
        # of all, the last losses
        self.state: dict[str, Any] = {"before": None, "best": None, "history": [], "losses": {}, "rate": 0.0}

    def weights(self) -> dict[str, Tensor]:
        """The model to keep: the running average if there is one."""
        return self.average.state if self.average else self.model.weights()

    def dry_run(self) -> StepCost:
        """Take two steps, and say what the second one cost; the model is of no use afterwards."""
        self.sampler.end = 2
        with closing(self.pace.waits(iter(self.loader))) as batches:
            self.stepper.take(0, batches)
            begin = time.perf_counter()
            self.stepper.take(1, batches)
            seconds = time.perf_counter() - begin
        return StepCost(seconds, self._memory(), self.pace.images, self.epoch_steps)

    def run(self, keeping: Keeping) -> Ended:
        """Train to the end, or until a signal or patience stops it; files are written by the first process."""
        self.sampler.start, self.sampler.end = self.step, self.steps
        log = RunLog(keeping.out, self.step) if self.fabric.is_global_zero and not self.complete else None
        stopped, saved = "", time.monotonic()
        with self.stop.heard(), closing(self.pace.waits(iter(self.loader))) as batches:
            if keeping.before and keeping.validation and self.step == 0:
                weights = {name: tensor.detach().clone() for name, tensor in self.weights().items()}
                score = self._evaluate(weights, keeping.card, keeping.validation)
                self.state["before"] = score.map50 if score else None
            while not stopped and not self.complete:
                if not self._unscored():  # else the run was stopped before it could evaluate its last epoch
                    self._take_step(batches)
                stopped = "signal" if self._stop_asked() else ""
                ends = self.step % self.epoch_steps == 0 and not stopped
                score = self._end_epoch(keeping) if ends else None
                if ends and self.step < self.steps:
                    stopped = "signal" if self._stop_asked() else self._patience_over(keeping.patience)
                if log is not None:
                    step = self._describe(score)
                    log.add(step)
                    keeping.on_step(step)
                    if ends or stopped or time.monotonic() - saved > keeping.save_seconds:
                        log.flush()
                        save_run(keeping.out / CHECKPOINT, self._content())
                        saved = time.monotonic()
        if log is not None:
            log.close()
        self.fabric.barrier()  # a launcher may end all processes when the first one ends
        return Ended(self.step // self.epoch_steps, self.step, stopped, self.state["best"], self.state["before"])

    def restore(self, content: dict[str, Any], path: Path) -> None:
        """Go on from the content of the checkpoint at ``path``.

        Raises:
            CheckpointError: it does not fit the plan.
        """
        try:
            self.step = int(content["step"])
            self.model.detector.load_state_dict(content["model"])
            if self.average:
                for name, tensor in content["average"].items():
                    self.average.state[name].copy_(tensor)
            self.stepper.optimizer.load_state_dict(content["optimizer"])
            if self.stepper.scaler and content["scaler"]:
                self.stepper.scaler.load_state_dict(content["scaler"])
            self.state = {key: content[key] if key != "before" else content.get(key) for key in self.state}
        except Exception as error:  # whatever a file of other content makes of torch's own loaders
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path}: does not fit its run ({reason}): start again without --resume") from None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.step >= self.steps and not self._unscored()

    def _content(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "model": self.model.weights(),
            "average": self.average.state if self.average else None,
            "optimizer": self.stepper.optimizer.state_dict(),
            "scaler": self.stepper.scaler.state_dict() if self.stepper.scaler else None,
            **self.state,
        }

    def _take_step(self, batches: Iterator[Batch]) -> None:
        begin = time.perf_counter()
        self.state["losses"], self.state["rate"] = self.stepper.take(self.step, batches)
        self.pace.add(time.perf_counter() - begin)
        self.step += 1
        if self.average:
            self.average.follow(self.model.weights(), self.step)

    def _unscored(self) -> bool:
        """Whether an epoch has ended that was not evaluated."""
        epoch, within = divmod(self.step, self.epoch_steps)
        return within == 0 and len(self.state["history"]) < epoch

    def _end_epoch(self, keeping: Keeping) -> Score | None:
        """Evaluate and keep the weights, the best ones apart; the score on the first process."""
        self.stop.doing = "evaluation"
        epoch, state, first = self.step // self.epoch_steps, self.state, self.fabric.is_global_zero
        weights = {name: tensor.detach().clone() for name, tensor in self.weights().items()}
        if first:
            save_checkpoint(keeping.out / LAST, weights, keeping.card)
        score = self._evaluate(weights, keeping.card, keeping.validation) if keeping.validation else None
        if first and (score is None or state["best"] is None or score.map50 > state["best"][0]):
            save_checkpoint(keeping.out / BEST, weights, keeping.card)
            state["best"] = (score.map50, epoch) if score else None
        state["history"].append((epoch, score.map50 if score else None))
        state["best"] = self.fabric.broadcast(state["best"])
        self.stop.doing = "step"
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

    def _patience_over(self, patience: int) -> str:
        best = self.state["best"]
        return "patience" if patience and best and self.step // self.epoch_steps - best[1] >= patience else ""

    def _stop_asked(self) -> bool:
        """Whether any process got a signal; all stop at the same step."""
        asked = torch.tensor(float(self.stop.asked), device=self.fabric.device)
        total = self.fabric.all_reduce(asked, reduce_op="sum")
        assert isinstance(total, Tensor)
        return bool(total > 0)

    def _describe(self, score: Score | None) -> Step:
        pace, waiting, seconds = self.pace.rates()
        return Step(
            step=self.step,
            steps=self.steps,
            epoch=(self.step - 1) // self.epoch_steps + 1,
            epochs=self.plan.epochs,
            losses=self.state["losses"],
            lr=self.state["rate"],
            images_per_second=pace,
            waiting=waiting,
            memory_mb=self._memory(),
            seconds_left=(self.steps - self.step) * seconds,
            score=score,
        )

    def _memory(self) -> float:
        if self.fabric.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.fabric.device) / 2**20
        return peak_mb()
