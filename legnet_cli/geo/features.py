"""What vector layers are written from: polygons and attributes handed out by rows, so that not all exist at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.geo.crs import CRS

CHUNK = 50_000  # features made and written at a time: some 30 MB

SEARCHED = "searched"  # name of a GeoPackage's layer of the ground on which objects were searched

Rows = slice | NDArray[np.int64]


class Features(Protocol):
    """Polygons with attributes, in a fixed order; the same rows are always the same."""

    @property
    def crs(self) -> CRS | None:
        """Reference system; None for pixels."""

    def __len__(self) -> int:
        """How many."""

    def corners(self, rows: Rows) -> Array:
        """Corners (n, 4, 2) of some, in the units and (x, y) order of ``crs``; not finite without a place there."""

    def columns(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Attributes of some: name -> (n,) array of numbers or strings, in the order of the columns."""


def chunks(features: Features) -> Iterator[slice]:
    """All rows in order, a few at a time; of nothing, one empty chunk, which tells the columns."""
    count = len(features)
    return (slice(start, min(start + CHUNK, count)) for start in range(0, max(count, 1), CHUNK))
