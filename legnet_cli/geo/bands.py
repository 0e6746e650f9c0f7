"""Which bands of a raster make the image, and which of their values are data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from legnet_cli.errors import ConfigError, DataError
from legnet_cli.geo.gdal import RasterHeader
from legnet_cli.geo.stretch import HUGE, is_number

_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@dataclass(frozen=True)
class Bands:
    """The one or three bands that are read.

    Attributes:
        indexes: their numbers, from 1.
        dtype: type of the values :meth:`fetch` gives.
        nodata: each band's value that means "no data", None if it has none.
        alpha: number of the alpha band, None if there is none.
        shared_mask: whether the raster has a mask for all its bands.
        palette: (entries, 4) uint8 red, green, blue, alpha of a palette raster.
        warnings: sentences about what was chosen without knowing better.
    """

    indexes: tuple[int, ...]
    dtype: np.dtype[Any]
    nodata: tuple[np.generic | None, ...]
    alpha: int | None
    shared_mask: bool
    palette: NDArray[np.uint8] | None
    warnings: tuple[str, ...] = ()

    @classmethod
    def choose(cls, header: RasterHeader, wanted: tuple[int, ...] | None, name: str) -> Bands:
        """The ``wanted`` bands of a raster, else red, green, blue by colour interpretation, else 1 or 1, 2, 3.

        Raises:
            ConfigError: if the raster lacks a wanted band.
            DataError: if it has no bands, or values that are not real numbers.
        """
        if header.count == 0:
            raise DataError(f"{name}: {_no_bands(header.subdatasets)}")
        indexes, warnings = _by_colour(header) if wanted is None else (_checked(wanted, header.count, name), ())
        dtypes = [header.dtypes[i - 1] for i in indexes]
        if any("complex" in d or d.startswith("cint") for d in dtypes):
            raise DataError(f"{name}: its values are complex numbers ({dtypes[0]}): give a raster of their magnitudes")
        palette = None
        if set(indexes) == {1} and header.palette:
            indexes, dtypes, palette = (1,), dtypes[:1], _palette(header.palette)
        dtype, colours = np.result_type(*dtypes), header.colours
        return cls(
            indexes,
            dtype,
            tuple(_of_type(header.nodata[i - 1], dtype) for i in indexes),
            # sought by its colour: GDAL itself knows one only among 2 or 4 bands of whole numbers
            colours.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in colours else None,
            MaskFlags.per_dataset in header.masks[indexes[0] - 1],
            palette,
            warnings,
        )

    def fetch(
        self, ds: DatasetReader, window: tuple[float, float, float, float], shape: tuple[int, int], *, smooth: bool
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Values (bands, h, w) of a window, and which are data, same shape; None stands for all.

        Args:
            ds: an open dataset of the raster, or of one of its overviews.
            window: column, row, width, height in its pixels.
            shape: rows and columns (h, w) to resample the window to.
            smooth: whether to average (antialiased) or take the nearest pixel. Palette indices always are the nearest.
        """
        kind = Resampling.bilinear if smooth and self.palette is None else Resampling.nearest
        options = {"out_shape": shape, "window": Window(*window), "resampling": kind}
        if len({ds.dtypes[i - 1] for i in self.indexes}) == 1:
            values = ds.read(self.indexes, **options | {"out_shape": (len(self.indexes), *shape)})
        else:  # rasterio reads bands together only where they have one type
            values = np.stack([ds.read(i, out_dtype=self.dtype, **options) for i in self.indexes])
        usable = self._usable(values)
        if self.alpha or self.shared_mask:
            mask = ds.read(self.alpha, **options) if self.alpha else ds.read_masks(self.indexes[0], **options)
            usable = np.broadcast_to(mask > 0, values.shape) if usable is None else usable & (mask > 0)
        if self.palette is None:
            return values, usable
        rgba = np.take(self.palette, values[0], axis=0, mode="clip")
        opaque = rgba[..., 3] > 0
        usable = opaque[None] if usable is None else usable & opaque
        return np.moveaxis(rgba[..., :3], 2, 0), np.broadcast_to(usable, (3, *shape))

    def _usable(self, values: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Which values (bands, h, w) are numbers other than "no data"; None where that is all of them."""
        if values.dtype.kind != "f" and all(n is None for n in self.nodata):
            return None
        usable = is_number(values)
        for band, nodata, flags in zip(values, self.nodata, usable, strict=True):
            if nodata is not None:
                flags &= band != nodata
        return usable


def _of_type(nodata: float | None, dtype: np.dtype[Any]) -> np.generic | None:
    """A "no data" value as ``dtype``; None where no value of that type equals it, or it is no number anyway."""
    if nodata is None or not abs(nodata) < HUGE:
        return None
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if nodata != int(nodata) or not limits.min <= nodata <= limits.max:
            return None
        nodata = int(nodata)
    found: np.generic = dtype.type(nodata)
    return found


def _by_colour(header: RasterHeader) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The bands that make the image, and a warning where that is a guess."""
    colours = header.colours
    if all(colour in colours for colour in _RGB):
        return tuple(colours.index(colour) + 1 for colour in _RGB), ()
    plain = [i for i, colour in enumerate(colours, 1) if colour != ColorInterp.alpha]
    if len(plain) < 3:
        return (plain[0] if plain else 1,), ()
    taken = ", ".join(map(str, plain[:3]))
    guess = f"none of its {header.count} bands is marked as a colour; bands {taken} are taken as red, green, blue"
    return tuple(plain[:3]), (f"{guess} (choose with --bands)",) if len(plain) > 3 else ()


def _checked(wanted: tuple[int, ...], count: int, name: str) -> tuple[int, ...]:
    if len(wanted) not in (1, 3):
        raise ConfigError(f"{len(wanted)} bands were asked for: give one band or three, such as --bands 1,2,3")
    for band in wanted:
        if not 1 <= band <= count:
            raise ConfigError(f"{name} has no band {band}: give --bands from 1 to {count}")
    return tuple(wanted)


def _palette(colours: Mapping[int, Sequence[int]]) -> NDArray[np.uint8]:
    table = np.zeros((max(colours) + 1, 4), np.uint8)
    for index, rgba in colours.items():
        table[index] = rgba
    return table


def _no_bands(subdatasets: Sequence[str]) -> str:
    if not subdatasets:
        return "it holds no raster bands"
    return f"it holds {len(subdatasets)} subdatasets: give one of them, such as '{subdatasets[0]}'"
