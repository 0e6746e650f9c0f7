"""Where a scene's pixels lie on the ground: map coordinates, longitude and latitude, true lengths and azimuths.

Pixel (0, 0) is the outer corner of the first pixel. Four kinds of georeference are read:

``affine``  the raster's transform, rotated and south-up ones included, with or without a CRS
``gcps``    ground control points: an affine fit through three, a thin-plate spline through each of more
``rpc``     rational polynomial coefficients of a satellite scene, at the scene's mean height (``HEIGHT_OFF``)
``none``    none of them: map coordinates are pixels

Lengths are metres along geodesics on the ellipsoid of the scene's own CRS (Mars included), azimuths count clockwise
from true north. Points without a place on the ground (off the Earth's limb, outside a projection) become NaN.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import rasterio.crs
import rasterio.errors
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS as CRS
from pyproj import Geod, Transformer
from pyproj.exceptions import CRSError, ProjError
from rasterio import Affine
from rasterio.io import DatasetReader
from rasterio.transform import GCPTransformer, RPCTransformer

from legnet_cli.errors import ConfigError, GeoError

Array = NDArray[np.float64]

WGS84 = CRS.from_user_input("OGC:CRS84")
MAX_SPLINE_POINTS = 400  # a thin-plate spline through n points costs n**3 to fit and n a point to evaluate
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measures:
    """Ground measures of n boxes, each (n,) float64; NaN where the ground is unknown."""

    length_m: Array
    width_m: Array
    area_m2: Array
    azimuth_deg: Array


@dataclass(frozen=True, eq=False)
class Georef:
    """Georeference of one scene of ``width`` × ``height`` pixels.

    ``crs`` is horizontal, None when unknown; ``warnings`` are sentences about what the file says and is ignored.
    """

    kind: Literal["affine", "gcps", "rpc", "none"]
    width: int
    height: int
    crs: CRS | None = None
    transform: Affine | None = None
    gcps: tuple[Any, ...] = ()
    rpcs: Any = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_dataset(cls, ds: DatasetReader) -> Georef:
        """Georeference of an open rasterio dataset; the transform goes before GCPs, GCPs before RPCs."""
        found = cls._declared(ds)
        middle = found.to_map([[found.width / 2, found.height / 2]])
        if not np.isfinite(middle).all():
            ignored = f"its {found.kind} do not place it on the ground and are ignored"
            return cls("none", found.width, found.height, warnings=(ignored,))
        if found.crs is not None and found.crs.is_geographic and abs(middle[0, 1]) > 100:  # grads, at the most
            ignored = f"its coordinates are not those of {found.crs.name}, which is ignored"
            return replace(found, crs=None, warnings=(ignored,))
        return found

    @classmethod
    def _declared(cls, ds: DatasetReader) -> Georef:
        size = (int(ds.width), int(ds.height))
        transform = ds.transform
        if transform != Affine.identity() and transform.determinant != 0 and all(map(math.isfinite, transform)):
            crs, ignored = _horizontal_crs(ds.crs)
            return cls("affine", *size, crs=crs, transform=transform, warnings=ignored)
        points, gcp_crs = ds.gcps
        if len(points) >= 3:
            crs, ignored = _horizontal_crs(gcp_crs or ds.crs)
            return cls("gcps", *size, crs=crs, gcps=_usable_gcps(points, crs), warnings=ignored)
        return cls("rpc", *size, crs=WGS84, rpcs=ds.rpcs) if ds.rpcs else cls("none", *size)

    def to_map(self, pixels: ArrayLike) -> Array:
        """Map x, y (n, 2) in ``crs`` of pixel column, row (n, 2); the pixels themselves where kind is ``none``."""
        pixels = _points(pixels)
        if self.transform is not None:
            a, b, c, d, e, f = self.transform[:6]
            col, row = pixels[:, 0], pixels[:, 1]
            return np.stack([a * col + b * row + c, d * col + e * row + f], 1)
        return pixels if self.kind == "none" else self._sensor(pixels, forward=True)

    def to_pixel(self, xy: ArrayLike) -> Array:
        """Pixel column, row (n, 2) of map x, y (n, 2) in ``crs``: the inverse of :meth:`to_map`."""
        xy = _points(xy)
        if self.transform is not None:
            a, b, c, d, e, f = self.transform[:6]
            # from the offset first: the inverse transform's own offset would cost digits
            x, y = xy[:, 0] - c, xy[:, 1] - f
            return np.stack([(e * x - b * y) / (a * e - b * d), (a * y - d * x) / (a * e - b * d)], 1)
        return xy if self.kind == "none" else self._sensor(xy, forward=False)

    def to_crs(self, pixels: ArrayLike, crs: CRS) -> Array:
        """x, y (n, 2) in ``crs`` (x east or longitude first) of pixel column, row (n, 2).

        Raises:
            GeoError: if the scene's coordinate system is unknown or has no way to ``crs``.
        """
        if self.crs is None:
            raise GeoError("the scene has no coordinate system: keep its own coordinates (--crs source)")
        try:
            return _transform(self.crs.to_wkt(), crs.to_wkt(), self.to_map(pixels))
        except ProjError as error:
            names = f"from {self.crs.name!r} to {crs.name!r}"
            raise GeoError(f"no way {names}: keep the scene's own coordinates (--crs source)") from error

    def to_lonlat(self, pixels: ArrayLike) -> Array:
        """WGS84 longitude in [-180, 180], latitude (n, 2) of pixel column, row (n, 2).

        Raises:
            GeoError: if the scene has no coordinate system, or one that is not of the Earth.
        """
        lonlat = self.to_crs(pixels, WGS84)
        lonlat[np.abs(lonlat[:, 1]) > 90 + 1e-9] = np.nan
        lon = lonlat[:, 0]
        lonlat[:, 0] = np.where(np.abs(lon) > 180, (lon + 180) % 360 - 180, lon)
        return lonlat

    @cached_property
    def has_lonlat(self) -> bool:
        """Whether :meth:`to_lonlat` works: a coordinate system tied to the Earth is known."""
        try:
            self.to_lonlat(np.zeros((0, 2)))
        except GeoError:
            return False
        return True

    @cached_property
    def gsd(self) -> tuple[float, float] | None:
        """Metres on the ground per pixel along columns and rows at the scene's centre; None when unknown."""
        middle = np.array([self.width, self.height]) / 2
        # over up to 100 pixels: the longitude of one small pixel has too few digits
        reach = np.minimum(middle, 50)
        ends = middle + np.array([[-1, 0], [1, 0], [0, -1], [0, 1]]) * reach
        length, _ = self._geodesics(ends[0::2], ends[1::2])
        gsd = length / (2 * reach)
        return (float(gsd[0]), float(gsd[1])) if np.isfinite(gsd).all() and gsd.all() else None

    def measure(self, polygons: ArrayLike) -> Measures:
        """True ground measures of oriented boxes.

        Lengths are geodesics through the middle of the box, from side to side; the area is that of the
        parallelogram they span; the azimuth, in [0, 180), is the longer one's at its middle.

        Args:
            polygons: (n, 4, 2) pixel column, row of the corners, in order around the box.
        """
        corners = np.asarray(polygons, np.float64).reshape(-1, 4, 2)
        middles = (corners + np.roll(corners, -1, axis=1)) / 2
        length, azimuth = self._geodesics(
            np.concatenate([middles[:, 3], middles[:, 0]]), np.concatenate([middles[:, 1], middles[:, 2]])
        )
        (first, second), (first_az, second_az) = length.reshape(2, -1), azimuth.reshape(2, -1)
        area = first * second * np.abs(np.sin(np.radians(first_az - second_az)))
        azimuth = np.where(first >= second, first_az, second_az) % 180
        azimuth[azimuth >= 180] = 0  # rounding of a tiny negative remainder
        return Measures(np.maximum(first, second), np.minimum(first, second), area, azimuth)

    def _geodesics(self, start: Array, end: Array) -> tuple[Array, Array]:
        """Metres and azimuth at the middle, degrees, (n,) each, from pixels ``start`` to pixels ``end`` (n, 2)."""
        length = np.full(len(start), np.nan)
        azimuth = length.copy()
        if self._geodetic is None or self.crs is None:
            return length, azimuth
        target, geod, degrees = self._geodetic
        lonlat = _transform(self.crs.to_wkt(), target, self.to_map(np.concatenate([start, end]))) * degrees
        lonlat[np.abs(lonlat[:, 1]) > 90 + 1e-9] = np.nan
        lon, lat = lonlat[:, 0].reshape(2, -1), lonlat[:, 1].reshape(2, -1)
        ok = np.isfinite(lon + lat).all(0)
        if ok.any():
            forth, back, length[ok] = geod.inv(lon[0, ok], lat[0, ok], lon[1, ok], lat[1, ok])
            turn = (back - forth) % 360 - 180  # meridians converge along the way
            azimuth[ok] = forth + turn / 2
        return length, azimuth

    @cached_property
    def _geodetic(self) -> tuple[str, Geod, float] | None:
        """WKT of the CRS's own longitude and latitude, its ellipsoid, degrees per unit; None where it has none."""
        base = None if self.crs is None else self.crs.geodetic_crs
        geod = None if base is None else base.get_geod()
        if base is None or geod is None:
            return None
        target = base.to_wkt()
        try:
            _transformer(self.crs.to_wkt() if self.crs else "", target)
        except ProjError:
            return None
        unit = base.axis_info[0]
        degrees = 1.0 if unit.unit_name == "degree" else math.degrees(unit.unit_conversion_factor)
        return target, geod, degrees

    def _sensor(self, points: Array, *, forward: bool) -> Array:
        """Pixels to map (forward) or back through GCPs or RPCs; NaN where they lead nowhere."""
        out = np.full_like(points, np.nan)
        ok = np.isfinite(points).all(1)
        if not ok.any():
            return out
        x, y = points[ok].T
        try:
            with self._open_transformer() as model:
                if forward:
                    out[ok] = np.stack(model.xy(y, x, offset="ul"), 1)
                else:
                    rows, cols = model.rowcol(x, y, op=np.positive)
                    out[ok] = np.stack([cols, rows], 1)
        except (rasterio.errors.RasterioError, rasterio.errors.TransformError, ValueError) as error:
            logger.debug("%s transform failed: %s", self.kind, error)
        out[~np.isfinite(out).all(1)] = np.nan
        return out

    @contextmanager
    def _open_transformer(self) -> Iterator[Any]:
        if self.kind == "rpc":
            # heights count from RPC_HEIGHT; GDAL's inverse stops at a tenth of a pixel unless told
            model = RPCTransformer(self.rpcs, RPC_HEIGHT=self.rpcs.height_off, RPC_PIXEL_ERROR_THRESHOLD=0.001)
        else:
            model = GCPTransformer(list(self.gcps), tps=len(self.gcps) > 3)
        with model:
            yield model


def _points(points: ArrayLike) -> Array:
    return np.asarray(points, np.float64).reshape(-1, 2)


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(CRS.from_wkt(source), CRS.from_wkt(target), always_xy=True)


def _transform(source: str, target: str, points: Array) -> Array:
    """Points (n, 2) from CRS ``source`` to ``target``, both WKT; NaN where a point has no image."""
    out = np.stack(_transformer(source, target).transform(points[:, 0], points[:, 1]), 1)
    out[~np.isfinite(out).all(1)] = np.nan
    return out


def _horizontal_crs(crs: rasterio.crs.CRS | None) -> tuple[CRS | None, tuple[str, ...]]:
    """``crs`` without its height part; None, with a warning, if it cannot be used."""
    if not crs:
        return None, ()
    try:
        found = CRS.from_wkt(crs.to_wkt(version="WKT2_2019"))
        return found.sub_crs_list[0] if found.is_compound else found.to_2d(), ()
    except (CRSError, rasterio.errors.CRSError) as error:
        return None, (f"its coordinate system cannot be understood and is ignored: {error}",)


def _usable_gcps(points: list[Any], crs: CRS | None) -> tuple[Any, ...]:
    """Control points for a fit: distinct pixels, at most MAX_SPLINE_POINTS, continuous over the antimeridian."""
    distinct = list({(p.col, p.row): p for p in points}.values())
    distinct = distinct[:: -(-len(distinct) // MAX_SPLINE_POINTS)]
    if crs is not None and crs.is_geographic and np.ptp([p.x for p in distinct]) > 180:
        return tuple(type(p)(row=p.row, col=p.col, x=p.x + 360 * (p.x < 0), y=p.y, z=p.z) for p in distinct)
    return tuple(distinct)


def parse_crs(text: str) -> CRS:
    """The reference system ``text`` names: EPSG:n, or any other definition PROJ knows.

    Raises:
        ConfigError: if PROJ does not know it.
    """
    try:
        return CRS.from_user_input(text)
    except CRSError:
        raise ConfigError(f"--crs {text!r} is no reference system PROJ knows: write source or EPSG:n") from None
