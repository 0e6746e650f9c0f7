"""Pixels of a scene at places of the plane: whether they hold data, and how they look."""

from __future__ import annotations

from types import TracebackType

import numpy as np

from legnet_cli.boxes import Array
from legnet_cli.engine.layers.crops import Window, read_window
from legnet_cli.geo.local import LocalPlane
from legnet_cli.geo.raster import Scene

_CELL = 512  # pixels: objects whose centres share a cell are looked at in one window
_STEPS = np.linspace(-0.4, 0.4, 5)  # of an object's sides, where it is looked at
_AS_IS = "0:255"  # values as they are, up to 255: enough to tell black


class ScenePixels:
    """A raster looked at in places of the plane; used as a context manager.

    Raises:
        DataError: there is no such raster.
    """

    def __init__(
        self, path: str, plane: LocalPlane, stretch: str = _AS_IS, bands: tuple[int, ...] | None = None
    ) -> None:
        self._scene, self._plane = Scene.open(path, bands=bands, stretch=stretch), plane

    def __enter__(self) -> ScenePixels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scene.close()

    def corners(self, corners: Array) -> Array:
        """Pixels (n, 4, 2) of corners (n, 4, 2) in the plane."""
        return self._plane.to_scene(corners, self._scene.georef)

    def shown_share(self, corners: Array) -> Array:
        """Share (n,) of 5 × 5 points over each of some rectangles (n, 4, 2) that show something.

        Shown is what lies in the raster and holds data; not a place amid nothing but black, which is a collar that
        does not say so.
        """
        pixels = self.corners(corners)
        share = np.zeros(len(pixels))
        finite = np.flatnonzero(np.isfinite(pixels).all((1, 2)))
        cells = np.floor(pixels[finite].mean(1) / _CELL).astype(np.int64)
        order = np.lexsort(cells.T)
        stops = np.flatnonzero((np.diff(cells[order], axis=0) != 0).any(1)) + 1
        for rows in np.split(finite[order], stops) if len(finite) else ():
            share[rows] = self._shares(pixels[rows])
        return share

    def _shares(self, pixels: Array) -> Array:
        """:meth:`shown_share` of rectangles near each other."""
        margin = np.ptp(pixels, axis=1).max(1)[:, None]
        low, high = pixels.min(1) - margin, pixels.max(1) + margin
        found = self.window(low.min(0), high.max(0))
        if found is None:
            return np.zeros(len(pixels))
        tile, image, valid = found
        places = _inside(pixels) - (tile.col, tile.row)
        col, row = np.moveaxis(np.floor(places).astype(np.int64), 2, 0)
        within = (col >= 0) & (col < tile.width) & (row >= 0) & (row < tile.height)
        shown = within & valid[row.clip(0, tile.height - 1), col.clip(0, tile.width - 1)]
        dark = (image == 0).all(2)
        for number in np.flatnonzero(shown.any(1)).tolist():
            (x0, y0), (x1, y1) = (
                (end - (tile.col, tile.row)).clip(0).astype(int) for end in (low[number], high[number])
            )
            shown[number] &= not dark[y0 : y1 + 1, x0 : x1 + 1].all()
        return np.asarray(shown.mean(1))

    def window(self, low: Array, high: Array) -> Window | None:
        """See :func:`read_window`."""
        return read_window(self._scene, low, high)


def _inside(corners: Array) -> Array:
    """5 × 5 points (n, 25, 2) spread over each of some parallelograms (n, 4, 2)."""
    across, along = (step.ravel()[:, None] for step in np.meshgrid(_STEPS, _STEPS))
    middle = corners.mean(1)[:, None]
    points: Array = (
        middle + along * (corners[:, 1] - corners[:, 0])[:, None] + across * (corners[:, 3] - corners[:, 0])[:, None]
    )
    return points
