"""Reference systems: ways from one to another, and coordinates that go on beyond the antimeridian."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from pyproj import CRS as CRS
from pyproj import Transformer
from pyproj.exceptions import CRSError, ProjError

from legnet_cli.boxes import Array
from legnet_cli.errors import ConfigError, GeoError

WGS84 = CRS.from_user_input("OGC:CRS84")


def parse_crs(text: str) -> CRS:
    """The reference system ``text`` names: EPSG:n, or any other definition PROJ knows.

    Raises:
        ConfigError: if PROJ does not know it.
    """
    try:
        return CRS.from_user_input(text)
    except CRSError:
        raise ConfigError(f"--crs {text!r} is not a reference system PROJ knows: write source or EPSG:n") from None


def reproject(points: Array, source: CRS, target: CRS) -> Array:
    """Points (n, 2), x east or longitude first, from one system to another; NaN where a point has no image.

    Raises:
        GeoError: there is no way between the two.
    """
    try:
        transformer = _transformer(source.to_wkt(), target.to_wkt())
    except ProjError as error:
        raise GeoError(f"cannot convert {source.name!r} to {target.name!r}") from error
    out = np.stack(transformer.transform(points[:, 0], points[:, 1]), 1)
    out[~np.isfinite(out).all(1)] = np.nan
    return out


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(CRS.from_wkt(source), CRS.from_wkt(target), always_xy=True)


def full_turn(crs: CRS | None) -> float | None:
    """How far ``x`` goes once around the globe: 360 in degrees; None where it does not come back to the same place."""
    return None if crs is None else _full_turn(crs.to_wkt())


@lru_cache(maxsize=64)
def _full_turn(wkt: str) -> float | None:
    crs = CRS.from_wkt(wkt)
    if crs.is_geographic:
        return float(2 * np.pi / crs.axis_info[0].unit_conversion_factor)
    base = crs.geodetic_crs
    if base is None or not crs.is_projected:
        return None
    # a cylindrical projection cut at 180 degrees is as wide at every latitude, and its edges are as high
    edges = np.array([[-np.pi, 0], [np.pi, 0], [-np.pi, 0.8], [np.pi, 0.8]]) * (1 - 1e-12)
    try:
        ends = reproject(edges / base.axis_info[0].unit_conversion_factor, base, crs).reshape(2, 2, 2)
    except GeoError:
        return None
    (width, rise), (other_width, other_rise) = ends[:, 1] - ends[:, 0]
    same = np.isfinite(ends).all() and np.abs([other_width - width, rise, other_rise]).max() < 1e-6 * width
    return float(width) if same else None


def near(points: Array, crs: CRS | None, x: float | Array) -> Array:
    """Points (n, 2) of ``crs`` whose ``x`` is moved by whole turns around the globe to within half a turn of ``x``."""
    turn = full_turn(crs)
    if turn is None:
        return points
    turns = np.rint((points[:, 0] - x) / turn * (1 - 1e-9))  # exactly half a turn may lie on either side
    return np.stack([points[:, 0] - turn * np.where(np.isfinite(turns), turns, 0), points[:, 1]], 1)


def within_180(lon: Array) -> Array:
    """Longitudes in degrees as the same ones from -180 to 180."""
    with np.errstate(invalid="ignore"):  # infinite where a point has no place
        wrapped: Array = np.where(np.abs(lon) > 180, (lon + 180) % 360 - 180, lon)
    return wrapped


def rejoin(polygons: list[Array], crs: CRS | None, x: float) -> list[Array]:
    """Polygons (k, 2) of ``crs`` that do not jump at the antimeridian, each as near to ``x`` as whole turns bring it.

    Their vertices may be in any convention: 0 to 360, -180 to 180, or on from there.
    """
    if full_turn(crs) is None or not polygons:
        return polygons
    lengths = np.array([len(points) for points in polygons])
    points = np.concatenate(polygons)
    owner = np.repeat(np.arange(len(polygons)), lengths)
    first = np.zeros(len(polygons))
    first[lengths > 0] = points[(np.cumsum(lengths) - lengths)[lengths > 0], 0]
    points = near(points, crs, first[owner])
    middle = np.bincount(owner, points[:, 0], len(polygons)) / np.maximum(lengths, 1)
    moved = near(np.stack([middle, middle], 1), crs, x)[:, 0] - middle
    points[:, 0] += moved[owner]
    return np.split(points, np.cumsum(lengths)[:-1])


__all__ = ["CRS", "WGS84", "full_turn", "near", "parse_crs", "rejoin", "reproject", "within_180"]
