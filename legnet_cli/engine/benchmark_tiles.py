"""Tiles to time a detector on: drawn ones, or crops of the user's images."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.errors import DataError
from legnet_cli.geo.inputs import expand_scenes
from legnet_cli.geo.raster import Scene
from legnet_cli.tiles import Tile

MOST = 32  # tiles held in memory


def drawn_tile(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """RGB (height, width, 3): coarse and fine noise, and a rectangle at random for each patch of 48 × 48 pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 160, (height // 32 + 2, width // 32 + 2, 3)).astype(np.float32)
    ground = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    ground += rng.normal(0, 8, (height, width, 1)).astype(np.float32)
    image = np.ascontiguousarray(ground.clip(0, 255).astype(np.uint8))
    count = max(1, height * width // 48**2)
    sides = np.sort(rng.uniform(6, 48, (count, 2)))[:, ::-1]
    place = rng.uniform(0, (width, height), (count, 2))
    boxes = np.hstack([place, sides, rng.uniform(-np.pi / 2, np.pi / 2, (count, 1))])
    for corners, colour in zip(boxes_to_polygons(boxes), rng.integers(0, 256, (count, 3)).tolist(), strict=True):
        cv2.fillPoly(image, [np.round(corners).astype(np.int32)], colour, lineType=cv2.LINE_AA)
    return image


def read_tiles(sources: Sequence[str], size: int) -> list[NDArray[np.uint8]]:
    """The middle ``size`` × ``size`` pixels, RGB, of each of the first :data:`MOST` rasters of ``sources``.

    Raises:
        DataError: if there are none, or one is damaged or too small.
    """
    tiles = []
    for path in expand_scenes(sources)[:MOST]:
        with Scene.open(path) as scene:
            if min(scene.height, scene.width) < size:
                raise DataError(f"{path}: {scene.width} × {scene.height} pixels hold no tile: give a smaller --size")
            row, col = (scene.height - size) // 2, (scene.width - size) // 2
            tiles.append(scene.read(Tile(row, col, size, size))[0])
    return tiles
