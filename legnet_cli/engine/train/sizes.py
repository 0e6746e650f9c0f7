"""How large the labelled objects of each class are, for the card of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import polygons_to_boxes
from legnet_cli.data.gsd import image_gsd
from legnet_cli.data.labels import ImageLabels
from legnet_cli.detectors.weights.sizes import SizeLimits

_EDGE = 1.0  # pixels: an object that comes so near to the edge of its image may be cut by it


def learn_sizes(
    images: Sequence[ImageLabels], classes: Sequence[str], gsd: tuple[float, float] | None
) -> dict[str, Any] | None:
    """By class the limits of sizes, as a card holds them: in metres where the scale of all its objects is known.

    Objects at the edge of an image are left out, and classes of few objects; None if there is no other.

    Args:
        images: labelled ones.
        classes: which to learn of.
        gsd: ground sampling distance of images that do not tell theirs, where it is the same for all.
    """
    usual = gsd[0] if gsd is not None and gsd[0] == gsd[1] else np.nan
    names: list[str] = []
    sides = [np.zeros((0, 4))]
    for image in images:
        image = image.select(_whole(image))
        own = image_gsd(image)
        scale = np.where(np.isfinite(own), own, usual)
        known = bool(np.isfinite(scale).all())
        ground = polygons_to_boxes(image.quads * scale)[:, 2:4] if known else np.full((len(image), 2), np.nan)
        sides.append(np.concatenate([image.boxes[:, 2:4], ground], 1))
        names += image.names
    every, name_of, found = np.concatenate(sides), np.array(names, np.str_), {}
    for name in classes:
        own = every[name_of == name]
        metres = bool(np.isfinite(own).all())
        if (limits := SizeLimits.learn(own[:, 2:] if metres else own[:, :2], metres=metres)) is not None:
            found[name] = limits.to_dict()
    return found or None


def _whole(image: ImageLabels) -> NDArray[np.bool_]:
    """Which objects (n,) lie within the image."""
    low, high = image.quads.min(1), image.quads.max(1)
    return np.asarray(((low > _EDGE) & (high < np.array(image.size or (np.inf, np.inf)) - _EDGE)).all(1))
