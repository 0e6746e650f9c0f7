"""How far boxes of one object differ from date to date for no reason, and from where on a difference is a change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from legnet_cli.boxes import Array

_FEW = 30  # objects found twice, without which the noise is not known
_DEVIATIONS = 3.5  # by which a change exceeds the noise: 2 in 1,000 do so by chance
_MEDIAN = 0.6745  # of the size of a normal variable of deviation 1
_MEDIAN_2D = 1.1774  # of the length of two of them


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the differences of boxes of one object on two dates; zero where unknown.

    Attributes:
        place: of a centre along each axis, as a share of the width.
        angle: in degrees.
        length, width: of their natural logarithms, so shares of them.
    """

    place: float = 0.0
    angle: float = 0.0
    length: float = 0.0
    width: float = 0.0


def measure_noise(way: Array, turned: Array, growth: Array) -> Noise:
    """The noise of objects found twice, most of which did not change: by medians, so that the others do not matter.

    Args:
        way: (n,) between centres, as a share of the width.
        turned: (n,) degrees, NaN for boxes without a direction.
        growth: (n, 2) logarithms of the ratios of lengths and widths.
    """
    if len(way) < _FEW:
        return Noise()
    length, width = np.median(np.abs(growth), axis=0) / _MEDIAN
    directed = turned[np.isfinite(turned)]
    angle = np.median(np.abs(directed)) / _MEDIAN if len(directed) >= _FEW else 0.0
    return Noise(float(np.median(way)) / _MEDIAN_2D, float(angle), float(length), float(width))


def beyond(least: float, noise: float) -> float:
    """From where on a difference is a change: ``least``, or more where the noise is greater."""
    return max(least, _DEVIATIONS * noise)
