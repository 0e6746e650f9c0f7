"""Ignored ground in training: what a head would take for background there is neither positive nor negative.

mmdet's own ``ignore_iof_thr`` measures a box against one region at a time, so that a box across two of them counts, and
it takes everything for background in an image without objects. Here the ground is a mask, and goes the way of mmdet's
``gt_bboxes_ignore`` to the places where boxes and points get their targets.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from legnet_cli.detectors.mmrotate.door import import_mm

_THIRDS = (-1 / 3, 0.0, 1 / 3)  # the share of a box in a mask is that of the centres of its nine equal parts


def ignore_ground(detector: nn.Module) -> bool:
    """Let ``detector`` take masks (H, W) as ``gt_bboxes_ignore``; false, and no change, if one of its heads cannot.

    That is possible where boxes get their targets from mmdet's ``MaxIoUAssigner``, and for rotated FCOS.
    """
    import_mm()
    from mmdet.core.bbox.assigners import MaxIoUAssigner
    from mmrotate.models.dense_heads import RotatedFCOSHead
    from mmrotate.models.roi_heads.bbox_heads import RotatedBBoxHead

    owners = [m for m in detector.modules() if hasattr(m, "get_targets") and not isinstance(m, RotatedBBoxHead)]
    owners += [m for m in detector.modules() if hasattr(m, "bbox_assigner")]
    points = [m for m in owners if type(m) is RotatedFCOSHead]
    names = [(m, "bbox_assigner" if hasattr(m, "bbox_assigner") else "assigner") for m in owners if m not in points]
    found = [(m, name, getattr(m, name, None)) for m, name in names]
    every = [one for _, _, some in found for one in (some if isinstance(some, list) else [some])]
    if not owners or not all(isinstance(one, MaxIoUAssigner) for one in every):
        return False
    for module, name, some in found:
        setattr(module, name, [Assigner(one) for one in some] if isinstance(some, list) else Assigner(some))
    for head in points:
        _weigh_points(head)
    return True


class Assigner:
    """One of mmdet's assigners, whose negatives do not lie in ignored ground with more than half of their area."""

    def __init__(self, whole: Any) -> None:  # noqa: ANN401
        self._whole = whole

    def assign(self, boxes: Tensor, truth: Tensor, ignored: Tensor | None = None, labels: Tensor | None = None) -> Any:  # noqa: ANN401
        """See mmdet; ``ignored`` is a mask (H, W) of the image."""
        result = self._whole.assign(boxes, truth, None, labels)
        if ignored is not None:
            result.gt_inds[(result.gt_inds == 0) & (share_in(boxes, ignored) > 0.5)] = -1
        return result


def share_in(boxes: Tensor, mask: Tensor) -> Tensor:
    """Share (n,) of each box, upright (n, 4) corners or rotated (n, 5), in ``mask`` (H, W), to a ninth.

    What lies outside of the image counts as its nearest pixel.
    """
    if boxes.shape[1] == 5:
        x, y, w, h, angle = boxes.unbind(1)
        cos, sin = angle.cos(), angle.sin()
    else:
        (x, y), (w, h) = ((boxes[:, :2] + boxes[:, 2:4]) / 2).unbind(1), (boxes[:, 2:4] - boxes[:, :2]).unbind(1)
        cos, sin = torch.ones_like(x), torch.zeros_like(x)
    inside = torch.zeros_like(x)
    for u in _THIRDS:
        for v in _THIRDS:
            along, across = u * w, v * h
            points = torch.stack([x + along * cos - across * sin, y + along * sin + across * cos], 1)
            inside += points_in(points, mask)
    return inside / len(_THIRDS) ** 2


def points_in(points: Tensor, mask: Tensor) -> Tensor:
    """Whether ``points`` (n, 2) lie in ``mask`` (H, W); those outside of the image go by its nearest pixel."""
    limit = points.new_tensor([mask.shape[1] - 1, mask.shape[0] - 1])
    col, row = points.floor().clamp(min=0).minimum(limit).long().unbind(1)
    return mask[row, col]


class _PointLoss(nn.Module):
    """A loss of points (n,) by class, without those of the background that ``ignored`` marks."""

    def __init__(self, whole: nn.Module, background: int) -> None:
        super().__init__()
        self._whole, self._background = whole, background
        self.ignored: Tensor | None = None

    def forward(self, scores: Tensor, labels: Tensor, **values: Any) -> Tensor:  # noqa: ANN401
        weight = None
        if self.ignored is not None:
            weight = (~self.ignored | (labels != self._background)).to(scores.dtype)
        found: Tensor = self._whole(scores, labels, weight=weight, **values)
        return found


def _weigh_points(head: Any) -> None:  # noqa: ANN401
    """Let rotated FCOS heed masks: it has no assigner, its points get a weight."""
    whole, weighted = head.loss, _PointLoss(head.loss_cls, head.num_classes)

    def loss(scores: list[Tensor], *others: Any, gt_bboxes_ignore: list[Tensor] | None = None) -> Any:  # noqa: ANN401
        if gt_bboxes_ignore is not None:
            sizes = [level.shape[-2:] for level in scores]
            levels = head.prior_generator.grid_priors(sizes, dtype=scores[0].dtype, device=scores[0].device)
            weighted.ignored = torch.cat([points_in(points, mask) for points in levels for mask in gt_bboxes_ignore])
        try:
            return whole(scores, *others)
        finally:
            weighted.ignored = None

    head.loss_cls, head.loss = weighted, loss
