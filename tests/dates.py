"""Objects of known places, for layers of several dates."""

from __future__ import annotations

import numpy as np

from legnet_cli.geo.crs import CRS, reproject

UTM = CRS.from_epsg(32631)
ORIGIN = np.array([500_000.0, 5_000_000.0])  # on the central meridian: north is up
RECORD = {"weights": {"name": "m"}, "scenes": []}


def spread_boxes(count=60, *, rng=None, cell=60.0):
    """Boxes (n, 5) of 12 to 30 m that lie apart, metres, y down."""
    rng = rng or np.random.default_rng(0)
    across = int(np.ceil(np.sqrt(count)))
    middle = (np.indices((across, across)).reshape(2, -1).T[:count] + 0.5) * cell
    length = rng.uniform(12, 30, count)
    return np.c_[middle + rng.uniform(-5, 5, (count, 2)), length, length / 3, rng.uniform(-1.5, 1.5, count)]


def on_map(points, crs=UTM, shift=(0, 0)):
    """Metres, y down, in a reference system; pixels where there is none."""
    if crs is None:
        return points * (1, -1)
    placed = points * (1, -1) + ORIGIN + shift
    return placed if crs == UTM else reproject(placed.reshape(-1, 2), UTM, crs).reshape(placed.shape)
