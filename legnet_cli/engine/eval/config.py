"""Settings of ``legnet eval``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from legnet_cli.detectors.views import Fuse, Tta, Views
from legnet_cli.engine import options
from legnet_cli.engine.options import Engine, LabelFormat, Precision
from legnet_cli.settings import Settings, documented, option, required


@documented
@dataclass(frozen=True)
class EvalConfig(Settings):
    """What to measure, by which labels, and where the report goes."""

    data: Path | None = required("Labelled data set, whole images or split tiles, or a vector layer.")
    out: Path = required("Folder of the report.", "-o")
    weights: tuple[str, ...] = options.weights(
        (), "Name, file or URL of weights, or the folder of a run; several are fused.", commas=False
    )
    tta: Tta = options.tta()
    scales: tuple[float, ...] = options.scales()
    fuse: Fuse = options.fuse()
    predictions: Path | None = option(
        None,
        "Predictions: folder or .zip of DOTA text, .csv, .geojson, .gpkg, .fgb or .shp. Equal scores rank by "
        "image, then by x and y.",
    )
    split: str | None = options.split("val, or the only one")
    labels: str | None = options.labels()
    class_field: str | None = options.class_field()
    from_format: LabelFormat | None = options.from_format()
    classes: tuple[str, ...] = options.classes("Class names to measure: ship,plane.")
    rename: tuple[str, ...] = options.rename()
    ignore_others: bool = options.ignore_others()
    count_difficult: bool = option(False, "mmrotate's rules, not DOTA's: difficult objects count, objects are boxes.")
    submission: Path | None = option(None, ".zip of the predictions for DOTA's server.")
    robustness: bool = option(False, "Measure on corrupted images too.")
    calibrate: bool = option(False, "Measure thresholds by class, and the probability that a score stands for.")
    min_precision: float | None = option(
        None, "Calibrate for this share of true objects.", unset="the best F1", least=0, most=1
    )
    max_false_alarms: float | None = option(
        None, "Calibrate for this many false boxes per km².", unset="the best F1", least=0
    )
    write_back: bool = option(False, "Store the calibration in the card of the weights (.safetensors).")
    seed: int = options.seed("corruptions")
    score: float = options.score(0.05)
    tile: int | None = options.tile()
    overlap: int | None = options.overlap()
    gsd: float | Literal["model"] | None = options.gsd("the model's where both are known")
    bands: tuple[int, ...] | None = options.bands()
    stretch: str = options.stretch()
    batch: int | None = options.batch()
    workers: int = option(2, "Threads that read images.", least=1)
    device: str = options.device()
    engine: Engine = options.engine()
    precision: Precision = options.precision()
    force_precision: bool = options.force_precision()
    kernels: str = options.kernels()
    skip_bad: bool = options.skip_bad()
    overwrite: bool = options.overwrite()

    @property
    def views(self) -> Views:
        """How each tile is looked at."""
        return Views(self.tta, self.scales, self.fuse)

    def faults(self) -> list[tuple[object, str]]:
        """See :class:`Settings`."""
        aims = (self.min_precision is not None) + (self.max_false_alarms is not None)
        return [
            options.ignores_all(self.classes, self.ignore_others),
            (self.data is None, "no data given: name a labelled data set with --data, or reports with --compare"),
            (bool(self.weights) == (self.predictions is not None), "give either --weights or --predictions"),
            options.gsd_fault(self.gsd),
            (
                (aims or self.write_back) and not self.calibrate,
                "--min-precision, --max-false-alarms and --write-back go with --calibrate",
            ),
            (aims == 2, "give either --min-precision or --max-false-alarms"),
            (self.max_false_alarms is not None and not self.weights, "--max-false-alarms: give --weights"),
            (self.write_back and not self.weights, "--write-back stores in weights: give --weights"),
            (
                len(self.weights) > 1 and self.write_back,
                "--write-back stores in the card of one model: give one --weights",
            ),
            (not self.views.single and not self.weights, "--tta and --scales search images: give --weights"),
            (self.gsd is not None and not self.weights, "--gsd searches images: give --weights"),
            (self.robustness and not self.weights, "--robustness searches corrupted images: give --weights"),
        ]


@documented
@dataclass(frozen=True)
class CompareConfig(Settings):
    """Which evaluations to put side by side."""

    runs: tuple[Path, ...] = required("Folders of two or more earlier reports.", "--compare")
    out: Path = required("Folder of the comparison.", "-o")
    overwrite: bool = options.overwrite()

    def faults(self) -> list[tuple[object, str]]:
        """See :class:`Settings`."""
        return [(len(self.runs) < 2, "--compare takes two or more reports: --compare A B")]
