"""Make the data set that the small detector in the package is trained on: HIT-UAV and drawn scenes.

    uv run examples/nano_data.py HIT-UAV nano-data
    uv run legnet train --data nano-data --recipe oriented-rcnn/legnet-nano --weights none --out runs/nano

HIT-UAV (Suo et al., Scientific Data 10:227, 2023; CC BY 4.0) has infrared images of people, cars and bicycles seen
from a drone. Its folder holds ``images``, DOTA text in ``labelTxt`` and lists of names in ``splits``. Training images
become tiles; validation images stay whole.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from make_scene import CLASSES, draw_scene

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.engine.split import SplitConfig, split

LEFT_OUT = ("DontCare",)


def main(
    hit_uav: Annotated[Path, typer.Argument(help="Folder of HIT-UAV.")],
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    scenes: Annotated[int, typer.Option(help="Drawn scenes to train on.")] = 20,
    tile: Annotated[int, typer.Option(help="Side of the tiles to train on, pixels.")] = 320,
    overlap: Annotated[int, typer.Option(help="Pixels neighbouring tiles share.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the drawn scenes.")] = 0,
) -> None:
    """Write ``out/train`` and ``out/val`` in DOTA's layout."""
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        whole = Path(folder, "whole")
        for part, count, first in (("train", scenes, 1000), ("val", max(1, scenes // 20), 5000)):
            take_frames(hit_uav, whole / part, part)
            draw_scenes(whole / part, count, first + seed * 10_000)
        split(SplitConfig(src=whole, out=out, tile=tile, overlap=overlap, background=0.05))
        # the splitter cuts validation images too
        shutil.rmtree(out / "val")
        shutil.copytree(whole / "val", out / "val")
        (out / "val" / "labelTxt").rename(out / "val" / "annfiles")


def take_frames(hit_uav: Path, out: Path, part: str) -> None:
    """Link HIT-UAV's images of a split, and copy their labels but for the classes left out."""
    for name in ("images", "labelTxt"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for stem in (hit_uav / "splits" / f"{part}.txt").read_text().split():
        shutil.copy(hit_uav / "images" / f"{stem}.jpg", out / "images")
        lines = (hit_uav / "labelTxt" / f"{stem}.txt").read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.split()[8:9] != [*LEFT_OUT]]
        (out / "labelTxt" / f"{stem}.txt").write_text("".join(kept))


def draw_scenes(out: Path, count: int, first: int) -> None:
    """Draw scenes of 1024² pixels at 0.4 to 0.65 m a pixel with the seeds from ``first`` on."""
    for seed in range(first, first + count):
        gsd = float(np.random.default_rng(seed).uniform(0.4, 0.65))
        image, objects = draw_scene(1024, gsd, seed)
        cv2.imwrite(str(out / "images" / f"drawn_{seed}.png"), image[..., ::-1])
        polygons = boxes_to_polygons(objects.boxes).reshape(-1, 8)
        lines = [
            " ".join(f"{value:.2f}" for value in polygon) + f" {CLASSES[label]} 0\n"
            for polygon, label in zip(polygons, objects.labels, strict=True)
        ]
        (out / "labelTxt" / f"drawn_{seed}.txt").write_text("".join(lines))


if __name__ == "__main__":
    typer.run(main)
