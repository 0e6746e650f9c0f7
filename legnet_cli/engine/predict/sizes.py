"""Which objects are of a size that their class does not have, by what the model learned from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array, boxes_to_polygons
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.errors import ConfigError
from legnet_cli.geo.georef import Georef

_CHUNK = 50_000  # boxes measured together


class SizeCheck:
    """The limits of a model's classes.

    Args:
        card: of the model.

    Raises:
        ConfigError: it knows none.
    """

    def __init__(self, card: ModelCard) -> None:
        self._limits = {card.classes.index(name): one for name, one in card.size_limits.items()}
        if not self._limits:
            raise ConfigError(
                f"--size-check: {card.name} does not know how large its objects are: leave it out, or train it again"
            )

    def odd(self, labels: NDArray[np.int64], ground: Array, pixels: Array) -> NDArray[np.bool_]:
        """Which objects (n,) are out of the limits of their class; those of unknown size are not.

        Args:
            labels: (n,).
            ground: (2, n) length and width in metres, NaN where unknown.
            pixels: (2, n) the same in pixels as they were searched.
        """
        found = np.zeros(len(labels), np.bool_)
        for label, limits in self._limits.items():
            own = labels == label
            found[own] = limits.odd(*(ground if limits.metres else pixels)[:, own])
        return found

    def odd_boxes(
        self, boxes: Array, labels: NDArray[np.int64], scale: tuple[float, float], georef: Georef
    ) -> NDArray[np.bool_]:
        """The same of boxes (n, 5) on a grid, of which a pixel is ``scale`` pixels of the raster."""
        found = np.zeros(len(boxes), np.bool_)
        for start in range(0, len(boxes), _CHUNK):
            rows = slice(start, start + _CHUNK)
            size = georef.measure(boxes_to_polygons(boxes[rows]) * scale)
            found[rows] = self.odd(labels[rows], np.stack([size.length_m, size.width_m]), boxes[rows, 2:4].T)
        return found
