"""Oriented R-CNN for inference: mmrotate's boxes from mmrotate's weights, without mmrotate, several times faster.

Batch norms are folded into convolutions and linear neighbours merged, everything runs channels-last, box features
are sums of weighted rows, and nothing loops over classes. Boxes are float32 at any precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from legnet_cli.backbones._layers import Pyramid
from legnet_cli.backbones.legnet import ConvExtra, LEGNet
from legnet_cli.backbones.unravelnet import UnravelNet
from legnet_cli.boxes import Detections
from legnet_cli.detectors.fast.decoding import (
    anchor_boxes,
    bounds,
    decode_box_offsets,
    decode_midpoint_offsets,
    pyramid_level,
    scale_offsets,
)
from legnet_cli.detectors.fast.fold import fold_before, fold_norms, regroup, scale_input
from legnet_cli.detectors.fast.kernels import DIRECT, Layer, choice_to_text, kernels_of, make_kernel
from legnet_cli.detectors.fast.modules import FPN, BoxHead, MergedLevel, RoIHead, RPNHead, named_layers
from legnet_cli.detectors.fast.strips import Strips
from legnet_cli.detectors.stages import StageObserver, observed_modules, unobserved
from legnet_cli.detectors.weights.recipes import MEAN, STD, STRIDE
from legnet_cli.detectors.weights.tensors import check_state
from legnet_cli.ops.nms import nms, nms_rotated
from legnet_cli.ops.roi_align import roi_align_rotated

_BACKBONES: dict[str, Callable[..., Pyramid]] = {"LEGNet": LEGNet, "UnravelNet": UnravelNet}
# boxes whose features are worked on at a time: on a CPU what the cache holds
CPU_BOXES, _DEVICE_BOXES = 512, 1 << 15


class OrientedLayers(nn.Module):
    """The layers of Oriented R-CNN on a LEGNet or UnravelNet backbone, under mmrotate's names, untrained.

    Args:
        model_cfg: mmrotate model dict, as ``model_config`` gives it.
    """

    def __init__(self, model_cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.cfg = model_cfg
        backbone, neck = dict(model_cfg["backbone"]), model_cfg["neck"]
        rpn, box = model_cfg["rpn_head"], model_cfg["roi_head"]["bbox_head"]
        grid = rpn["anchor_generator"]
        anchors = len(grid["scales"]) * len(grid["ratios"])
        inputs = box["in_channels"] * box["roi_feat_size"] ** 2
        self.backbone = _BACKBONES[backbone.pop("type")](**backbone)
        self.neck = FPN(neck["in_channels"], neck["out_channels"], neck["num_outs"])
        self.rpn_head = RPNHead(rpn["in_channels"], rpn["feat_channels"], anchors)
        self.roi_head = RoIHead(BoxHead(inputs, box["fc_out_channels"], box["num_classes"]))


class OrientedRCNN(OrientedLayers):
    """Oriented R-CNN ready to search.

    Args:
        model_cfg: mmrotate model dict, as ``model_config`` gives it.
        state: all its weights, under mmrotate's names.
        device: where to run.
        dtype: of convolutions and linear layers.
        compile: compile the convolutions with ``torch.compile``.
        score_threshold: boxes score more than this.
        max_detections: most boxes per image.

    Raises:
        CheckpointError: if names or shapes of ``state`` do not fit ``model_cfg``.
    """

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        state: Mapping[str, Tensor],
        *,
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
        score_threshold: float = 0.05,
        max_detections: int = 2000,
    ) -> None:
        with torch.device("meta"):  # the weights come as they are: none are made only to be overwritten
            super().__init__(model_cfg)
        self._stage: StageObserver = unobserved
        self.score_threshold, self.max_detections = score_threshold, max_detections
        check_state(state, self.state_dict(), "Oriented R-CNN")
        self.load_state_dict({name: tensor.detach() for name, tensor in state.items()}, strict=False, assign=True)
        self.eval().requires_grad_(False)
        self._merge()
        self.dtype = dtype
        for part in (self.backbone, self.neck, self.rpn_head, self.roi_head.bbox_head.shared_fcs):
            part.to(self.dtype)
        self.to(device).to(memory_format=torch.channels_last)
        given = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.untyped_storage().data_ptr() in given:  # a mapped file, which would stay in memory whole
                tensor.data = tensor.data.clone()
        self.mean = torch.tensor(MEAN, device=device)
        unused = {f"neck.fpn_convs.{level}.conv" for level in self.neck.merged}
        several = {name: layer for name, layer in self.named_modules() if len(kernels_of(layer)) > 1}
        # as PyTorch's own layers, of those that may be computed otherwise
        self.choosable: dict[str, Layer] = {name: layer for name, layer in several.items() if name not in unused}
        self._choice: dict[str, str] = {}
        self.compiled = compile
        if compile:
            self.dense = torch.compile(self.dense)  # type: ignore[method-assign]

    def _merge(self) -> None:
        """Rewrite the loaded weights for speed; outputs stay the same up to rounding."""
        fold_norms(self.backbone)
        regroup(self.backbone)
        scale_input(self.backbone, 1 / torch.tensor(STD, dtype=torch.float64))
        for i, (lateral, _) in enumerate(self.neck.levels()):
            fold_before(self.backbone, f"norm{2 * i}", lateral)
        self.neck.merge_levels()
        self.rpn_head.merge_outputs()
        self.roi_head.bbox_head.read_channels_last(self.cfg["roi_head"]["bbox_head"]["in_channels"])

    def work_in_strips(self) -> None:
        """Compute wide maps strip by strip, with the same results: for a CPU, to take less memory."""
        self.rpn_head.in_strips = True
        for module in list(self.modules()):
            if isinstance(module, MergedLevel):
                module.in_strips = True
            elif isinstance(module, ConvExtra):
                module.block = Strips(*module.block)

    def use_kernels(self, choice: Mapping[str, str]) -> None:
        """Compute layers by the kernels of ``choice``, the others directly; outputs change by rounding alone."""
        for name, layer in self.choosable.items():
            if choice.get(name) != self._choice.get(name):
                self.set_submodule(name, make_kernel(layer, choice.get(name, DIRECT)))
        self._choice = dict(choice)

    @property
    def kernels(self) -> str:
        """The choice of kernels in use."""
        return choice_to_text(self._choice)

    @torch.inference_mode()
    def detect(self, images: Tensor) -> list[Detections]:
        """Detections in each of a batch of uint8 RGB images (B, H, W, 3) of any H, W, best first."""
        height, width = images.shape[1:3]
        with self._stage("normalise"):
            x = self.prepare(images)
        features, outputs = self.dense(x)
        del x  # what is not needed any more makes room for what follows
        with self._stage("rpn"):
            rois = self.propose(outputs)
        del outputs
        with self._stage("roi"):
            logits, offsets = self.classify(features, rois)
        with self._stage("nms"):
            found = self.select(rois, logits, offsets, len(images), height, width)
        return [
            Detections(boxes.double().cpu().numpy(), scores.float().cpu().numpy(), labels.long().cpu().numpy())
            for boxes, scores, labels in found
        ]

    @contextmanager
    def observed(self, observer: StageObserver) -> Iterator[None]:
        """Report the stages of :meth:`detect` to ``observer`` inside the ``with`` body."""
        modules = {"backbone": self.backbone, "neck": self.neck, "rpn": self.rpn_head}
        self._stage = observer
        try:
            with observed_modules(modules, observer):
                yield
        finally:
            self._stage = unobserved

    def layers(self) -> dict[str, nn.Module]:
        """Convolutions and linear layers by name."""
        return named_layers(self)

    def prepare(self, images: Tensor) -> Tensor:
        """Centred images (B, 3, H', W'), channels-last, padded with zeros to a multiple of 32 at right and bottom.

        Division by the deviation is part of the first convolution.
        """
        height, width = images.shape[1:3]
        x = (images.to(self.mean.device) - self.mean).to(self.dtype)
        return F.pad(x, (0, 0, 0, -width % STRIDE, 0, -height % STRIDE)).permute(0, 3, 1, 2)

    def dense(self, x: Tensor) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """All convolutions: (B, 3, H, W) to the pyramid, and logits and offsets of anchors on each of its levels."""
        features = self.neck(self.backbone(x))
        return features, [self.rpn_head(level) for level in features]

    def propose(self, outputs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Proposals (n, 6) ``image, cx, cy, w, h, angle`` from the region proposal network's ``outputs``."""
        grid, rules = self.cfg["rpn_head"]["anchor_generator"], self.cfg["test_cfg"]["rpn"]
        parts = []
        for level, (logits, offsets) in enumerate(outputs):
            width = logits.shape[3]
            logits = logits.permute(0, 2, 3, 1).flatten(1).float()
            offsets = offsets.permute(0, 2, 3, 1).reshape(len(logits), -1, 6)
            logits, index = logits.topk(min(rules["nms_pre"], logits.shape[1]))
            offsets = offsets.take_along_dim(index[..., None], 1).float()
            centre, size = anchor_boxes(index, width, grid["strides"][level], grid["scales"], grid["ratios"])
            parts.append((logits, centre, size, offsets, torch.full_like(index, level)))
        logits, centre, size, offsets, levels = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        coder = self.cfg["rpn_head"]["bbox_coder"]
        boxes = decode_midpoint_offsets(centre, size, scale_offsets(offsets, coder))
        image = torch.arange(len(boxes), device=boxes.device)[:, None].expand_as(levels)
        rois = torch.cat([image[..., None].to(boxes.dtype), boxes], -1).flatten(0, 1)
        fits = (rois[:, 3:5] >= rules["min_bbox_size"]).all(1).nonzero()[:, 0]
        group = (image * len(outputs) + levels).flatten()
        keep = fits[nms(bounds(rois[fits, 1:]), logits.flatten()[fits], rules["nms"]["iou_threshold"], group[fits])]
        return rois[torch.cat(_best(keep, image.flatten()[keep], len(boxes), rules["max_per_img"]))]

    def classify(self, features: Sequence[Tensor], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (n, num_classes + 1) and box offsets (n, 5), float32, of proposals (n, 6)."""
        pool = self.cfg["roi_head"]["bbox_roi_extractor"]
        strides, how = pool["featmap_strides"], pool["roi_layer"]
        bins = (how["out_size"], how["out_size"])
        levels = pyramid_level(rois[:, 1:], pool.get("finest_scale", 56), len(strides))
        # by level, then from top to bottom: neighbours share feature rows in the cache
        order = torch.argsort(levels * (1 << 20) + rois[:, 2])
        head = self.roi_head.bbox_head
        limit = CPU_BOXES if rois.device.type == "cpu" else _DEVICE_BOXES
        logits, offsets = rois.new_empty(len(rois), head.fc_cls.out_features), rois.new_empty(len(rois), 5)
        counts = torch.bincount(levels, minlength=len(strides)).tolist()
        for level, members in enumerate(torch.split(order, counts)):
            for part in torch.split(members, limit) if len(members) else ():
                scale, ratio = 1 / strides[level], how["sample_num"]
                x = roi_align_rotated(features[level], rois[part], bins, scale, ratio, clockwise=how["clockwise"])
                logits[part], offsets[part] = head(x.permute(0, 2, 3, 1).flatten(1))
        return logits, offsets

    def select(
        self, rois: Tensor, logits: Tensor, offsets: Tensor, images: int, height: int, width: int
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Final boxes of each image of ``height`` × ``width``: decoded, thresholded, then NMS class by class.

        Returns:
            Boxes (n, 5) float32 ``le90`` in pixels and radians, scores (n,) float32, labels (n,) int64; best first.
        """
        head = self.cfg["roi_head"]["bbox_head"]
        boxes = decode_box_offsets(rois[:, 1:], scale_offsets(offsets, head["bbox_coder"]), height, width)
        scores = logits.softmax(1)[:, :-1]
        roi, label = (scores > self.score_threshold).nonzero(as_tuple=True)
        boxes, scores, image = boxes[roi], scores[roi, label], rois[roi, 0].long()
        threshold = self.cfg["test_cfg"]["rcnn"]["nms"]["iou_thr"]
        keep = nms_rotated(boxes, scores, threshold, image * head["num_classes"] + label)
        parts = _best(keep, image[keep], images, self.max_detections)
        return [(boxes[part], scores[part], label[part]) for part in parts]


def _best(ranked: Tensor, image: Tensor, images: int, limit: int) -> list[Tensor]:
    """Of indices by falling score, the first ``limit`` of each image; ``image`` tells theirs."""
    return [ranked[image == i][:limit] for i in range(images)]
