"""How often, and how, each image is looked at: turned, mirrored, and at several scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tta = Literal["none", "flips", "full"]
Fuse = Literal["wbf", "nms"]

# quarter turns counter-clockwise, after mirroring left and right or not; each set holds the inverse of all it has
_TURNS: dict[Tta, tuple[tuple[int, bool], ...]] = {
    "none": ((0, False),),
    "flips": ((0, False), (0, True), (2, False), (2, True)),
    "full": tuple((quarters, mirrored) for mirrored in (False, True) for quarters in range(4)),
}


@dataclass(frozen=True)
class Views:
    """The views of an image, and how what they show becomes one result.

    Attributes:
        tta: test-time augmentation: ``none``, ``flips`` (4 views: as it is, mirrored either way, and both) or ``full``
            (8: four quarter turns, mirrored or not).
        scales: pixels of each view in pixels of the image: 2 is half as many along a side.
        fuse: ``wbf``, means weighted by score, or ``nms``, the best box; see ``ops.fusion``.
    """

    tta: Tta = "none"
    scales: tuple[float, ...] = (1.0,)
    fuse: Fuse = "wbf"

    @property
    def turns(self) -> tuple[tuple[int, bool], ...]:
        """Quarter turns counter-clockwise, after mirroring left and right or not."""
        return _TURNS[self.tta]

    @property
    def single(self) -> bool:
        """Whether an image is looked at as it is, once."""
        return self.tta == "none" and self.scales == (1.0,)

    @property
    def name(self) -> str:
        """What decides the scores, in words: those of other views mean something else. Empty for a single view."""
        if self.single:
            return ""
        return f"tta {self.tta}, scales {','.join(f'{scale:g}' for scale in self.scales)}, {self.fuse}"
