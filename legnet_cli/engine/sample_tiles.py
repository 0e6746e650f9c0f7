"""Tiles to try a detector on: windows of rasters, or synthetic ones where there are none."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.geo.inputs import expand_scenes
from legnet_cli.geo.raster import Scene
from legnet_cli.tiles import tile_grid

Image = NDArray[np.uint8]


def read_tiles(sources: Sequence[str], side: int, count: int, stretch: str = "auto") -> list[Image]:
    """At most ``count`` RGB windows (h, w, 3) of at most ``side`` pixels, spread over rasters, folders or globs.

    Raises:
        DataError: for rasters that cannot be read.
    """
    paths = expand_scenes(sources)
    paths = [paths[i] for i in _spread(len(paths), count)]
    each = -(-count // len(paths))
    tiles = []
    for path in paths:
        with Scene.open(path, stretch=stretch) as scene:
            grid = list(tile_grid(scene.height, scene.width, min(side, max(scene.height, scene.width)), 0))
            for index in _spread(len(grid), each):
                image, valid = scene.read(grid[index])
                if valid.any():
                    tiles.append(np.ascontiguousarray(image))
    return tiles[:count]


def _spread(length: int, count: int) -> list[int]:
    """Up to ``count`` whole numbers below ``length``, evenly spread."""
    return sorted({int(i) for i in np.linspace(0, length - 1, min(count, length)).round()})


def synthetic_tile(height: int, width: int, seed: int = 0) -> Image:
    """The picture of :func:`synthetic_objects`."""
    return synthetic_objects(height, width, seed)[0]


def synthetic_objects(height: int, width: int, seed: int) -> tuple[Image, NDArray[np.float64]]:
    """RGB (height, width, 3): coarse and fine noise, and a rectangle at random for each patch of 48 × 48 pixels.

    The second are the rectangles (n, 5), ``le90`` in pixels.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 160, (height // 32 + 2, width // 32 + 2, 3)).astype(np.float32)
    ground = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    ground += rng.normal(0, 8, (height, width, 1)).astype(np.float32)
    image: Image = np.ascontiguousarray(ground.clip(0, 255).astype(np.uint8))
    count = max(1, height * width // 48**2)
    sides = np.sort(rng.uniform(6, 48, (count, 2)))[:, ::-1]
    place = rng.uniform(0, (width, height), (count, 2))
    boxes = np.hstack([place, sides, rng.uniform(-np.pi / 2, np.pi / 2, (count, 1))])
    for corners, colour in zip(boxes_to_polygons(boxes), rng.integers(0, 256, (count, 3)).tolist(), strict=True):
        cv2.fillPoly(image, [np.round(corners).astype(np.int32)], colour, lineType=cv2.LINE_AA)
    return image, boxes
