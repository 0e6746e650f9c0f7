"""A map as a plane in which shapes are true: what vector layers without an image are compared in."""

from __future__ import annotations

from rasterio import Affine

from legnet_cli.geo.crs import CRS
from legnet_cli.geo.georef import Georef

_CONFORMAL = "EPSG:3395"  # World Mercator on the ellipsoid: keeps angles, so rectangles stay rectangles


def map_plane(crs: CRS | None) -> Georef:
    """Pixels of one map unit, y down, in ``crs`` itself if it is projected, else in World Mercator.

    Without ``crs``, pixels as they are. Overlap needs no more than true shapes: the scale of a conformal map cancels.
    """
    if crs is None:
        return Georef("none", 0, 0)
    plane = crs if crs.is_projected else CRS.from_user_input(_CONFORMAL)
    return Georef("affine", 0, 0, crs=plane, transform=Affine(1, 0, 0, 0, -1, 0))
