"""Settings of ``legnet diff``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from legnet_cli.engine import options
from legnet_cli.engine.options import Engine, Precision
from legnet_cli.settings import Settings, documented, option, required

_SEARCH = ("tile", "overlap", "gsd", "bands", "batch")


@dataclass(frozen=True)
class Ground:
    """A vector file of areas, for all dates or one.

    Attributes:
        path: the file.
        date: number of the date, from 1; None for all.
    """

    path: Path
    date: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.date is None else f"{self.date}:{self.path}"


def read_ground(text: str) -> Ground:
    """A file of areas from ``clouds.gpkg`` or, for the second date alone, ``2:clouds.gpkg``."""
    found = re.fullmatch(r"(\d+):(.+)", text)
    return Ground(Path(found[2]), int(found[1])) if found else Ground(Path(text))


@documented
@dataclass(frozen=True)
class DiffConfig(Settings):
    """Which layers to compare, what counts as a change, and where the changes go."""

    dates: tuple[str, ...] = required(
        "Two or more layers of objects, oldest first; with --weights rasters or folders of them.",
        argument=True,
        commas=False,
    )
    out: Path = required("Layer of the changes, or of the tracks of three or more dates: .gpkg .geojson …", "-o")
    report: Path | None = option(None, "HTML report in one file.")
    names: tuple[str, ...] = option((), "Names of the dates: 2024,2025.", unset="of the files")
    classes: tuple[str, ...] = options.classes()
    class_field: str | None = options.class_field()
    score: float | None = option(None, "Minimum score.", unset="0.25 of a search, 0 of a layer", least=0, most=1)
    seen: tuple[Ground, ...] = option(
        (),
        "Vector file of the ground that was searched, where a layer does not say; 2:FILE for the second date.",
        parse=read_ground,
        commas=False,
    )
    mask: tuple[Ground, ...] = option(
        (),
        "Vector file of ground that shows nothing, such as clouds; 2:FILE for the second date.",
        parse=read_ground,
        commas=False,
    )
    no_register: bool = option(False, "Do not estimate and correct a shift between the dates.")
    max_shift: float = option(10.0, "Largest shift between two dates (m, or pixels).", least=0)
    max_move: float | None = option(
        None, "Largest distance that an object moves (m, or pixels).", unset="its own length", least=0
    )
    min_iou: float = option(0.0, "Minimum IoU of an object's boxes on two dates.", least=0, most=1)
    length_ratio: float = option(0.5, "Minimum ratio of an object's lengths on two dates.", least=0, most=1)
    moved: float | None = option(
        None,
        "Distance from which an object counts as moved (m, or pixels).",
        unset="half its width, or above noise",
        least=0,
    )
    turned: float | None = option(
        None, "Angle from which it counts as turned (degrees).", unset="15, or above noise", least=0, most=90
    )
    resized: float | None = option(
        None,
        "Relative change of length or width from which it counts as resized.",
        unset="0.25, or above noise",
        least=0,
    )
    min_probability: float = option(0.0, "Two dates: leave out changes of a lower probability.", least=0, most=1)
    recall: float | None = option(
        None, "Recall of the model, for the probabilities of two dates.", unset="estimated", least=0, most=1
    )
    crs: str = options.crs()
    style: bool = options.style()
    weights: str | None = options.weights(None)
    tile: int | None = options.tile()
    overlap: int | None = options.overlap()
    gsd: float | Literal["model"] | None = options.gsd()
    bands: tuple[int, ...] | None = options.bands()
    stretch: str = options.stretch()
    batch: int | None = options.batch()
    device: str = options.device()
    engine: Engine = options.engine()
    precision: Precision = options.precision()
    force_precision: bool = options.force_precision()
    workers: int = option(1, "Processes that search, each with a fair share of threads.", least=1)
    overwrite: bool = options.overwrite()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "dates", tuple(map(str, self.dates)))  # paths are taken too

    def faults(self) -> list[tuple[object, str]]:
        """See :class:`Settings`."""
        count = len(self.dates)
        late = [ground for ground in (*self.seen, *self.mask) if not 1 <= (ground.date or 1) <= count]
        search = [name for name in _SEARCH if self.weights is None and getattr(self, name) is not None]
        given = ", ".join(f"--{name}" for name in search)
        return [
            options.gsd_fault(self.gsd),
            (count < 2, "one date is not a change: name two or more layers, oldest first"),
            (self.names and len(self.names) != count, f"--names has {len(self.names)} names for {count} dates"),
            (
                count > 2 and self.min_probability,
                "--min-probability: tracks have none: leave it out",
            ),
            (late, f"there is no date of that number: {', '.join(map(str, late))}"),
            (search, f"{given}: settings of a search: give --weights, or leave them out"),
        ]
