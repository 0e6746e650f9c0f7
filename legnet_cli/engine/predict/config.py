"""Settings of ``legnet predict``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from legnet_cli.detectors.views import Fuse, Tta, Views
from legnet_cli.detectors.weights.fetch import EMBEDDED
from legnet_cli.engine import options
from legnet_cli.engine.options import Engine, Precision
from legnet_cli.errors import ConfigError
from legnet_cli.settings import Settings, documented, option


def read_shard(text: str) -> tuple[int, int]:
    """Number and count of parts from ``3/8``; parts count from 1.

    Raises:
        ConfigError: for anything else.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard {text}: give a part and the number of parts, from 1/8 to 8/8")
    return int(found[1]), int(found[2])


def read_workers(text: str) -> int:
    """A number of processes; 0 for ``auto``.

    Raises:
        ConfigError: for anything else.
    """
    if text != "auto" and not text.isdecimal():
        raise ConfigError(f"--workers {text}: give a number of processes, or auto")
    return 0 if text == "auto" else int(text)


def read_score(text: str) -> float | None:
    """A least score; None for ``auto``.

    Raises:
        ConfigError: for anything else.
    """
    try:
        return None if text == "auto" else float(text)
    except ValueError:
        raise ConfigError(f"--score {text}: give 0 to 1, or auto") from None


@documented
@dataclass(frozen=True)
class PredictConfig(Settings):
    """What to search, with which weights, and where the objects go."""

    scenes: tuple[str, ...] = option(
        (),
        "Rasters that GDAL reads, folders, glob patterns, URLs, lists of these, or STAC items.",
        argument=True,
        commas=False,
    )
    out: Path = option(
        None,
        ".geojson .gpkg .fgb .shp .parquet .csv, or a folder (no suffix) of DOTA text; "
        "'out/{scene}.gpkg' writes one per scene.",
        "-o",
    )
    weights: tuple[str, ...] = options.weights(
        (EMBEDDED,), "Name, file or URL of weights, or the folder of a run; several are fused.", commas=False
    )
    tta: Tta = options.tta()
    scales: tuple[float, ...] = options.scales()
    fuse: Fuse = options.fuse()
    asset: str = option("", "Asset of STAC items to search.", unset="the only image")
    tile: int | None = options.tile()
    overlap: int | None = options.overlap()
    gsd: float | Literal["model"] | None = options.gsd()
    bands: tuple[int, ...] | None = options.bands()
    stretch: str = options.stretch()
    score: float | None = options.score(
        None, unset="auto: by class as legnet eval --calibrate measured it, else 0.25", parse=read_score
    )
    classes: tuple[str, ...] = options.classes()
    aoi: Path | None = option(None, "Vector file; search only inside its polygons.")
    max_detections: int | None = option(None, "Keep at most N per scene, best first.", unset="all", least=1)
    size_check: Literal["off", "flag", "drop"] = option(
        "off", "Objects of a size that their class had nowhere in training: flag (column odd_size) or drop them."
    )
    crs: str = options.crs()
    preview: Path | None = option(None, "PNG of the boxes over the scene, one per scene; '{scene}' is its name.")
    style: bool = options.style()
    stac: bool = option(False, "Write a STAC item beside --out.")
    replay: Path | None = option(None, "Repeat the run that made this output; leave out scenes and settings.")
    batch: int | None = options.batch()
    device: str = options.device()
    engine: Engine = options.engine()
    precision: Precision = options.precision()
    force_precision: bool = options.force_precision()
    kernels: str = options.kernels()
    compile: bool = option(False, "Compile the network first: minutes, for GPUs and many tiles.")
    workers: int = option(
        1,
        "Processes that search, each with a fair share of threads; auto (or 0): one per processor in a long search.",
        parse=read_workers,
        least=0,
    )
    devices: str | None = option(None, "One process per GPU: auto for all, their number, or which: 0,2.")
    cluster: str | None = option(None, "Search on a Ray cluster (extra 'cluster'): its address, auto, or local.")
    shard: tuple[int, int] | None = option(
        None, "Search part I of N only, into a shared --job: I/N.", unset="all, and write the output", parse=read_shard
    )
    job: Path | None = option(None, "Folder of what is found so far.", unset="a hidden folder beside --out")
    strict: bool = option(False, "Stop at the first scene that cannot be searched, and write nothing.")
    overwrite: bool = options.overwrite()

    @property
    def views(self) -> Views:
        """How each tile is looked at."""
        return Views(self.tta, self.scales, self.fuse)

    @property
    def fuses(self) -> bool:
        """Whether boxes are fused from those of several views or weights."""
        return len(self.weights) > 1 or not self.views.single

    def faults(self) -> list[tuple[object, str]]:
        """See :class:`Settings`."""
        return [
            (self.devices and self.workers != 1, "--devices has one process per GPU: leave out --workers"),
            (self.devices and self.cluster, "--cluster uses all GPUs of its nodes: leave out --devices"),
            (self.shard is not None and self.job is None, "--shard writes to a shared folder: name it with --job"),
            (not self.scenes and not self.replay, "no scene given: name a raster, folder or URL"),
            (self.out is None and not self.replay, "no output given: name a file or folder with --out"),
            options.gsd_fault(self.gsd),
        ]
