"""A picture of some tiles with their boxes, to see at a glance whether labels lie where they should."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.data.png import encode_png
from legnet_cli.engine.predict import draw_preview
from legnet_cli.files import atomic_path
from legnet_cli.geo.raster import Scene

_ACROSS, _DOWN = 4, 3
_SIDE, _GAP = 480, 8  # pixels
_SHOWN = _ACROSS * _DOWN

TileLabels = tuple[Path, Array, NDArray[np.int64]]  # file, corners (n, 4, 2) in its pixels, class indices (n,)


def choose_tiles(labels: Sequence[NDArray[np.int64]]) -> list[int]:
    """Up to 12 tiles that show every class if possible: turn by turn one of each class, the rarest class first.

    Args:
        labels: the classes of the objects in each tile.
    """
    holders: dict[int, list[int]] = {}
    for index, found in enumerate(labels):
        for label in np.unique(found).tolist():
            holders.setdefault(label, []).append(index)
    queues = [_spread(holders[label]) for label in sorted(holders, key=lambda label: (len(holders[label]), label))]
    chosen: dict[int, None] = {}
    while queues and len(chosen) < _SHOWN:
        for queue in list(queues):
            fresh = next((i for i in queue if i not in chosen), None)
            if fresh is None:
                queues.remove(queue)
            elif len(chosen) < _SHOWN:
                chosen[fresh] = None
    return sorted(chosen)


def _spread(items: list[int]) -> Iterator[int]:
    """``items`` in an order that goes over all of them early: the middle, the quarters, the eighths, …"""
    parts = 2
    while parts <= 2 * len(items):
        for i in range(1, parts, 2):
            yield items[i * len(items) // parts]
        parts *= 2
    yield from items


def write_contact_sheet(path: Path, tiles: Sequence[TileLabels], classes: Sequence[str]) -> None:
    """Write the pictures of ``tiles`` in rows of four, with a legend of their classes, to a PNG file.

    Raises:
        DataError: a tile cannot be read, or the file cannot be written.
    """
    rows = -(-len(tiles) // _ACROSS)
    step = _SIDE + _GAP
    sheet = np.full((rows * step - _GAP, min(len(tiles), _ACROSS) * step - _GAP, 3), 255, np.uint8)
    for index, (file, quads, labels) in enumerate(tiles):
        row, col = index // _ACROSS * step, index % _ACROSS * step
        sheet[row : row + _SIDE, col : col + _SIDE] = _picture(file, quads, labels, classes)
    shown = np.concatenate([labels for _, _, labels in tiles])
    # the boxes are drawn already: out of sight, they still make the legend
    away = np.full((len(shown), 4, 2), -1e4)
    with atomic_path(path) as scratch:
        scratch.write_bytes(encode_png(draw_preview(sheet, away, shown, classes)))


def _picture(file: Path, quads: Array, labels: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.uint8]:
    """A tile of any size as (480, 480, 3) with its boxes."""
    with Scene.open(str(file)) as scene:
        image, _ = scene.preview(max(scene.width, scene.height))
    scale = _SIDE / max(image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    small = cv2.resize(image, (round(image.shape[1] * scale), round(image.shape[0] * scale)), interpolation=method)
    drawn = draw_preview(small, quads * scale, labels, classes)[: len(small)]
    picture = np.full((_SIDE, _SIDE, 3), 255, np.uint8)
    picture[: drawn.shape[0], : drawn.shape[1]] = drawn
    return picture
