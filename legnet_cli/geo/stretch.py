"""Turning pixel values of any type into the 8-bit images networks take.

A stretch is written as on the command line:

=========== =========================================================================================
``auto``    8-bit images stay as they are; anything else as ``2,98``
``none``    no stretch: values are rounded and clipped to 0..255
``2,98``    percentages of the valid pixels, each band by itself (as QGIS does): two numbers from 0 to
            100 on either side of 50
``150,4000`` values that become 0 and 255: any other pair
``0:80``    values too: a colon says so where the pair would read as percentages
=========== =========================================================================================

Percentages adapt to every scene, so a scale or offset of the values makes no difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from legnet_cli.errors import ConfigError

Limits = NDArray[np.float64]

NEUTRAL = (124, 116, 104)  # ImageNet's mean colour: zero after normalisation, where pixels are invalid
HUGE = 1e38  # beyond it lie the "no data" values of float rasters that forget to say so


@dataclass(frozen=True)
class Stretch:
    """How values become 8-bit: see the module. ``low`` and ``high`` are percentages or values."""

    kind: Literal["auto", "none", "percent", "values"] = "auto"
    low: float = 2.0
    high: float = 98.0

    @classmethod
    def parse(cls, text: str) -> Stretch:
        """Read ``auto``, ``none``, a percentage pair or a value pair.

        Raises:
            ConfigError: for anything else.
        """
        if text in ("auto", "none"):
            return cls("auto" if text == "auto" else "none")
        colon = ":" in text
        try:
            low, high = (float(part) for part in text.split(":" if colon else ","))
        except ValueError:
            low = high = math.nan
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(
                f"stretch {text!r} is not understood: "
                "give auto, none, percentages around 50 such as 2,98 or values such as 150,4000 or 0:80"
            )
        percent = not colon and 0 <= low < 50 < high <= 100
        return cls("percent" if percent else "values", low, high)

    def needs_samples(self, dtype: np.dtype[Any]) -> bool:
        """Whether limits depend on the pixels, for images of ``dtype``."""
        return self.kind == "percent" or (self.kind == "auto" and dtype != np.uint8)

    def limits(self, dtype: np.dtype[Any], samples: Sequence[NDArray[Any]]) -> Limits:
        """Values (bands, 2) that become 0 and 255.

        Args:
            dtype: type of the image.
            samples: the valid pixel values of each band, any shape.

        Percentages that meet (a flat scene with a few bright spots) give way to the least and the greatest value.
        """
        if self.needs_samples(dtype):
            return np.array([_percentiles(sample, self.low, self.high) for sample in samples], np.float64)
        pair = (self.low, self.high) if self.kind == "values" else (0.0, 255.0)
        return np.tile(np.array(pair, np.float64), (len(samples), 1))


def to_uint8(bands: NDArray[Any], limits: Limits) -> NDArray[np.uint8]:
    """Stretch (bands, h, w) linearly so that ``limits`` (bands, 2) become 0 and 255; same shape, uint8.

    NaN becomes 0. Where both limits of a band are equal, values up to them become 0 and those beyond 255.
    """
    if bands.dtype == np.uint8 and (limits == (0, 255)).all():
        return bands
    out = np.empty(bands.shape, np.uint8)
    for band, (low, high), target in zip(bands, limits.tolist(), out, strict=True):
        if band.dtype.kind in "iu" and band.dtype.itemsize <= 2:
            table = _table(band.dtype.str, low, high)
            np.take(table, band.view(f"u{band.dtype.itemsize}"), out=target, mode="clip")
        else:
            target[...] = _linear(band, low, high)
    return out


def is_number(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values carry data: not NaN, infinite or huge beyond measure; same shape."""
    if values.dtype.kind != "f":
        return np.ones(values.shape, np.bool_)
    limit = values.dtype.type(min(HUGE, float(np.finfo(values.dtype).max)))
    return np.asarray(np.abs(values) < limit)  # false for NaN too


def _percentiles(values: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    if values.size == 0:
        return 0.0, 0.0
    first, last = np.percentile(values.astype(np.float64), (low, high))
    if first == last:
        first, last = values.min(), values.max()
    return float(first), float(last)


def _linear(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    if high <= low:
        return np.where(values > low, 255, 0).astype(np.uint8)
    # float32 has digits enough for its own values; other types take float64
    scaled = values.astype(np.float32 if values.dtype == np.float32 else np.float64)
    with np.errstate(all="ignore"):
        scaled -= low
        scaled *= 255
        scaled /= high - low
        scaled += 0.5  # to the nearest
        np.nan_to_num(scaled, copy=False, nan=0.0)
    np.clip(scaled, 0, 255, out=scaled)
    return scaled.astype(np.uint8)


@lru_cache(maxsize=32)
def _table(dtype: str, low: float, high: float) -> NDArray[np.uint8]:
    """The stretched value of every value of a 1- or 2-byte integer type, by its bits."""
    size = np.dtype(dtype).itemsize
    every = np.arange(256**size, dtype=f"u{size}").view(dtype)
    return _linear(every.astype(np.float64), low, high)
