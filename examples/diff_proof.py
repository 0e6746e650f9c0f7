"""Show what `legnet diff` finds of known changes, as boxes get noisier, are missed, and lie shifted.

    uv run examples/diff_proof.py                   # the table, a minute
    uv run examples/diff_proof.py --scenes dates/   # two synthetic scenes of the same ground instead

Ships lie apart: of 2,025 a twentieth each is new, gone, moved by 6 to 12 m, and turned by 30 to 60 degrees. Cars are
parked in rows, 0.9 m from one another, on a third of the places; a tenth each is new and gone. As a car that leaves and
one that comes to the next place look like one that moved, these run with --max-move 1.5. The second date does not show
a corner. A change is right if the right object has it.

The scenes are half a metre a pixel; the second one is shifted by 3.7 pixels and resampled, and has a corner without
data. `dates/changes.json` counts what changed.
"""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import pyogrio.raw
import shapely
import typer
from make_scene import CLASSES, Canvas, _claim, _draw_object, _ground, _placed
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.engine.diff import DiffConfig, diff
from legnet_cli.geo.crs import CRS
from legnet_cli.geo.vector import About, Areas, Layer, write_layer

CORNER = 300.0  # metres of the corner that the second date does not show
ORIGIN = np.array([499_000.0, 5_790_000.0])  # in EPSG:32631
DIRECTION = np.array([0.8, -0.6])  # of the shift

Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """How the second date differs from the first besides its changes.

    Attributes:
        noise: deviation of centres and sides as a share of the width, and of angles as a share of a radian.
        missed: share of the objects that each date misses.
        false: share of boxes on nothing that each date has besides.
        shift: metres by which the second date lies off.
    """

    noise: float = 0.0
    missed: float = 0.0
    false: float = 0.0
    shift: float = 0.0


SETTINGS = (
    Setting(),
    Setting(shift=1.85),
    Setting(shift=8),
    *(Setting(noise=noise, shift=1.85) for noise in (0.05, 0.1, 0.2, 0.3)),
    *(Setting(missed=share, shift=1.85) for share in (0.02, 0.05, 0.1)),
    *(Setting(false=share, shift=1.85) for share in (0.05, 0.1)),
    Setting(0.1, 0.05, 0.05, 1.85),
    Setting(0.2, 0.1, 0.1, 8),
)


@dataclass(frozen=True)
class Truth:
    """Objects of two dates, metres, y down; what became of each (n,) is ``new``, ``gone``, ``moved`` …

    ``reach`` is --max-move.
    """

    old: Boxes
    new: Boxes
    changes: NDArray[np.str_]
    side: float
    reach: float | None = None


def make_ships(rng: np.random.Generator) -> Truth:
    """Ships that lie apart."""
    cell, across = 50.0, 45
    length = rng.uniform(12, 20, across**2)
    middle = (np.indices((across, across)).reshape(2, -1).T + 0.5) * cell + rng.uniform(-8, 8, (across**2, 2))
    old = np.c_[middle, length, length / 4, rng.uniform(-1.5, 1.5, len(length))]
    new = old.copy()
    part = len(old) // 20
    changes = rng.permutation(np.repeat(["new", "gone", "moved", "turned", "same"], [part] * 4 + [len(old) - 4 * part]))
    way, far = rng.uniform(0, 2 * np.pi, len(old)), rng.uniform(6, 12, len(old))
    new[changes == "moved", :2] += (np.c_[np.cos(way), np.sin(way)] * far[:, None])[changes == "moved"]
    new[changes == "turned", 4] += (rng.choice([-1, 1], len(old)) * rng.uniform(0.55, 1.0, len(old)))[
        changes == "turned"
    ]
    return Truth(old, new, changes, cell * across)


def make_cars(rng: np.random.Generator) -> Truth:
    """Cars that are parked side by side."""
    col, row = np.meshgrid(np.arange(250), np.arange(24))
    middle = np.stack([20 + col.ravel() * 2.8, 20 + row.ravel() * 12.0], 1)
    middle = middle[rng.random(len(middle)) < 1 / 3] + rng.normal(0, 0.1, (1, 2))
    box = np.c_[middle, np.tile([5.0, 1.9, np.pi / 2 - 1e-9], (len(middle), 1))]
    changes = rng.choice(["new", "gone", "same"], len(box), p=[0.1, 0.1, 0.8])
    return Truth(box, box.copy(), changes, 740.0, 1.5)


def sight(
    boxes: Boxes, names: NDArray[np.str_], truth: Truth, setting: Setting, rng: np.random.Generator
) -> tuple[Boxes, NDArray[np.str_]]:
    """What a detector makes of ``boxes``: noisy, some missed, some besides; with the name of each."""
    found = rng.random(len(boxes)) >= setting.missed
    boxes, names = boxes[found].copy(), names[found]
    noise = rng.normal(size=boxes.shape) * setting.noise * boxes[:, 3:4]
    noise[:, 4] = rng.normal(size=len(boxes)) * setting.noise
    boxes += noise
    boxes[:, 2:4] = np.maximum(boxes[:, 2:4], 0.5)
    more = round(len(boxes) * setting.false)
    false = boxes[rng.integers(0, len(boxes), more)]
    false[:, :2] = rng.uniform(0, truth.side, (more, 2))
    return np.concatenate([boxes, false]), np.concatenate([names, np.full(more, "false")])


def write(
    path: Path, boxes: Boxes, names: NDArray[np.str_], ground: shapely.Geometry, shift: NDArray[np.float64]
) -> None:
    """Write a layer as `legnet predict` does, with the names in place of scenes."""

    def on_map(points: Boxes) -> Boxes:
        return points * (1, -1) + ORIGIN + shift

    corners = on_map(boxes_to_polygons(boxes).reshape(-1, 2)).reshape(-1, 4, 2)
    fields = {"class": np.full(len(boxes), "vehicle"), "score": np.full(len(boxes), 0.9), "scene": names}
    areas = Areas(np.array([shapely.transform(ground, on_map)], object), {"scene": np.array([""])})
    about = About('{"scenes": [], "weights": {"name": "synthetic"}}', searched=areas)
    write_layer(path, Layer(corners, CRS.from_epsg(32631), fields), about)


def compare(truth: Truth, setting: Setting, folder: Path, seed: int) -> tuple[float, dict[str, tuple[int, int, int]]]:
    """Error of the shift in metres; and for each kind of change how many were told, told rightly, and there."""
    rng = np.random.default_rng(seed)
    names = np.arange(len(truth.old)).astype(str)
    whole = shapely.box(-20, -20, truth.side + 20, truth.side + 20)
    corner = shapely.box(-20, -20, CORNER, CORNER)
    shift = DIRECTION * setting.shift
    inside = (truth.new[:, :2] < CORNER).all(1)
    clear = ((truth.new[:, :2] - CORNER).max(1) < -30) | ((truth.new[:, :2] - CORNER).max(1) > 30)
    first, second = clear & (truth.changes != "new"), clear & (truth.changes != "gone") & ~inside
    boxes, own = sight(truth.old[first], names[first], truth, setting, rng)
    write(folder / "old.gpkg", boxes, own, whole, shift * 0)
    boxes, own = sight(truth.new[second], names[second], truth, setting, rng)
    shown = (boxes[:, :2] > CORNER).any(1)
    write(folder / "new.gpkg", boxes[shown], own[shown], shapely.difference(whole, corner), shift)
    out = folder / "changes.gpkg"
    dates = (str(folder / "old.gpkg"), str(folder / "new.gpkg"))
    result = diff(DiffConfig(dates=dates, out=out, max_move=truth.reach, overwrite=True))
    found = result.registration[0]
    error = float(np.hypot(*(np.array([found["east_m"], found["north_m"]]) - shift / 0.9996)))
    meta, _, _, columns = pyogrio.raw.read(out, layer="changes", read_geometry=False)
    return error, count(truth, clear & ~inside, dict(zip(meta["fields"], columns, strict=True)))


def count(
    truth: Truth, seen: NDArray[np.bool_], told: dict[str, NDArray[np.object_]]
) -> dict[str, tuple[int, int, int]]:
    """How many changes of each kind were told, told rightly, and there."""
    what = {str(number): change for number, change in enumerate(truth.changes.tolist())}
    counts = {}
    for kind in ("new", "gone", "moved", "turned"):
        rows = told["change"] == kind
        old, new = told["scene_old"][rows], told["scene_new"][rows]
        names = new if kind == "new" else old
        same = np.full(len(names), True) if kind in ("new", "gone") else old == new
        right = sum(what.get(name) == kind for name in names[same].tolist())
        counts[kind] = (len(names), right, int((seen & (truth.changes == kind)).sum()))
    return counts


def show_table(seed: int) -> None:
    """Print precision and recall of each kind of change under each setting."""
    logging.getLogger("legnet_cli").setLevel(logging.ERROR)
    for title, make in (("ships apart", make_ships), ("parked cars, --max-move 1.5", make_cars)):
        truth = make(np.random.default_rng(seed))
        kinds = [kind for kind in ("new", "gone", "moved", "turned") if (truth.changes == kind).any()]
        table = Table("noise", "missed", "false", "shift", "its error", *kinds, title=f"{title}: precision / recall")
        for setting in SETTINGS:
            with tempfile.TemporaryDirectory() as folder:
                error, counts = compare(truth, setting, Path(folder), seed)
            cells = [
                f"{right / max(all_told, 1):.3f} / {right / there:.3f}"
                for all_told, right, there in (counts[kind] for kind in kinds)
            ]
            given = (setting.noise, setting.missed, setting.false)
            table.add_row(*(f"{value:g}" for value in given), f"{setting.shift:g} m", f"{error:.3f} m", *cells)
        Console(width=120).print(table)


def draw_scenes(folder: Path, seed: int, size: int = 1600, gsd: float = 0.5) -> None:
    """Write two scenes of the same ground, `old.tif` and `new.tif`, and what changed."""
    import rasterio
    from rasterio.transform import Affine

    rng = np.random.default_rng(seed)
    canvas = _ground(size, rng)
    ground, taken = canvas.rgb, canvas.taken
    placed = [(name, box) for _ in range(60) for name in CLASSES for box in _placed(canvas, name, gsd, 3, rng)]
    changes = rng.choice(["new", "gone", "moved", "same"], len(placed), p=[0.1, 0.1, 0.1, 0.7])
    pictures = []
    for date in ("old", "new"):
        one = Canvas(ground.copy(), canvas.ground, taken)
        for number, ((name, box), change) in enumerate(zip(placed, changes, strict=True)):
            now = box.copy()
            if date == "new" and change == "moved":
                now[:2] += np.array([np.cos(box[4]), np.sin(box[4])]) * box[2] * 0.6
                own = np.rint(boxes_to_polygons(box[None] + [0, 0, 6, 6, 0])[0]).astype(np.int32)
                taken[cv2.fillConvexPoly(np.zeros(taken.shape, np.uint8), own, 1) > 0] = False
                changes[number] = "moved" if _claim(canvas, name, now, gsd) else "gone"
            if changes[number] != {"old": "new", "new": "gone"}[date]:
                _draw_object(one, name, now, np.random.default_rng(number))
        noisy = cv2.GaussianBlur(one.rgb, (0, 0), 0.7) + rng.normal(0, 3, one.rgb.shape)
        pictures.append(np.clip(noisy, 1, 255).astype(np.uint8))
    way = np.array([[1, 0, 3.7], [0, 1, -2.2]])
    pictures[1] = cv2.warpAffine(pictures[1], way, (size, size), flags=cv2.INTER_CUBIC)
    pictures[1][::-1][: size // 4, : size // 4] = 0
    folder.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": 3, "height": size, "width": size, "dtype": np.uint8, "compress": "deflate"}
    place = {"crs": "EPSG:32631", "transform": Affine(gsd, 0, *ORIGIN[:1], 0, -gsd, ORIGIN[1]), "nodata": 0}
    for date, picture in zip(("old", "new"), pictures, strict=True):
        with rasterio.open(folder / f"{date}.tif", "w", **profile, **place) as file:
            file.write(picture.transpose(2, 0, 1))
    kinds, counts = np.unique(changes, return_counts=True)
    (folder / "changes.json").write_text(json.dumps(dict(zip(kinds.tolist(), counts.tolist(), strict=True))) + "\n")


def main(
    scenes: Annotated[Path | None, typer.Option(help="Folder for two scenes, in place of the table.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same dates.")] = 0,
) -> None:
    """Show the table, or write the scenes."""
    if scenes is None:
        show_table(seed)
    else:
        draw_scenes(scenes, seed)


if __name__ == "__main__":
    typer.run(main)
