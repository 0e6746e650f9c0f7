"""Which windows an image is cut into, and what of its objects each of them keeps. Pure geometry, no I/O.

Windows, objects and label lines are those of mmrotate 0.3.4's ``img_split.py`` to the last digit, but for its areas: it
holds them in single precision, and marks objects whose area that rounds up as difficult though no window cuts them.
Areas of whole and half pixels, as DOTA has them, are not rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from legnet_cli.boxes import boxes_to_polygons, polygons_to_boxes
from legnet_cli.data.labels import IGNORED, ImageLabels
from legnet_cli.data.tile_notes import CUT
from legnet_cli.tiles import Tile, tile_starts

_IMAGE_SHARE = 0.6  # of a window that the image must cover
_TIE = 0.01  # where no window has that share, those this close to the best are taken
_OBJECT_SHARE = 0.7  # of an object that must lie in a window


@dataclass(frozen=True)
class TileObjects:
    """What a tile keeps of an image's objects.

    Attributes:
        index: (n,) which objects of the image.
        quads: (n, 4, 2) float32 corners in pixels of the tile.
        difficult: (n,) int64, as labels hold it; 2 for objects that reach out of the tile.
        in_source: (n,) int64; 2 for objects that the tile cuts which are not difficult in the image. Unlike
            ``difficult`` it tells those from others that are, and that reach over the edge of the image alone.
        cut: (n,) bool; whether they reach out of the tile; ignored regions do not: upright ones are clipped to it.
        blank: whether all of the tile is ignored and there is nothing to learn from.
    """

    index: NDArray[np.int64]
    quads: NDArray[np.float32]
    difficult: NDArray[np.int64]
    in_source: NDArray[np.int64]
    cut: NDArray[np.bool_]
    blank: bool = False


def windows(width: int, height: int, sizes: Sequence[tuple[int, int]]) -> list[Tile]:
    """Square windows of an image, sorted; they reach out of an image that is smaller.

    Args:
        width, height: of the image in pixels.
        sizes: side and overlap of the windows, in pixels; more than one pair for several scales.
    """
    every = [
        Tile(row, col, size, size)
        for size, overlap in dict.fromkeys(sizes)
        for row in tile_starts(height, size, overlap)
        for col in tile_starts(width, size, overlap)
    ]
    covered = [min(t.width, width - t.col) * min(t.height, height - t.row) for t in every]
    shares = np.array(covered) / np.array([t.width * t.height for t in every])
    kept = shares > _IMAGE_SHARE
    if not kept.any():
        kept = np.abs(shares - shares.max()) < _TIE
    return sorted(t for t, keep in zip(every, kept, strict=True) if keep)


class Objects:
    """The objects of one image, ready to be asked which lie in a window."""

    def __init__(self, image: ImageLabels, truncated: str, *, like_mmrotate: bool = False) -> None:
        self._truncated, self._like_mmrotate = truncated, like_mmrotate
        self._difficult, self._size = image.difficult, image.size or (np.inf, np.inf)
        self._quads = image.quads.astype(np.float32)
        shapes = shapely.polygons(self._quads.astype(np.float64))
        # corners in a wrong order enclose no area that could be told: what their hull holds counts
        self._shapes = np.where(shapely.is_valid(shapes), shapes, shapely.convex_hull(shapes))
        areas = shapely.area(self._shapes)
        self._areas = np.maximum(areas.astype(np.float32) if like_mmrotate else areas, np.float32(1e-6))
        self._low, self._high = self._quads.min(1), self._quads.max(1)
        self._region = np.array([name == IGNORED for name in image.names], np.bool_)
        bounds = shapely.area(shapely.box(*self._low.T, *self._high.T))
        self._upright = self._region & (shapely.area(self._shapes) > 0.999 * bounds)

    def within(self, tile: Tile) -> TileObjects:
        """The objects that lie in ``tile`` with 0.7 of their area or more, and what ignored regions have in it."""
        low, high = np.array([tile.col, tile.row]), np.array([tile.col + tile.width, tile.row + tile.height])
        near = np.flatnonzero((np.minimum(self._high, high) > np.maximum(self._low, low)).all(1))
        frame = shapely.polygons([low, (high[0], low[1]), high, (low[0], high[1])])
        visible = shapely.intersection(self._shapes[near], frame)
        shares = shapely.area(visible) / self._areas[near]
        kept = (shares >= _OBJECT_SHARE) | (self._region[near] & (shares > 0))
        index, visible, shares = near[kept], visible[kept], shares[kept]
        region = self._region[index]
        cut = ((self._low[index] < low) | (self._high[index] > high)).any(1) & ~region
        marked = (shares < 1) & ~region if self._like_mmrotate else cut
        inner = ((self._low[index] < low) & (low > 0)) | ((self._high[index] > high) & (high < self._size))
        inner &= cut[:, None]
        blank = bool(region.all()) and self._covers(visible, low, high)
        if self._truncated == "drop":
            index, marked, inner, cut = index[~cut], marked[~cut], inner[~cut], cut[~cut]
        quads = self._quads[index] - low.astype(np.float32)
        upright = self._upright[index]
        quads[upright] = quads[upright].clip(0, (high - low).astype(np.float32))
        if self._truncated == "recut":
            for i in np.flatnonzero(cut):
                quads[i] = _recut(visible[i], quads[i], low)
        difficult = self._difficult[index]
        in_source = np.where(inner.any(1) & (difficult == 0), CUT, difficult)
        return TileObjects(index, quads, np.where(marked, CUT, difficult), in_source, cut, blank)

    def _covers(self, visible: NDArray[np.object_], low: NDArray[np.int64], high: NDArray[np.int64]) -> bool:
        """Whether the regions ``visible`` in a window leave nothing of the image in it."""
        shown = np.minimum(high, self._size) - low
        return bool(shapely.area(shapely.union_all(visible)) > shown.prod() - 0.5) and len(visible) > 0


def _recut(visible: shapely.Geometry, quad: NDArray[np.float32], origin: NDArray[np.int64]) -> NDArray[np.float32]:
    """Smallest oriented box (4, 2) of the ``visible`` part, from the corner nearest to the first of ``quad``."""
    points = shapely.get_coordinates(visible)[:-1] - origin
    corners = boxes_to_polygons(polygons_to_boxes(points[None]))[0].round(2).astype(np.float32)
    first = int(np.linalg.norm(corners - quad[0], axis=1).argmin())
    return np.roll(corners, -first, axis=0)


def label_text(found: TileObjects, names: Sequence[str], codes: Mapping[str, str]) -> str:
    """DOTA text of a tile's objects.

    Args:
        found: the objects.
        names: class names of all objects of the image.
        codes: what stands for each name in the text.
    """
    rows = zip(found.index.tolist(), found.quads.reshape(-1, 8), found.difficult.tolist(), strict=True)
    return "".join(f"{' '.join(map(str, quad))} {codes[names[i]]} {difficult}\n" for i, quad, difficult in rows)
