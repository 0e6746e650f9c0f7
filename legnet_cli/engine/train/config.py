"""Settings of ``legnet train``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from legnet_cli.engine import options
from legnet_cli.engine.options import LabelFormat
from legnet_cli.settings import Settings, documented, option, required


@documented
@dataclass(frozen=True)
class TrainConfig(Settings):
    """What to train, on what, and where the results go."""

    out: Path = required("Folder of the run.", "-o")
    data: Path | None = option(None, "Labelled tiles, as legnet split makes them.")
    recipe: str | None = option(None, "Recipe, see legnet models.", complete="recipes")
    config: Path | None = option(None, "mmrotate config (.py) in place of a recipe. Its code is executed.")
    weights: str | None = options.weights(
        None, "Weights to start from: name, file or URL, or none.", unset="the backbone's ImageNet weights"
    )
    also: Path | None = option(None, "Other labelled tiles to mix in, such as those that --weights learned from.")
    share: float = option(0.5, "Share of the images of each batch from --also.", least=0, most=1, below=True)
    hold_out: float = option(
        0.2, "Fine-tuning without validation images: share of the images to measure on (0: none).", least=0, most=1,
        below=True,
    )  # fmt: skip
    classes: tuple[str, ...] = options.classes("Class names to learn, in this order: ship,plane.", "the data's")
    rename: tuple[str, ...] = options.rename()
    ignore_others: bool = options.ignore_others()
    split: str | None = options.split("train, or the only one")
    epochs: int | None = option(None, "Number of epochs.", unset="the recipe's", least=1)
    batch: int | None = option(None, "Batch size per device and pass.", unset="the recipe's", least=1)
    accumulate: int | None = option(None, "Gradient accumulation steps.", unset="1", least=1)
    lr: float | None = option(None, "Peak learning rate.", unset="the recipe's, in proportion to the global batch")
    overrides: tuple[str, ...] = option(
        (), "Any other setting as key=value, keys as --dry-run shows them; repeatable.", "--set", commas=False
    )
    gsd: float | None = option(
        None, "Ground sampling distance of the data (m/px), for the model card.", unset="the data's, if known"
    )
    seed: int = options.seed("initial weights, data order, augmentation")
    patience: int = option(0, "Stop after N epochs without a better mAP50 (0: never).", least=0)
    device: str = options.device()
    devices: int = option(1, "Devices on each node; torchrun and SLURM override it.", least=1)
    nodes: int = option(1, "Number of nodes.", least=1)
    precision: Literal["fp32", "bf16", "fp16"] = option("fp32", "Numerical precision (fp16 with loss scaling).")
    workers: int | None = option(None, "Processes that read images.", unset="one per core, up to 4", least=0)
    stretch: str = options.stretch()
    labels: str | None = options.labels()
    from_format: LabelFormat | None = options.from_format()
    skip_bad: bool = options.skip_bad()
    save_minutes: float = option(10.0, "Minutes between checkpoints within an epoch.")
    resume: bool = option(False, "Continue the run in --out, with its settings.")
    dry_run: bool = option(False, "Show the resolved recipe, the data check and the cost of a step.")
    overwrite: bool = options.overwrite()

    def faults(self) -> list[tuple[object, str]]:
        """See :class:`Settings`."""
        new = not self.resume
        return [
            options.ignores_all(self.classes, self.ignore_others),
            (self.data is None and new, "no data given: name a labelled data set with --data"),
            ((self.recipe is None) == (self.config is None) and new, "give either --recipe or --config"),
            (self.gsd is not None and not 0 < self.gsd < 1e6, f"--gsd {self.gsd}: give metres per pixel, above 0"),
            (self.lr is not None and self.lr <= 0, f"--lr {self.lr} is out of range: give more than 0"),
            (self.also is not None and self.share == 0, "--also with --share 0 mixes nothing in: leave one out"),
            (self.resume and self.dry_run, "--dry-run shows a new run: leave out --resume"),
        ]
