"""Square pictures of places in a scene, with outlines."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.errors import DataError
from legnet_cli.geo.raster import Scene
from legnet_cli.tiles import Tile

_LARGEST = 8192  # pixels: side of the largest window that is read
_SUBPIXEL_BITS = 4
_FARTHEST = 2**20  # OpenCV's limit on where a line may lie

Picture = NDArray[np.uint8]
Window = tuple[Tile, Picture, NDArray[np.bool_]]  # where it lies, RGB (h, w, 3), which pixels (h, w) hold data
Colour = tuple[int, int, int]


def read_window(scene: Scene, low: Array, high: Array) -> Window | None:
    """The part of a scene between pixels ``low`` and ``high`` (2,); None if that is nothing, too much, or damaged."""
    size = (scene.width, scene.height)
    start, stop = np.floor(low).clip(0, size).astype(int), np.ceil(high).clip(0, size).astype(int)
    if (stop <= start).any() or (stop - start).max() > _LARGEST:
        return None
    tile = Tile(int(start[1]), int(start[0]), int(stop[1] - start[1]), int(stop[0] - start[0]))
    try:
        return (tile, *scene.read(tile))
    except DataError:
        return None


def draw_crop(
    window: Window, centre: Array, span: float, side: int, outlines: Sequence[tuple[Array, Colour]] = ()
) -> Picture:
    """A square picture (side, side, 3) of what a window holds of the ground around a pixel, the rest white.

    Args:
        window: as it was read.
        centre: pixel (2,) in the middle of the picture.
        span: pixels of the scene from side to side.
        side: pixels of the picture from side to side.
        outlines: corners (4, 2) in pixels of the scene, and their colour.
    """
    tile, image, _ = window
    scale, origin = side / span, centre - span / 2
    start = np.array([tile.col, tile.row]) - origin
    canvas = np.full((side, side, 3), 255, np.uint8)
    matrix = np.array([[scale, 0, (start[0] + 0.5) * scale - 0.5], [0, scale, (start[1] + 0.5) * scale - 0.5]])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    cv2.warpAffine(image, matrix, (side, side), canvas, method, cv2.BORDER_TRANSPARENT)
    for corners, colour in outlines:
        points = ((corners - origin) * scale - 0.5) * 2**_SUBPIXEL_BITS
        if np.abs(points).max() < _FARTHEST:
            cv2.polylines(canvas, [np.rint(points).astype(np.int32)], True, colour, 2, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas
