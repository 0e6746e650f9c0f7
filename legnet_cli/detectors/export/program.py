"""Detectors as ``torch.export`` programs: their boxes without loops over data in Python.

Every list has a fixed length where that is possible (2,000 anchors a level, 2,000 proposals an image, those that are
none marked by a logit of minus infinity); NMS runs to its fixed point in a ``while_loop``. The program needs
PyTorch alone, not this package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop
from torch.export import Dim, ExportedProgram
from torch.nn import functional

from legnet_cli.backbones._layers import Pyramid
from legnet_cli.detectors.export.dense import Dense, OrientedDense
from legnet_cli.detectors.fast.decoding import (
    anchor_boxes,
    bounds,
    decode_box_offsets,
    decode_midpoint_offsets,
    le90,
    pyramid_level,
    scale_offsets,
)
from legnet_cli.detectors.fast.oriented_rcnn import OrientedRCNN
from legnet_cli.detectors.metadata import ExportOptions
from legnet_cli.detectors.networks import network_config, stock_detector
from legnet_cli.detectors.weights.checkpoint import Checkpoint
from legnet_cli.detectors.weights.recipes import MEAN, STRIDE
from legnet_cli.ops.iou import Rectangles, paired_iou_at_once
from legnet_cli.ops.nms import reach_of
from legnet_cli.ops.roi_align import unit_samples
from legnet_cli.ops.sampling import clamped_corners, cross

if TYPE_CHECKING:
    from legnet_cli.detectors.export.heads import OneStageDense

_FAR = 1e6  # pixels between groups: more than any image is wide


class Program(nn.Module):
    """uint8 RGB images (B, H, W, 3) to boxes (n, 5), scores (n,), labels (n,) and image numbers (n,).

    Args:
        config: mmrotate model dict.
        dense: convolutions.
        options: thresholds.
    """

    mean: Tensor

    def __init__(self, config: Mapping[str, Any], dense: Dense, options: ExportOptions) -> None:
        super().__init__()
        self.cfg, self.options, self.dense = config, options, dense
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the convolutions."""
        _, height, width, _ = images.shape
        x = (images.float() - self.mean).permute(0, 3, 1, 2)
        # written so that the padded sides are seen to be multiples
        right, below = ((size + STRIDE - 1) // STRIDE * STRIDE - size for size in (width, height))
        found: tuple[Tensor, ...] = self.dense(functional.pad(x, (0, right, 0, below)))
        return found

    def select(
        self, boxes: Tensor, image: Tensor, scores: Tensor, label: Tensor, classes: int, batch: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Final boxes, scores, labels and images of candidates (n,), of ``batch`` images."""
        scores, order = scores.sort(descending=True, stable=True)
        boxes, image, label = boxes[order], image[order], label[order]
        rules = self.cfg["test_cfg"]
        keep = _rotated_nms(boxes, image * classes + label, rules.get("rcnn", rules)["nms"]["iou_thr"])
        mine = (torch.arange(batch, device=image.device)[:, None] == image) & keep
        mine = mine & (mine.long().cumsum(1) <= self.options.max_detections)
        number, position = mine.nonzero().unbind(1)
        return boxes[position], scores[position], label[position], number


class OneStageProgram(Program):
    """A detector with one box a pixel: see ``heads``."""

    dense: OneStageDense

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See :class:`Program`."""
        batch, height, width, _ = images.shape
        maps, kinds = self.maps(images), len(self.dense.outputs)
        count = len(maps) // kinds
        levels = [self._best([maps[kind * count + level] for kind in range(kinds)]) for level in range(count)]
        scores, boxes, *factor = (torch.cat(part, 1) for part in zip(*levels, strict=True))
        image, pixel, label = (scores > self.options.score_threshold).nonzero().unbind(1)
        found, boxes = scores[image, pixel, label], boxes[image, pixel]
        for values in factor:
            found = found * values[image, pixel]
        cx, cy, w, h, angle = boxes.unbind(1)
        if self.dense.clip_centres:
            cx, cy = cx.clamp(0, width - 1), cy.clamp(0, height - 1)
        angle = le90(torch.where(w < h, angle + math.pi / 2, angle))
        boxes = torch.stack([cx, cy, torch.maximum(w, h), torch.minimum(w, h), angle], 1)
        return self.select(boxes, image, found, label, self.dense.classes, batch)

    def _best(self, level: list[Tensor]) -> list[Tensor]:
        """Of maps (B, N, ...), the ``nms_pre`` pixels with the highest scores; scores of 0 where there are no more."""
        most = self.cfg["test_cfg"]["nms_pre"]
        scores = level[0] * level[2][..., None] if len(level) > 2 else level[0]
        best = functional.pad(scores.amax(-1), (0, most), value=-1.0)
        index = best.topk(most)[1]
        parts = [level[0], *(part if part.ndim == 3 else part[..., None] for part in level[1:])]
        padded = (functional.pad(part, (0, 0, 0, most)) for part in parts)
        chosen = [part.gather(1, index[..., None].expand(-1, -1, part.shape[2])) for part in padded]
        return [*chosen[:2], *(part[..., 0] for part in chosen[2:])]


class OrientedProgram(Program):
    """Oriented R-CNN.

    Args:
        network: its modules are taken over.
        options: thresholds.
    """

    def __init__(self, network: OrientedRCNN, options: ExportOptions) -> None:
        super().__init__(network.cfg, OrientedDense(network), options)
        self.head = network.roi_head.bbox_head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See :class:`Program`."""
        maps = self.maps(images)
        batch, height, width, _ = images.shape
        count = len(maps) // 3
        rois, image = self.propose(maps[count : 2 * count], maps[2 * count :])
        scores, offsets = self.classify(self.pool(maps[:count], rois, image))
        head = self.cfg["roi_head"]["bbox_head"]
        boxes = decode_box_offsets(rois, scale_offsets(offsets, head["bbox_coder"]), height, width)
        roi, label = (scores > self.options.score_threshold).nonzero().unbind(1)
        return self.select(boxes[roi], image[roi], scores[roi, label], label, head["num_classes"], batch)

    def propose(self, logits: Sequence[Tensor], offsets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Proposals (r, 5) of all images, best first, and their images (r,)."""
        grid, rules = self.cfg["rpn_head"]["anchor_generator"], self.cfg["test_cfg"]["rpn"]
        scores, boxes = [], []
        for level, (score, moves) in enumerate(zip(logits, offsets, strict=True)):
            width, batch, most = score.shape[3], score.shape[0], rules["nms_pre"]
            flat = score.permute(0, 2, 3, 1).reshape(batch, -1)
            # as many entries as are wanted, whatever the size of the map
            flat = torch.cat([flat, flat.new_full((1, most), -torch.inf).expand(batch, -1)], 1)
            best, index = flat.topk(most)
            index = torch.where(best == -torch.inf, 0, index)
            rows = moves.permute(0, 2, 3, 1).reshape(batch, -1, 6)
            rows = rows.gather(1, index[..., None].expand(-1, -1, 6))
            centre, size = anchor_boxes(index, width, grid["strides"][level], grid["scales"], grid["ratios"])
            decoded = decode_midpoint_offsets(centre, size, scale_offsets(rows, self.cfg["rpn_head"]["bbox_coder"]))
            fits = (decoded[..., 2:4] >= rules["min_bbox_size"]).all(-1)
            keep = _upright_nms(bounds(decoded), rules["nms"]["iou_threshold"])
            scores.append(torch.where(keep & fits, best, -torch.inf))
            boxes.append(decoded)
        ranked, index = torch.cat(scores, 1).topk(rules["max_per_img"])
        chosen = torch.cat(boxes, 1).gather(1, index[..., None].expand(-1, -1, 5))
        image, rank = (ranked > -torch.inf).nonzero().unbind(1)
        return chosen[image, rank], image

    def pool(self, levels: Sequence[Tensor], rois: Tensor, image: Tensor) -> Tensor:
        """Features (r, bins * C) of proposals (r, 5): rotated RoI align as weighted rows of all levels."""
        rules = self.cfg["roi_head"]["bbox_roi_extractor"]
        strides, how = rules["featmap_strides"], rules["roi_layer"]
        levels = levels[: len(strides)]
        which = pyramid_level(rois, rules.get("finest_scale", 56), len(strides))
        masks = [(which == i).unsqueeze(1) for i in range(len(strides))]
        height, width, first = (torch.zeros_like(image).unsqueeze(1) for _ in range(3))
        total = 0
        for mask, x in zip(masks, levels, strict=True):
            height, width = torch.where(mask, x.shape[2], height), torch.where(mask, x.shape[3], width)
            first = torch.where(mask, total, first)
            total = total + x.shape[2] * x.shape[3]
        scale = rois.new_tensor([1 / stride for stride in strides])[which][:, None]
        cx, cy = (rois[:, 0:1] * scale - 0.5), (rois[:, 1:2] * scale - 0.5)
        w, h, angle = rois[:, 2:3] * scale, rois[:, 3:4] * scale, rois[:, 4:5]
        cos, sin = angle.cos(), -angle.sin() if how["clockwise"] else angle.sin()
        samples = (how["sample_num"],) * 2
        unit_y, unit_x = unit_samples((how["out_size"],) * 2, samples, rois)
        y, x = cy + h * cos * unit_y - w * sin * unit_x, cx + h * sin * unit_y + w * cos * unit_x
        index, weight = cross(clamped_corners(y, height), clamped_corners(x, width), width)
        index = index + (first + image.unsqueeze(1) * total)[..., None]
        rows = torch.cat([x.flatten(2) for x in levels], 2).transpose(1, 2).flatten(0, 1)
        taps, bins = 4 * samples[0] ** 2, how["out_size"] ** 2
        sums = functional.embedding_bag(
            index.reshape(-1, taps), rows, mode="sum", per_sample_weights=weight.reshape(-1, taps) / samples[0] ** 2
        )
        return sums.reshape(-1, bins * rows.shape[1])

    def classify(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores (r, num_classes) and offsets (r, 5)."""
        x = pooled
        for layer in self.head.shared_fcs:
            layer = cast(nn.Linear, layer)
            x = torch.relu(functional.linear(x, layer.weight, layer.bias))
        return self.head.fc_cls(x).softmax(1)[:, :-1], self.head.fc_reg(x)


def _upright_nms(ends: Tensor, threshold: float) -> Tensor:
    """Which of ranked upright boxes (B, k, 4) are kept: (B, k)."""
    x1, y1, x2, y2 = ends.unbind(-1)
    area = (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)
    width = torch.minimum(x2[:, :, None], x2[:, None]) - torch.maximum(x1[:, :, None], x1[:, None])
    height = torch.minimum(y2[:, :, None], y2[:, None]) - torch.maximum(y1[:, :, None], y1[:, None])
    shared = width.clamp(min=0) * height.clamp(min=0)
    close = (shared > threshold * (area[:, :, None] + area[:, None] - shared)).triu(1)
    image, better, worse = close.nonzero().unbind(1)
    count = area.shape[1]
    keep = _fixed_point(area.flatten(), image * count + better, image * count + worse)
    return keep.view(area.shape)


def _rotated_nms(boxes: Tensor, group: Tensor, threshold: float) -> Tensor:
    """Which of ranked rotated boxes (n, 5) are kept, (n,); only boxes of one group suppress each other."""
    ends, reach = bounds(boxes), reach_of(threshold)
    x1, y1 = ends[:, 0], ends[:, 1]
    x2, y2 = x1 + (ends[:, 2] - x1) * reach, y1 + (ends[:, 3] - y1) * reach
    # group by group and by their left ends: the partners of a box are the run of boxes that start within its width
    low, high = (group.double() * _FAR + x.double() for x in (x1, x2))
    order = low.argsort()
    stop = torch.searchsorted(low[order], high[order], right=True)
    begin = torch.arange(1, order.shape[0] + 1, device=order.device)
    many = (stop - begin).clamp(min=0)
    owner = torch.repeat_interleave(torch.arange(order.shape[0], device=order.device), many)
    rank = torch.arange(owner.shape[0], device=order.device) - (many.cumsum(0) - many)[owner]
    one, two = order[owner], order[owner + 1 + rank]
    meet = ((y1[one] <= y2[two]) & (y1[two] <= y2[one])).nonzero().squeeze(1)
    better, worse = torch.minimum(one, two)[meet], torch.maximum(one, two)[meet]
    close = paired_iou_at_once(_rectangles(boxes[better]), _rectangles(boxes[worse])) > threshold
    chosen = close.nonzero().squeeze(1)
    return _fixed_point(x1, better[chosen], worse[chosen])


def _rectangles(boxes: Tensor) -> Rectangles:
    cx, cy, w, h, angle = boxes.double().unbind(1)
    return Rectangles(cx, cy, w, h, angle.cos(), angle.sin())


def _fixed_point(like: Tensor, better: Tensor, worse: Tensor) -> Tensor:
    """Which boxes (n,) have no better box that is kept among the pairs (k,), (k,) of those that are too close."""

    def going(changed: Tensor, keep: Tensor, better: Tensor, worse: Tensor) -> Tensor:
        return changed.clone()

    def turn(changed: Tensor, keep: Tensor, better: Tensor, worse: Tensor) -> tuple[Tensor, ...]:
        lost = torch.zeros_like(keep, dtype=torch.int32).index_add(0, worse, keep[better].to(torch.int32))
        after = lost == 0
        return (after != keep).any(), after, better.clone(), worse.clone()

    start = torch.ones((), dtype=torch.bool, device=like.device), torch.ones_like(like, dtype=torch.bool)
    loop: Callable[..., tuple[Tensor, ...]] = while_loop
    return loop(going, turn, (*start, better, worse))[1]


def coarsest_stride(config: Mapping[str, Any], model: nn.Module) -> int:
    """Image pixels to a pixel of the smallest map in the backbone or in the pyramid that a head reads."""
    head = config.get("rpn_head") or config.get("fam_head") or config["bbox_head"]
    last = int((head.get("strides") or head["anchor_generator"]["strides"])[-1])
    return max(last, *(part.coarsest_stride for part in model.modules() if isinstance(part, Pyramid)))


def export_program(checkpoint: Checkpoint, options: ExportOptions) -> tuple[ExportedProgram, int]:
    """The program of a detector, and the shortest side it takes: every map has two pixels at least.

    Sizes are dynamic unless ``options.size`` fixes them.
    """
    config, detector = network_config(checkpoint.card), stock_detector(checkpoint.card)
    with torch.no_grad():
        model: Program
        if detector == "oriented-rcnn":
            model = OrientedProgram(OrientedRCNN(config, checkpoint.state, device="cpu"), options)
        else:
            from legnet_cli.detectors.export.heads import ONE_STAGE  # these are mmrotate's

            model = OneStageProgram(config, ONE_STAGE[detector](config, checkpoint.state, torch.float32), options)
        model.eval()
        height, width = options.size or (256, 320)
        images = torch.zeros(1 if options.size else 2, height, width, 3, dtype=torch.uint8)
        least = coarsest_stride(config, model) + 1
        # bounded: PyTorch 2.15 refuses a second program in one process if the product of all sizes might overflow
        sizes = {0: Dim("batch", max=1 << 16), 1: Dim("height", min=least), 2: Dim("width", min=least)}
        # what the tracer cannot prove of sides that are multiples of 32 is checked when the program runs
        program = torch.export.export(
            model,
            (images,),
            dynamic_shapes=None if options.size else (sizes,),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        return program, least
