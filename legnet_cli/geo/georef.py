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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio.crs
import rasterio.errors
from numpy.typing import ArrayLike
from pyproj import Geod
from pyproj.exceptions import CRSError
from rasterio import Affine
from rasterio.transform import GCPTransformer, RPCTransformer

from legnet_cli.boxes import Array
from legnet_cli.errors import GeoError
from legnet_cli.geo.crs import CRS, WGS84, reproject, within_180
from legnet_cli.geo.gdal import READ_ERRORS, RasterHeader, opened
from legnet_cli.geo.headers import read_header
from legnet_cli.geo.orientation import is_transposed

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
    def from_header(cls, header: RasterHeader) -> Georef:
        """Georeference of a raster; the transform goes before GCPs, GCPs before RPCs.

        Without one, width and height are those of the picture as its EXIF orientation shows it.
        """
        found = cls._declared(header)
        middle = found.to_map([[found.width / 2, found.height / 2]])
        if not np.isfinite(middle).all():
            ignored = f"its {found.kind} do not place it on the ground and are ignored"
            return cls("none", *shown_size(header), warnings=(ignored,))
        if found.crs is not None and found.crs.is_geographic and abs(middle[0, 1]) > 100:  # grads, at the most
            ignored = f"its coordinates are not those of {found.crs.name}, which is ignored"
            return replace(found, crs=None, warnings=(ignored,))
        return found

    @classmethod
    def _declared(cls, header: RasterHeader) -> Georef:
        size, transform = (header.width, header.height), header.transform
        if transform != Affine.identity() and transform.determinant != 0 and all(map(math.isfinite, transform)):
            crs, ignored = _horizontal_crs(header.crs)
            return cls("affine", *size, crs=crs, transform=transform, warnings=ignored)
        if len(header.gcps) >= 3:
            crs, ignored = _horizontal_crs(header.gcp_crs or header.crs)
            return cls("gcps", *size, crs=crs, gcps=_usable_gcps(header.gcps, crs), warnings=ignored)
        if header.rpcs:
            return cls("rpc", *size, crs=WGS84, rpcs=header.rpcs)
        return cls("none", *shown_size(header))

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
            return reproject(self.to_map(pixels), self.crs, crs)
        except GeoError as error:
            raise GeoError(f"{error}: keep the scene's own coordinates (--crs source)") from error

    def to_lonlat(self, pixels: ArrayLike) -> Array:
        """WGS84 longitude in [-180, 180], latitude (n, 2) of pixel column, row (n, 2).

        Raises:
            GeoError: if the scene has no coordinate system, or one that is not of the Earth.
        """
        lonlat = self.to_crs(pixels, WGS84)
        lonlat[np.abs(lonlat[:, 1]) > 90 + 1e-9] = np.nan
        lonlat[:, 0] = within_180(lonlat[:, 0])
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
        lonlat = reproject(self.to_map(np.concatenate([start, end])), self.crs, target) * degrees
        lonlat[np.abs(lonlat[:, 1]) > 90 + 1e-9] = np.nan
        lon, lat = lonlat[:, 0].reshape(2, -1), lonlat[:, 1].reshape(2, -1)
        ok = np.isfinite(lon + lat).all(0)
        if ok.any():
            forth, back, length[ok] = geod.inv(lon[0, ok], lat[0, ok], lon[1, ok], lat[1, ok])
            turn = (back - forth) % 360 - 180  # meridians converge along the way
            azimuth[ok] = forth + turn / 2
        return length, azimuth

    @cached_property
    def _geodetic(self) -> tuple[CRS, Geod, float] | None:
        """The CRS's own longitude and latitude, its ellipsoid, degrees per unit; None where it has none."""
        base = None if self.crs is None else self.crs.geodetic_crs
        geod = None if base is None else base.get_geod()
        if self.crs is None or base is None or geod is None:
            return None
        try:
            reproject(np.zeros((0, 2)), self.crs, base)
        except GeoError:
            return None
        unit = base.axis_info[0]
        degrees = 1.0 if unit.unit_name == "degree" else math.degrees(unit.unit_conversion_factor)
        return base, geod, degrees

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
        except (*READ_ERRORS, rasterio.errors.TransformError, ValueError) as error:
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


def read_georef(path: Path) -> Georef:
    """Where the pixels of the image at ``path`` lie; nothing else of it is read.

    Raises:
        DataError: it is not a raster.
    """
    with opened(path) as (_, header):
        return Georef.from_header(header)


def shown_orientation(path: Path) -> int:
    """EXIF orientation by which the image at ``path`` is shown; 1 if it says where on the ground its pixels lie.

    Raises:
        DataError: the file cannot be read or is of another kind than :mod:`legnet_cli.geo.headers` knows.
    """
    _, orientation = read_header(path)
    return orientation if orientation != 1 and read_georef(path).kind == "none" else 1


def shown_size(header: RasterHeader) -> tuple[int, int]:
    """Width and height of a picture as its EXIF orientation shows it."""
    return (header.height, header.width) if is_transposed(header.orientation) else (header.width, header.height)


def _horizontal_crs(crs: rasterio.crs.CRS | None) -> tuple[CRS | None, tuple[str, ...]]:
    """``crs`` without its height part; None, with a warning, if it cannot be used."""
    if not crs:
        return None, ()
    try:
        return _without_height(crs.to_wkt(version="WKT2_2019")), ()
    except (CRSError, rasterio.errors.CRSError, *READ_ERRORS) as error:
        return None, (f"its coordinate system cannot be understood and is ignored: {error}",)


@lru_cache(maxsize=64)  # a system takes 40 kB, and thousands of scenes have the same
def _without_height(wkt: str) -> CRS:
    found = CRS.from_wkt(wkt)
    return found.sub_crs_list[0] if found.is_compound else found.to_2d()


def _usable_gcps(points: Sequence[Any], crs: CRS | None) -> tuple[Any, ...]:
    """Control points for a fit: distinct pixels, at most MAX_SPLINE_POINTS, continuous over the antimeridian."""
    distinct = list({(p.col, p.row): p for p in points}.values())
    distinct = distinct[:: -(-len(distinct) // MAX_SPLINE_POINTS)]
    if crs is not None and crs.is_geographic and np.ptp([p.x for p in distinct]) > 180:
        return tuple(type(p)(row=p.row, col=p.col, x=p.x + 360 * (p.x < 0), y=p.y, z=p.z) for p in distinct)
    return tuple(distinct)
