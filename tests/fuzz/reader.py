"""What a reader of one file is, and the sound files that several of them start from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio

from legnet_cli.data.labels import ImageLabels

PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
QUADS = np.array([[[4, 5], [20, 5], [20, 15], [4, 15]], [[30, 30], [40, 32], [39, 37], [29, 35]]], np.float64)
IMAGE = ImageLabels(
    "a.png",
    QUADS,
    ("ship", "small-vehicle"),
    np.array([0, 1]),
    ({}, {}),
    size=(64, 48),
    places=("", ""),
    meta={"gsd": 0.5},
)
CLASSES = ("ship", "small-vehicle")
SQUARE = [[[500001.0, 4999990.0], [500010.0, 4999990.0], [500010.0, 4999980.0], [500001.0, 4999990.0]]]


@dataclass(frozen=True)
class Reader:
    """A reader of one file.

    Attributes:
        file: path of the file below a folder.
        seeds: sound contents.
        read: reads it, given the folder.
        beside: other files of the folder.
        sound: whether the seeds can be read.
    """

    file: str
    seeds: list[bytes]
    read: Callable[[Path], object]
    beside: dict[str, bytes] = field(default_factory=dict)
    sound: bool = True

    def prepare(self, folder: Path) -> None:
        """Write what lies beside the file."""
        for name, content in self.beside.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    def attempt(self, folder: Path, data: bytes) -> None:
        """Read ``data`` as the file."""
        path = folder / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.read(folder)


def picture(suffix: str) -> bytes:
    return cv2.imencode(suffix, PIXELS)[1].tobytes()


def geotiff() -> bytes:
    profile = {"driver": "GTiff", "width": 64, "height": 48, "count": 3, "dtype": "uint8", "crs": "EPSG:32631"}
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile, transform=rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6), compress="deflate") as ds:
            ds.write(np.moveaxis(PIXELS, 2, 0))
            ds.update_tags(note="a")
        return bytes(memory.read())


def as_bytes(seed: Any) -> bytes:
    return seed if isinstance(seed, bytes) else json.dumps(seed).encode()
