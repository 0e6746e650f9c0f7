"""Time to a first tile, and peak memory, of ``legnet predict`` as a process of its own.

    uv run examples/predict_start.py

For Linux and macOS. By turns with ``import torch``, which it cannot undercut: a tile of 256 × 256 pixels. Then scenes
up to 1.6 gigapixels, nearly all of them without a stored pixel, each with a preview. LEGNet-tiny has random weights.
Peaks count the libraries that are mapped: take PyTorch's CPU build, CUDA's own alone take 300 MB more.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import rasterio
import typer

SIDES = (256, 2048, 40_000)
FILLED = 2048  # pixels of a side that are stored
# in a process of its own: the peak of this one would count as its children's
RANDOM_WEIGHTS = """
import sys
from legnet_cli.detectors.networks import get_recipe, random_checkpoint
from legnet_cli.detectors.weights.checkpoint import save_checkpoint
made = random_checkpoint(get_recipe("oriented-rcnn/legnet-tiny"))
save_checkpoint(sys.argv[1], made.state, made.card)
"""


def main(
    networks: Annotated[str, typer.Option(help="legnet-nano, legnet-tiny, or files.")] = "legnet-nano,legnet-tiny",
    rounds: Annotated[int, typer.Option(help="Runs of each kind.")] = 5,
    memory: Annotated[bool, typer.Option(help="Measure larger scenes.")] = True,
) -> None:
    """Print medians of seconds, and peaks."""
    with tempfile.TemporaryDirectory() as folder:
        scenes = {side: _make_scene(Path(folder), side) for side in SIDES if memory or side == SIDES[0]}
        predict = ["-m", "legnet_cli", "predict", str(scenes[SIDES[0]]), *_flags(Path(folder))]
        pairs = [(_run(["-c", "import torch"]), _run(predict)) for _ in range(rounds)]
        for name, runs in zip(("import torch", "predict, 256²"), zip(*pairs, strict=True), strict=True):
            wall, cpu, peak = (statistics.median(values) for values in zip(*runs, strict=True))
            typer.echo(f"{name:14} {wall:5.2f} s, {cpu:5.2f} s of CPU, peak {peak:5.0f} MB")
        for network in networks.split(",") if memory else ():
            weights = _random(Path(folder)) if network == "legnet-tiny" else network
            for side, scene in scenes.items():
                flags = [*_flags(Path(folder)), "--weights", weights, "--preview", f"{folder}/preview.png"]
                wall, _, peak = _run(["-m", "legnet_cli", "predict", str(scene), *flags])
                typer.echo(f"{network:14} {side:6,} × {side:6,}: {wall:5.1f} s, peak {peak:5.0f} MB")


def _flags(folder: Path) -> list[str]:
    return ["--out", f"{folder}/objects.geojson", "--device", "cpu", "--overwrite", "--quiet"]


def _make_scene(folder: Path, side: int) -> Path:
    """Noise in one corner of a raster that has nothing else."""
    path, filled = folder / f"scene{side}.tif", min(side, FILLED)
    place = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)
    profile = {"width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32631", "transform": place}
    pixels = np.random.default_rng(0).integers(1, 256, (3, filled, filled), np.uint8)
    with rasterio.open(path, "w", "GTiff", tiled=True, nodata=0, SPARSE_OK=True, **profile) as ds:
        ds.write(pixels, window=((0, filled), (0, filled)))
    return path


def _random(folder: Path) -> str:
    path = str(folder / "legnet-tiny.safetensors")
    subprocess.run([sys.executable, "-c", RANDOM_WEIGHTS, path], check=True)
    return path


def _run(arguments: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of CPU and peak memory in MiB of a Python process."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, *arguments])
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise typer.Exit(1)
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 2**20


if __name__ == "__main__":
    typer.run(main)
