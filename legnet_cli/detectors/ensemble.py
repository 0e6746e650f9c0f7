"""Several views of each image, and several weights, searched as by one detector."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from legnet_cli.boxes import Detections, boxes_to_polygons, polygons_to_boxes, to_le90
from legnet_cli.detectors.loader import Detector, load_detector
from legnet_cli.detectors.networks import AUTO, USUAL
from legnet_cli.detectors.views import Views
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.sizes import SizeLimits
from legnet_cli.ops.fusion import fuse_views

logger = logging.getLogger(__name__)

VIEW_SCORE = 0.05  # that a view's boxes have at least, whatever is asked of the fused ones: their scores depend on it
_HALF_PI = np.pi / 2


def load_ensemble(
    weights: Sequence[str],
    views: Views,
    *,
    score_threshold: float | None = 0.05,
    kernels: str = AUTO,
    **options: Any,  # noqa: ANN401
) -> Detector:
    """Load weights, and search with all of them in all ``views`` as with one detector.

    Classes are matched by name. What was learned of scores goes by the views: a card's thresholds and probabilities of
    a single view are left out where there are several.

    Args:
        weights: names, files or URLs.
        views: of each image.
        score_threshold: of a single view, see :func:`load_detector`; None if the card's thresholds are to be used.
        kernels: see :func:`load_detector`; several weights go by the kind of CPU, for ``auto`` is of a single network.
        options: others of :func:`load_detector`, for each of the weights.

    Raises:
        See :func:`load_detector`.
    """
    if len(weights) == 1 and views.single:
        return load_detector(weights[0], score_threshold=score_threshold, kernels=kernels, **options)
    if len(weights) > 1 and kernels == AUTO:
        kernels = USUAL
    members = [load_detector(one, score_threshold=VIEW_SCORE, kernels=kernels, **options) for one in weights]
    joined = replace(join(members, views), fixed_kernels=kernels)
    if score_threshold is None and not joined.card.calibration and any(one.card.calibration for one in members):
        logger.warning(
            "%s was not calibrated for these views: using default thresholds, without probabilities: "
            "legnet eval --calibrate --write-back with the same views calibrates it",
            joined.card.name,
        )
    return joined


def join(members: Sequence[Detector], views: Views) -> Detector:
    """One detector of several that looks at each image in all ``views``."""
    card = _card([member.card for member in members], views)
    search = _Search(tuple(members), views, card.classes)
    precision, engine = ("+".join(dict.fromkeys(getattr(m, name) for m in members)) for name in ("precision", "engine"))
    first = members[0]
    joined = Detector(card, first.device, precision, search, engine=engine)
    return joined if len(members) > 1 else replace(joined, network=first.network, key=first.key)


def _card(cards: Sequence[ModelCard], views: Views) -> ModelCard:
    """What is known of several weights together."""
    largest = max(cards, key=lambda card: card.tile)
    if len(cards) == 1:
        return replace(largest, calibration=(largest.view_calibration or {}).get(views.name))
    known = [card.gsd for card in cards if card.gsd is not None]
    low, high = max((gsd[0] for gsd in known), default=1.0), min((gsd[1] for gsd in known), default=0.0)
    if known and low > high:
        logger.warning(
            "%s: trained at different ground sampling distances, but all search the same pixels", _listed(cards, "name")
        )
    return ModelCard(
        name=" + ".join(card.name for card in cards),
        recipe=_listed(cards, "recipe"),
        classes=tuple(dict.fromkeys(name for card in cards for name in card.classes)),
        tile=largest.tile,
        overlap=largest.overlap,
        gsd=(low, high) if low <= high else None,
        licence=_listed(cards, "licence") or None,
        trained_on=_listed(cards, "trained_on") or None,
        sizes=_joined_sizes(cards) or None,
    )


def _joined_sizes(cards: Sequence[ModelCard]) -> dict[str, Any]:
    """Of classes of which all models that have them know the sizes of objects, in the same unit."""
    found: dict[str, SizeLimits | None] = {}
    for card in cards:
        for name in card.classes:
            own = card.size_limits.get(name)
            if name not in found:
                found[name] = own
            elif (before := found[name]) is not None:
                found[name] = None if own is None else before.joined(own)
    return {name: limits.to_dict() for name, limits in found.items() if limits is not None}


def _listed(cards: Sequence[ModelCard], name: str) -> str:
    return " + ".join(dict.fromkeys(str(getattr(card, name)) for card in cards if getattr(card, name)))


@dataclass(frozen=True)
class _Search:
    """Searches a batch of images in all views.

    Attributes:
        members: detectors.
        views: how each of them looks at an image.
        classes: those of all members.
    """

    members: tuple[Detector, ...]
    views: Views
    classes: tuple[str, ...]

    def __call__(self, images: Tensor) -> list[Detections]:
        """Detections in each of uint8 images (B, H, W, 3)."""
        found = [
            [self._known(hits, member) for hits in _look(member, view, turn, images.shape[1:3])]
            for view in (_resized(images, scale) for scale in self.views.scales)
            for member in self.members
            for turn in self.views.turns
        ]
        each = len(self.views.scales) * len(self.views.turns)
        known = np.array([sum(name in member.card.classes for member in self.members) for name in self.classes])
        return [fuse_views(hits, known * each, self.views.fuse) for hits in zip(*found, strict=True)]

    def _known(self, hits: Detections, member: Detector) -> Detections:
        """``hits`` of a member with the labels of all classes."""
        labels = np.array([self.classes.index(name) for name in member.card.classes], np.int64)
        return replace(hits, labels=labels[hits.labels])


def _resized(images: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return images
    height, width = (max(1, round(side / scale)) for side in images.shape[1:3])
    planes = images.permute(0, 3, 1, 2).float()
    smooth = F.interpolate(planes, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return smooth.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _look(member: Detector, images: Tensor, turn: tuple[int, bool], size: Sequence[int]) -> list[Detections]:
    """What a detector finds in images (B, h, w, 3) that are turned for it, in pixels of images of ``size`` (H, W)."""
    quarters, mirrored = turn
    height, width = images.shape[1:3]
    seen = torch.rot90(images.flip(2) if mirrored else images, quarters, (1, 2)).contiguous()
    found = []
    for hits in member.search(seen.to(member.device)):
        boxes = turned_back(hits.boxes, turn, height, width)
        scale = np.array([size[1] / width, size[0] / height])
        if (scale != 1).any():
            boxes = polygons_to_boxes(boxes_to_polygons(boxes) * scale)
        found.append(replace(hits, boxes=boxes))
    return found


def turned_back(boxes: NDArray[np.float64], turn: tuple[int, bool], height: int, width: int) -> NDArray[np.float64]:
    """Boxes (n, 5) in pixels of an image, from those in a view of it.

    Args:
        boxes: as the view shows them.
        turn: quarter turns counter-clockwise that made the view, after mirroring left and right or not.
        height, width: of the image.
    """
    quarters, mirrored = turn
    x, y, w, h, angle = boxes.T
    # coordinates count from the outer corner of the first pixel, so that a side's end is its length
    x, y = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))[quarters]
    angle = angle + quarters * _HALF_PI
    if mirrored:
        x, angle = width - x, -angle
    return to_le90(np.stack([x, y, w, h, angle], 1))
