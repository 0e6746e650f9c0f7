"""Tiles to try a detector on: windows of rasters, or drawn ones where there are none."""

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
_OBJECTS = 40  # drawn on a megapixel


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


def draw_tiles(side: int, count: int, seed: int = 0) -> list[Image]:
    """RGB tiles (side, side, 3) of bright and dark rectangles and discs on mottled ground."""
    rng = np.random.default_rng(seed)
    return [_draw(side, rng) for _ in range(count)]


def _draw(side: int, rng: np.random.Generator) -> Image:
    ground = cv2.resize(rng.uniform(40, 160, (side // 64 + 2, side // 64 + 2, 3)), (side, side))
    image: Image = np.clip(ground + rng.normal(0, 6, ground.shape), 0, 255).astype(np.uint8)
    for _ in range(max(3, round(_OBJECTS * side * side / 1e6))):
        length = rng.uniform(12, 90)
        width, colour = length * rng.uniform(0.2, 0.6), tuple(int(v) for v in rng.uniform(0, 255, 3))
        cx, cy = rng.uniform(0, side, 2)
        if rng.random() < 0.3:
            cv2.circle(image, (int(cx), int(cy)), int(width), colour, -1, cv2.LINE_AA)
            continue
        corners = boxes_to_polygons(np.array([[cx, cy, length, width, rng.uniform(-1.5, 1.5)]]))
        cv2.fillPoly(image, [np.round(corners[0] * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    return image
