"""Settings of ``legnet split``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from legnet_cli.engine import options
from legnet_cli.engine.options import LabelFormat
from legnet_cli.settings import Settings, documented, option, required

Truncated = Literal["keep", "drop", "recut"]
TileFormat = Literal["png", "tif"]


@documented
@dataclass(frozen=True)
class SplitConfig(Settings):
    """What to cut, and how."""

    src: Path = required("Data set folder, COCO file, or an image with --labels.", argument=True)
    out: Path = required("Folder to create.", "-o")
    tile: int = options.tile(1024, "")
    overlap: int = options.overlap(200, "")
    scales: tuple[float, ...] = option((1.0,), "Cut windows of tile/scale pixels, one set for each scale.", "--scale")
    gsd: float | None = option(
        None, "Resample images and labels to this ground sampling distance (m/px).", unset="the images' own"
    )
    truncated: Truncated = option("keep", "What happens to objects cut by a tile.")
    like_mmrotate: bool = option(False, "Areas in single precision: some whole objects count as cut, as in mmrotate.")
    background: float = option(1.0, "Share of the empty tiles to keep; val and test data keep all.", least=0, most=1)
    val_fraction: float = option(0.0, "Share of the ground to set apart for validation.", least=0, most=1, below=True)
    seed: int = options.seed("--background and --val-fraction")
    format: TileFormat = option("png", "8-bit RGB, or all bands and values with georeference.")
    bands: tuple[int, ...] | None = options.bands()
    stretch: str = options.stretch()
    labels: str | None = options.labels()
    class_field: str | None = options.class_field()
    classes: tuple[str, ...] = options.classes()
    rename: tuple[str, ...] = options.rename()
    ignore_others: bool = options.ignore_others()
    from_format: LabelFormat | None = options.from_format()
    skip_bad: bool = options.skip_bad("Leave out labels and images that cannot be used, and list them.")
    workers: int | None = option(None, "Threads.", unset="one per processor", least=1)
    overwrite: bool = options.overwrite()

    def __post_init__(self) -> None:
        super().__post_init__()
        from legnet_cli.tiles import check_tiling  # here, for it loads numpy

        for size, overlap in self.sizes:
            check_tiling(size, overlap)

    def faults(self) -> list[tuple[object, str]]:
        """See :class:`Settings`."""
        scales_ok = bool(self.scales) and all(0 < scale < math.inf for scale in self.scales)
        raw = self.format == "tif"
        return [
            options.ignores_all(self.classes, self.ignore_others),
            (
                self.like_mmrotate and self.truncated != "keep",
                "--like-mmrotate is for --truncated keep",
            ),
            (not scales_ok, f"--scale {self.scales}: give numbers above 0"),
            (self.gsd is not None and not 0 < self.gsd < 1e6, f"--gsd {self.gsd}: give metres per pixel, above 0"),
            (raw and self.gsd is not None, "--gsd is for --format png: tif keeps all pixels"),
            (raw and self.bands is not None, "--bands is for --format png: tif keeps all bands"),
            (raw and self.stretch != "auto", "--stretch is for --format png: tif keeps all values"),
        ]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Side and overlap of the windows at each scale."""
        return [(int(self.tile / scale), int(self.overlap / scale)) for scale in self.scales]
