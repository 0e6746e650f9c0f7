"""The convolutions of mmrotate's detectors in a form that PyTorch exports, those between two rounds of boxes included.

One-stage detectors end in one box a pixel: the outputs are, for each pyramid level, ``scores`` (B, N, classes), 0 to
1, and ``boxes`` (B, N, 5) ``cx, cy, w, h, angle`` in the detector's own convention, N pixels line by line.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from legnet_cli.detectors.export.dense import Dense, level_names
from legnet_cli.detectors.fast.fold import fold_norms, regroup, scale_input, set_conv
from legnet_cli.detectors.fast.modules import read_channels_last
from legnet_cli.detectors.mmrotate.build import build_mmrotate
from legnet_cli.detectors.weights.recipes import STD
from legnet_cli.detectors.weights.tensors import State, check_state


class MMDense(Dense):
    """Backbone and neck of one of mmrotate's detectors; what a subclass adds runs in float32.

    Args:
        config: mmrotate model dict.
        state: all its weights.
        dtype: of backbone and neck.
        outputs: kinds of outputs there are on each level.
    """

    def __init__(self, config: dict[str, Any], state: State, dtype: torch.dtype, *outputs: str) -> None:
        super().__init__()
        model = load_mmrotate(config, state)
        self.model, self.dtype = model, dtype
        fold_norms(model.backbone)
        regroup(model.backbone)
        scale_input(model.backbone, 1 / torch.tensor(STD, dtype=torch.float64))
        self._make_exportable()
        for part in (model.backbone, model.neck):
            part.to(dtype)
        self.names = [name for kind in level_names(model.neck.num_outs, *outputs) for name in kind]
        self.precise = set(self.names)

    def kinds(self) -> dict[str, str]:
        """As of :class:`Dense`."""
        return dict.fromkeys(self.names, "f")

    def levels(self, x: Tensor) -> list[Tensor]:
        """The pyramid."""
        return [level.float() for level in self.model.neck(self.model.backbone(x))]


class ProposalDense(MMDense):
    """Rotated Faster R-CNN or RoI Transformer up to the proposal network, which gives four offsets for each anchor."""

    def __init__(self, config: dict[str, Any], state: State, dtype: torch.dtype) -> None:
        super().__init__(config, state, dtype, "level", "logits", "offsets")
        self.precise = {name for name in self.names if not name.startswith("level")}

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See :class:`Dense`."""
        levels = self.levels(x)
        outputs = [self.model.rpn_head.forward_single(level) for level in levels]
        return (*levels, *(logits for logits, _ in outputs), *(offsets for _, offsets in outputs))

    def box_heads(self) -> list[Any]:
        """The head of each round; after rotated pooling it reads (bins, channels), as that is done here."""
        heads = self.model.roi_head.bbox_head
        heads = list(heads) if isinstance(heads, nn.ModuleList) else [heads]
        for head in heads[1:]:
            read_channels_last(head.shared_fcs[0], head.in_channels)
        return heads


def load_mmrotate(config: dict[str, Any], state: State) -> Any:  # noqa: ANN401
    """mmrotate's detector with its weights."""
    model = build_mmrotate(config)
    check_state(state, model.state_dict(), str(config["type"]))
    model.load_state_dict(state, strict=False)
    return model.eval().requires_grad_(False)


class OneStageDense(MMDense):
    """As described in the module.

    Attributes:
        outputs: kinds of outputs on each level.
        clip_centres: whether boxes end inside the image.
        classes: how many there are.
    """

    outputs: tuple[str, ...] = ("scores", "boxes")
    clip_centres = True
    classes: int

    def __init__(self, config: dict[str, Any], state: State, dtype: torch.dtype) -> None:
        super().__init__(config, state, dtype, *self.outputs)


class FCOSDense(OneStageDense):
    """Rotated FCOS; has ``factor`` (B, N) too, what scores are multiplied by after the threshold."""

    outputs = ("scores", "boxes", "factor")
    clip_centres = False

    def __init__(self, config: dict[str, Any], state: State, dtype: torch.dtype) -> None:
        super().__init__(config, state, dtype)
        self.classes = self.model.bbox_head.num_classes

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        head = self.model.bbox_head
        scores, boxes, factors = [], [], []
        for level, scale, stride in zip(self.levels(x), head.scales, head.strides, strict=True):
            logits, sides, angle, factor = head.forward_single(level, scale, stride)
            centre = pixel_grid(level, stride, 0.5)
            scores.append(as_rows(logits.sigmoid()))
            boxes.append(_from_sides(centre.flatten(0, 1), as_rows(sides), as_rows(angle)[..., 0]))
            factors.append(as_rows(factor.sigmoid())[..., 0])
        return (*scores, *boxes, *factors)


def _from_sides(centre: Tensor, sides: Tensor, angle: Tensor) -> Tensor:
    """Boxes (B, N, 5) around points (N, 2) at distances (B, N, 4) from their left, top, right and bottom side."""
    left, top, right, bottom = sides.unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    dx, dy = (right - left) / 2, (bottom - top) / 2
    x, y = centre.unbind(-1)
    return torch.stack([x + cos * dx - sin * dy, y + sin * dx + cos * dy, left + right, top + bottom, angle], -1)


class S2ANetDense(OneStageDense):
    """S²ANet: a box for each pixel, a convolution turned with it, and a better box."""

    def __init__(self, config: dict[str, Any], state: State, dtype: torch.dtype) -> None:
        super().__init__(config, state, dtype)
        odm = self.model.odm_head
        self.classes = odm.num_classes
        turned = nn.Conv2d(odm.or_conv.in_channels, len(odm.or_conv.bias), 3, padding=1)
        set_conv(turned, odm.or_conv.rotate_arf(), odm.or_conv.bias)
        odm.or_conv = turned
        first = self.model.fam_head
        self.anchors = [anchors.float() for anchors in first.anchor_generator.base_anchors]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        first, last = self.model.fam_head, self.model.odm_head
        scores, boxes = [], []
        for level, sizes, conv in zip(self.levels(x), self.anchors, self.model.align_conv.ac, strict=True):
            _, offsets = first.forward_single(level)
            found = decode(first, anchor_grid(level, sizes, conv.stride)[:, :, 0].flatten(0, 1), as_rows(offsets))
            logits, offsets = last.forward_single(_align_conv(conv, level, found))
            scores.append(as_rows(logits.sigmoid()))
            boxes.append(decode(last, found, as_rows(offsets)))
        return (*scores, *boxes)


def _align_conv(conv: Any, level: Tensor, boxes: Tensor) -> Tensor:  # noqa: ANN401
    """A convolution (B, C, H, W) whose taps are spread over the boxes (B, H * W, 5) of its pixels."""
    batch, _, height, width = level.shape
    side = conv.kernel_size
    steps = torch.arange(side).sub(side // 2).float()
    down, across = steps.repeat_interleave(side), steps.repeat(side)
    cx, cy, w, h, angle = (boxes.reshape(batch, 1, height, width, 5)[..., i] for i in range(5))
    dx = (w / (conv.stride * side)) * across.view(1, -1, 1, 1)
    dy = (h / (conv.stride * side)) * down.view(1, -1, 1, 1)
    cos, sin = angle.cos(), angle.sin()
    px, py = cx / conv.stride + cos * dx - sin * dy, cy / conv.stride + sin * dx + cos * dy
    taps = sample(level, px.flatten(1, 2), py.flatten(1, 2), "zeros").reshape(batch, -1, height, width)
    return torch.relu(functional.conv2d(taps, conv.deform_conv.weight.flatten(1)[:, :, None, None]))


class R3DetDense(OneStageDense):
    """R³Det: the best box of each pixel, features fetched from its centre, and a better box, as often as configured."""

    def __init__(self, config: dict[str, Any], state: State, dtype: torch.dtype) -> None:
        super().__init__(config, state, dtype)
        self.classes = self.model.refine_head[-1].num_classes
        self.anchors = [anchors.float() for anchors in self.model.bbox_head.anchor_generator.base_anchors]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        outputs = []
        heads = self.model.refine_head
        for number, (level, sizes) in enumerate(zip(self.levels(x), self.anchors, strict=True)):
            found = self._best(level, sizes, number)
            for refine, head in zip(self.model.feat_refine_module, heads, strict=True):
                moved = refine.conv_5_1(refine.conv_1_5(level)) + refine.conv_1_1(level)
                stride = refine.featmap_strides[number]
                logits, offsets = head.forward_single(level + _at_centres(moved, found / stride))
                found = decode(head, found, as_rows(offsets))
            outputs.append((as_rows(logits.sigmoid()), found))
        return (*(scores for scores, _ in outputs), *(boxes for _, boxes in outputs))

    def _best(self, level: Tensor, sizes: Tensor, number: int) -> Tensor:
        """The box (B, N, 5) of each pixel's best anchor."""
        head = self.model.bbox_head
        logits, offsets = (as_rows(t) for t in head.forward_single(level))
        batch, pixels, count = logits.shape[0], logits.shape[1], len(sizes)
        best = logits.view(batch, pixels, count, -1).amax(-1).argmax(-1)[..., None, None].expand(-1, -1, 1, 5)
        offsets = offsets.view(batch, pixels, count, 5).gather(2, best)[:, :, 0]
        anchors = anchor_grid(level, sizes, head.anchor_generator.strides[number][0]).flatten(0, 1)
        anchors = anchors.expand(batch, -1, -1, -1).gather(2, best)[:, :, 0]
        return decode(head, anchors, offsets)


def _at_centres(features: Tensor, boxes: Tensor) -> Tensor:
    """Features (B, C, H, W) plus what they are at the centres of boxes (B, H * W, 5) in their pixels.

    As in ``ops.feature_align``: x is taken along the height and y along the width.
    """
    height, width = features.shape[2:]
    y, x = (boxes[..., i].view(-1, height, width) for i in (0, 1))
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    return features + sample(features, x, y, "border") * inside.unsqueeze(1)


def sample(features: Tensor, x: Tensor, y: Tensor, outside: str) -> Tensor:
    """Bilinear samples (B, C, h, w) of (B, C, H, W) at positions (B, h, w), pixel centres at whole numbers."""
    height, width = features.shape[2:]
    grid = torch.stack([(x * 2 + 1) / width - 1, (y * 2 + 1) / height - 1], -1)
    return functional.grid_sample(features, grid, padding_mode=outside, align_corners=False)


def as_rows(maps: Tensor) -> Tensor:
    """(B, K, H, W) as (B, H * W, K)."""
    return maps.flatten(2).transpose(1, 2)


def pixel_grid(level: Tensor, stride: float, shift: float = 0.0) -> Tensor:
    """Image positions x, y (H, W, 2) of the pixels of a map."""
    height, width = level.shape[2:]
    x, y = ((torch.arange(n, dtype=level.dtype, device=level.device) + shift) * float(stride) for n in (width, height))
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1)


def anchor_grid(level: Tensor, sizes: Tensor, stride: float) -> Tensor:
    """Anchors (H, W, A, 5) of a map: upright boxes (A, 4) ``x1, y1, x2, y2`` at each of its pixels."""
    centre, size = (sizes[:, :2] + sizes[:, 2:]) / 2, sizes[:, 2:] - sizes[:, :2]
    centre = pixel_grid(level, stride)[:, :, None] + centre
    size = torch.cat([size, torch.zeros_like(size[:, :1])], 1)
    return torch.cat([centre, size.expand(*centre.shape[:3], 3)], -1)


def decode(head: Any, anchors: Tensor, offsets: Tensor) -> Tensor:  # noqa: ANN401
    """Boxes (B, N, 5) by a head's own coder, from anchors (N, 5) or (B, N, 5) and offsets (B, N, 5)."""
    anchors = anchors.expand_as(offsets)
    boxes: Tensor = head.bbox_coder.decode(anchors.reshape(-1, 5), offsets.reshape(-1, 5))
    return boxes.view_as(offsets)


ONE_STAGE: dict[str | None, type[OneStageDense]] = {
    "rotated-fcos": FCOSDense,
    "s2anet": S2ANetDense,
    "r3det": R3DetDense,
}
