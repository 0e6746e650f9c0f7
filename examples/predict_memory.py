"""Memory that merging and writing take: a job of made-up objects, no pixel of which is searched.

    uv run examples/predict_memory.py --objects 1000000 --scenes 20

For Linux. Each format is written by a process of its own; told is its peak over what it held when the search was done.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import rasterio
import typer

from legnet_cli.boxes import Detections
from legnet_cli.detectors.loader import load_detector
from legnet_cli.detectors.weights.fetch import EMBEDDED, fetch, sha256
from legnet_cli.engine.predict import PredictConfig, SearchProgress, predict
from legnet_cli.engine.predict.job import Job, Part, job_folder
from legnet_cli.engine.predict.plan import ScenePlan, plan_scene, settings_digest
from legnet_cli.engine.process import forget_peak, peak_mb
from legnet_cli.geo.inputs import local_stamp

TILE, OVERLAP = 256, 32
IN_A_TILE = 500
SUFFIXES = (".geojson", ".gpkg", ".fgb", ".parquet", ".csv")


def main(
    objects: Annotated[int, typer.Option(help="In all scenes together.")] = 1_000_000,
    scenes: Annotated[int, typer.Option(help="Number of scenes.")] = 20,
    formats: Annotated[str, typer.Option(help="Suffixes of the layers.")] = ",".join(SUFFIXES),
    write: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print the peak by format."""
    if write is not None:
        return _write(write)
    with tempfile.TemporaryDirectory() as folder:
        paths = [_make_scene(Path(folder), number, objects // scenes) for number in range(scenes)]
        for suffix in formats.split(","):
            out = Path(folder) / f"out{suffix}"
            _fill_job(_config(out), paths, objects // scenes)
            again = [sys.executable, __file__, "--write", str(out)]
            found = json.loads(subprocess.run(again, check=True, stdout=subprocess.PIPE).stdout)
            size = out.stat().st_size / 2**20
            typer.echo(
                f"{suffix:9} {found['objects']:,} objects, {size:5.0f} MB, {found['seconds']:5.1f} s, "
                f"peak {found['peak']:4.0f} MB over {found['start']:.0f}"
            )
            out.unlink()


def _config(out: Path) -> PredictConfig:
    return PredictConfig((str(out.parent / "*.tif"),), out, tile=TILE, overlap=OVERLAP, score=0.25, device="cpu")


def _make_scene(folder: Path, number: int, objects: int) -> Path:
    """A raster without a stored pixel, for so many objects."""
    side = math.ceil(math.sqrt(objects / IN_A_TILE)) * (TILE - OVERLAP) + OVERLAP
    path = folder / f"scene{number:05}.tif"
    place = rasterio.Affine(0.5, 0, 400_000 + number % 100 * 6_000, 0, -0.5, 5_000_000 + number // 100 * 6_000)
    size = {"width": side, "height": side, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", "GTiff", crs="EPSG:32631", transform=place, tiled=True, SPARSE_OK=True, **size):
        return path


def _fill_job(config: PredictConfig, paths: list[Path], objects: int) -> None:
    """The folder of a search that has found ``objects`` in each scene, and has only to write them."""
    detector = load_detector(EMBEDDED, device="cpu")
    how = {"engine": detector.engine, "precision": detector.precision, "device": "cpu"}
    job = Job(job_folder(config.out, None), settings_digest(config, sha256(fetch(EMBEDDED)), how, None))
    plans = [
        plan_scene(str(path), path.name, local_stamp(str(path)), config, detector.card, None) for path in sorted(paths)
    ]
    rng, classes = np.random.default_rng(0), len(detector.card.classes)
    with job.open(plans, fresh=True):
        for plan in plans:
            each = -(-objects // len(plan.tiles))
            for block in range(plan.blocks):
                job.save(plan, block, _part(plan, block, each, classes, rng))


def _part(plan: ScenePlan, block: int, each: int, classes: int, rng: np.random.Generator) -> Part:
    """Small boxes in that part of each tile that is no other's."""
    tiles, first = plan.block(block), plan.first(block)
    count = each * len(tiles)
    tile_of = np.repeat(np.arange(first, first + len(tiles)), each)
    corner = np.repeat(np.array([(tile.col, tile.row) for tile in tiles], float), each, axis=0)
    centre = corner + rng.uniform(OVERLAP + 8, TILE - OVERLAP - 8, (count, 2))
    sides = np.stack([rng.uniform(4, 6, count), rng.uniform(2, 3, count)], 1)
    boxes = np.hstack([centre, sides, rng.uniform(-1.5, 1.5, (count, 1))])
    found = Detections(boxes, rng.uniform(0.3, 1, count).astype(np.float32), rng.integers(0, classes, count))
    return Part(found, tile_of, np.arange(first, first + len(tiles)))


def _write(out: Path) -> None:
    """Repeat the search, of which nothing is left to be done but the writing."""
    start: list[float] = []

    def watch(_: SearchProgress) -> None:
        if not start:
            forget_peak()
            start.append(peak_mb())

    result = predict(_config(out), watch)
    objects = sum(result.counts.values())
    peak = peak_mb() - start[0]
    typer.echo(json.dumps({"objects": objects, "seconds": result.seconds, "start": start[0], "peak": peak}))


if __name__ == "__main__":
    typer.run(main)
