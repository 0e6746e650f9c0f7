"""Small data sets in DOTA's layout, and splits of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.engine.split import SplitConfig, split

IMAGES = {"P1.png": (200, 150), "P2.png": (64, 64), "P3.jpg": (40, 200), "P4.bmp": (130, 50), "P5.png": (180, 170)}


def run(src, out, **options):
    """Split ``src`` into small tiles."""
    return split(SplitConfig(Path(src), Path(out), **{"tile": 64, "overlap": 16, "workers": 2} | options))


def write_image(path, size, seed=0, channels=3):
    """Write a picture of noise of ``size`` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    _, data = cv2.imencode(path.suffix.lower(), pixels)
    path.write_bytes(data.tobytes())


def write_labels(path, size, count, seed=0):
    """Write ``count`` objects of two classes on a picture of ``size`` in DOTA's format."""
    rng = np.random.default_rng(seed)
    boxes = [
        *rng.uniform(0, size[0], (1, count)),
        *rng.uniform(0, size[1], (1, count)),
        *rng.uniform(4, 30, (2, count)),
    ]
    quads = boxes_to_polygons(np.stack([*boxes, rng.uniform(-1.5, 1.5, count)], 1)).round(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{' '.join(map(str, quad))} {rng.choice(['plane', 'ship'])} {rng.integers(2)}\n"
        for quad in quads.reshape(-1, 8)
    ]
    path.write_text("imagesource:GF2\ngsd:0.5\n" + "".join(lines), encoding="utf-8")


def files(root):
    """Bytes of all files below ``root`` by path."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
