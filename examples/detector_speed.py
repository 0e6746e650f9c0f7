"""Time Oriented R-CNN on one tile against mmrotate's own test path, with the same weights in one run.

    uv run examples/detector_speed.py --backbone legnet-tiny --repeats 5

The weights are random, scaled so that thousands of candidates pass the score threshold ("dense"), or about a
thousand ("sparse"): what comes after the convolutions then has as much to do as on a crowded tile.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from make_scene import draw_scene
from rich.console import Console
from rich.table import Table
from torch import Tensor

from legnet_cli.boxes import Detections
from legnet_cli.detectors.build import MMRotateDetector, build_mmrotate
from legnet_cli.detectors.loader import choose_device
from legnet_cli.detectors.oriented_rcnn import OrientedRCNN
from legnet_cli.detectors.recipes import get_recipe, model_config

CLASSES = 15
CASES = {"sparse": 3.2, "dense": 8.0}  # gain of the last classification layer


def random_weights(names: dict[str, Tensor], gain: float) -> dict[str, Tensor]:
    """Tensors like ``names``, each drawn from its own name, that keep activations of order 1."""
    state = {}
    for name, like in names.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        values = rng.standard_normal(like.shape).astype(np.float32)
        if name.endswith("running_var"):
            values = 0.5 + rng.random(like.shape, np.float32)
        elif like.ndim >= 2:
            factor = gain if "fc_cls" in name else 0.3 if "reg" in name else 1.0
            values *= factor / np.sqrt(np.prod(like.shape[1:]))
        elif name.endswith("weight"):
            values = 0.6 + 0.1 * values
        else:
            values *= 0.05
        state[name] = torch.from_numpy(values) if like.is_floating_point() else torch.zeros_like(like)
    return state


def timed(call: Callable[[], object], repeats: int, device: torch.device) -> list[float]:
    """Seconds of each of ``repeats`` calls, after one to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def main(
    backbone: Annotated[
        str, typer.Option(help="legnet-nano, legnet-tiny, legnet-small, unravelnet-tiny …")
    ] = "legnet-tiny",
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 1024,
    repeats: Annotated[int, typer.Option(help="Timed runs of each.")] = 5,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    reference: Annotated[bool, typer.Option(help="Time mmrotate's test path too.")] = True,
) -> None:
    """Print seconds a tile (least and median) and the speed-up."""
    place = choose_device(device)
    recipe = get_recipe(f"oriented-rcnn/{backbone}")
    config = model_config(recipe, CLASSES)
    names = build_mmrotate(model_config(recipe, CLASSES)).state_dict()
    image = torch.from_numpy(draw_scene(size, 0.5, 3)[0])[None].to(place)
    table = Table(
        "case", "path", "boxes", "least s", "median s", "× mmrotate", title=f"{backbone}, {size} × {size}, {place}"
    )
    for case, gain in CASES.items():
        state = random_weights(names, gain)
        rows: list[tuple[str, Callable[[], list[object]]]] = []
        if reference:
            rows.append(("mmrotate fp32", MMRotateDetector(model_config(recipe, CLASSES), state, device=place).detect))
        for precision in ("fp32", "bf16"):
            rows.append((f"legnet {precision}", OrientedRCNN(config, state, device=place, precision=precision).detect))
        base = None
        for path, detect in rows:
            found = detect(image)[0]
            boxes = len(found) if isinstance(found, Detections) else len(found[0])
            seconds = timed(lambda detect=detect: detect(image), repeats, place)
            base = median(seconds) if base is None and path.startswith("mmrotate") else base
            ratio = f"{base / median(seconds):.1f}" if base else ""
            table.add_row(case, path, str(boxes), f"{min(seconds):.3f}", f"{median(seconds):.3f}", ratio)
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
