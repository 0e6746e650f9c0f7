"""How long and wide the objects of a class are: what a model finds beyond that is hardly one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.detectors.weights.entry import CardEntry

FEWEST = 50  # objects of a class to learn from: another one is larger than all of n once in n + 1 times
_SPAN = (0.005, 0.995)  # quantiles of the objects' sizes: single labels may be wrong
_MARGIN = 1.5  # beyond these: a box of the right place still counts as found (IoU over 0.5) with a side so far off


@dataclass(frozen=True)
class SizeLimits(CardEntry):
    """Of one class.

    Attributes:
        length, width: least and greatest, of the longer and of the shorter side.
        metres: whether they are on the ground; otherwise in pixels as they are searched.
        objects: labelled ones they were learned from.
    """

    length: tuple[float, float]
    width: tuple[float, float]
    metres: bool
    objects: int

    @staticmethod
    def learn(sides: Array, *, metres: bool) -> SizeLimits | None:
        """From the longer and shorter sides (n, 2) of objects; None if they are too few."""
        sides = sides[(sides > 0).all(1)]
        if len(sides) < FEWEST:
            return None
        low, high = np.quantile(sides, _SPAN, axis=0)
        ends = np.stack([low / _MARGIN, high * _MARGIN], 1)
        length, width = [(float(f"{least:.4g}"), float(f"{most:.4g}")) for least, most in ends.tolist()]
        return SizeLimits(length, width, metres, len(sides))

    def odd(self, length: Array, width: Array) -> NDArray[np.bool_]:
        """Which of sides (n,), (n,) are out of range; sides that are unknown, as NaN, are not."""
        return np.asarray(
            (length < self.length[0]) | (length > self.length[1]) | (width < self.width[0]) | (width > self.width[1])
        )

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> SizeLimits:
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError, TypeError, KeyError: it is none.
        """
        (a, b), (c, d) = values["length"], values["width"]
        found = SizeLimits((float(a), float(b)), (float(c), float(d)), bool(values["metres"]), int(values["objects"]))
        if not (0 < found.length[0] <= found.length[1] < np.inf and 0 < found.width[0] <= found.width[1] < np.inf):
            raise ValueError("no limits of sizes")
        return found

    def joined(self, other: SizeLimits) -> SizeLimits | None:
        """The wider range of two models'; None if they are not in the same unit."""
        if self.metres != other.metres:
            return None
        length, width = (
            (min(one[0], two[0]), max(one[1], two[1]))
            for one, two in ((self.length, other.length), (self.width, other.width))
        )
        return SizeLimits(length, width, self.metres, self.objects + other.objects)
