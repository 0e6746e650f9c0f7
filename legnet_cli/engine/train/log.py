"""What a run leaves to look at: ``metrics.csv``, ``curves.png``, TensorBoard events, W&B where it is asked for."""

from __future__ import annotations

import csv
import logging
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from legnet_cli.engine.train.curves import draw_curves
from legnet_cli.files import atomic_path

if TYPE_CHECKING:
    from legnet_cli.engine.train.steps import Step

logger = logging.getLogger(__name__)

METRICS, CURVES = "metrics.csv", "curves.png"
_FIXED = ("step", "epoch", "lr", "images_per_second", "waiting", "memory_mb", "map50", "map")


class RunLog:
    """Writers of one run; rows after ``step`` that an interrupted run left are dropped."""

    def __init__(self, out: Path, step: int) -> None:
        self._out = out
        self._rows = [row for row in read_metrics(out / METRICS) if int(row["step"]) <= step]
        self._written = False
        self._board = _tensorboard(out, step)
        self._wandb = _wandb(out)

    def add(self, step: Step) -> None:
        """Note one step, in place of what was noted of it before."""
        row: dict[str, Any] = {name: getattr(step, name) for name in _FIXED[:6]}
        if step.score is not None:
            row |= {"map50": step.score.map50, "map": step.score.map}
            row |= {f"ap50/{name}": value for name, value in step.score.ap50.items()}
        row |= step.losses
        if self._rows and int(self._rows[-1]["step"]) == step.step:
            self._rows.pop()
        self._rows.append({key: _text(value) for key, value in row.items()})
        self._written = False
        values = {key: value for key, value in row.items() if key not in ("step", "epoch")}
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step.step)
        if self._wandb is not None:
            self._wandb.log(values, step=step.step)

    def flush(self) -> None:
        """Write the files, unless they hold everything."""
        if self._written:
            return
        names = dict.fromkeys((*_FIXED, *(name for row in self._rows for name in row)))
        with atomic_path(self._out / METRICS) as scratch, scratch.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(names), restval="")
            writer.writeheader()
            writer.writerows(self._rows)
        draw_curves(self._rows, self._out / CURVES)
        if self._board is not None:
            self._board.flush()
        self._written = True

    def close(self) -> None:
        """End the records."""
        self.flush()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a ``metrics.csv``; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def _text(value: float | int) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))


def _tensorboard(out: Path, step: int) -> Any:  # noqa: ANN401 - an optional package's writer
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)


def _wandb(out: Path) -> Any:  # noqa: ANN401 - an optional package's run
    if not os.environ.get("WANDB_PROJECT"):
        return None
    try:
        import wandb
    except ImportError:
        return None
    kept = out / "wandb" / "id.txt"  # a resumed run goes on with its page
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(uuid.uuid4().hex[:8])
    try:
        return wandb.init(dir=str(out), name=out.name, id=kept.read_text().strip(), resume="allow")
    except wandb.errors.Error as error:
        logger.warning("Weights & Biases: %s: this run is not sent there", " ".join(str(error).split()))
        return None
