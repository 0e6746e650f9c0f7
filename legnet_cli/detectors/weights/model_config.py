"""mmrotate's model dicts of the recipes, as plain data: no mmrotate is needed to know them.

The values are those of mmrotate 0.3.4's stock configs (``recipes.DETECTORS`` names them), but for the backbone, the
widths that go with it, the anchor and the number of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from legnet_cli.detectors.weights.recipes import Backbone, Recipe

Config = dict[str, Any]


def model_config(recipe: Recipe, num_classes: int) -> Config:
    """The model dict of ``recipe``'s detector on its backbone, for ``num_classes``: new at each call."""
    size = recipe.backbone
    model = _DETECTORS[recipe.detector](size, num_classes)
    neck = {"type": "FPN", "in_channels": [size.stem_dim * 2**i for i in range(4)], "out_channels": size.neck}
    return {
        **model,
        "backbone": {"type": size.kind, "stem_dim": size.stem_dim},
        "neck": {**neck, "num_outs": 5, **model.get("neck", {})},
    }


# --- losses, coders, assigners, limits -----------------------------------------------------------------------------


def _cross_entropy(sigmoid: bool) -> Config:
    return {"type": "CrossEntropyLoss", "use_sigmoid": sigmoid, "loss_weight": 1.0}


def _smooth_l1(beta: float) -> Config:
    return {"type": "SmoothL1Loss", "beta": beta, "loss_weight": 1.0}


def _focal() -> Config:
    return {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0}


def _coder(name: str, stds: Sequence[float], **values: object) -> Config:
    return {"type": name, **values, "target_means": [0.0] * len(stds), "target_stds": list(stds)}


def _assigner(positive: float, negative: float, least: float, **values: object) -> Config:
    thresholds = {"pos_iou_thr": positive, "neg_iou_thr": negative, "min_pos_iou": least, "ignore_iof_thr": -1}
    return {"type": "MaxIoUAssigner", **thresholds, **values}


def _sampler(name: str, number: int, positive: float, *, truth: bool) -> Config:
    shares = {"num": number, "pos_fraction": positive, "neg_pos_ub": -1}
    return {"type": name, **shares, "add_gt_as_proposals": truth}


def _limits(nms: Config) -> Config:
    """Of the boxes that a detector gives."""
    return {"nms_pre": 2000, "min_bbox_size": 0, "score_thr": 0.05, "nms": nms, "max_per_img": 2000}


# --- detectors with proposals --------------------------------------------------------------------------------------


def _rpn(name: str, coder: Config, size: Backbone) -> Config:
    anchors = {"scales": [size.anchor], "ratios": [0.5, 1.0, 2.0], "strides": [4, 8, 16, 32, 64]}
    return {
        "type": name,
        "in_channels": size.neck,
        "feat_channels": size.neck,
        "version": "le90",
        "anchor_generator": {"type": "AnchorGenerator", **anchors},
        "bbox_coder": coder,
        "loss_cls": _cross_entropy(True),
        "loss_bbox": _smooth_l1(1 / 9),
    }


def _upright_rpn(size: Backbone) -> Config:
    return _rpn("RotatedRPNHead", _coder("DeltaXYWHBBoxCoder", [1.0] * 4), size)


def _pooling(size: Backbone, *, rotated: bool) -> Config:
    upright = {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0}
    turned = {"type": "RoIAlignRotated", "out_size": 7, "sample_num": 2, "clockwise": True}
    return {
        "type": "RotatedSingleRoIExtractor" if rotated else "SingleRoIExtractor",
        "roi_layer": turned if rotated else upright,
        "out_channels": size.neck,
        "featmap_strides": [4, 8, 16, 32],
    }


def _from_rotated(*stds: float) -> Config:
    values = {"angle_range": "le90", "norm_factor": None, "edge_swap": True, "proj_xy": True}
    return _coder("DeltaXYWHAOBBoxCoder", stds, **values)


def _from_upright(*stds: float) -> Config:
    return _coder("DeltaXYWHAHBBoxCoder", stds, angle_range="le90", norm_factor=2, edge_swap=True)


def _box_head(coder: Config, size: Backbone, classes: int, *, agnostic: bool = True) -> Config:
    return {
        "type": "RotatedShared2FCBBoxHead",
        "in_channels": size.neck,
        "fc_out_channels": size.fc,
        "roi_feat_size": 7,
        "num_classes": classes,
        "bbox_coder": coder,
        "reg_class_agnostic": agnostic,
        "loss_cls": _cross_entropy(False),
        "loss_bbox": _smooth_l1(1.0),
    }


def _round(sampler: str, **iou: object) -> Config:
    """How a round of box features is trained; ``iou`` may name what computes that of boxes and objects."""
    return {
        "assigner": _assigner(0.5, 0.5, 0.5, match_low_quality=False, **iou),
        "sampler": _sampler(sampler, 512, 0.25, truth=True),
        "pos_weight": -1,
        "debug": False,
    }


def _rotated_round() -> Config:
    return _round("RRandomSampler", iou_calculator={"type": "RBboxOverlaps2D"})


def _two_stage(rounds: Config | list[Config], rpn_iou: float, nms: Config) -> Config:
    """Settings of training and test."""

    def proposals() -> Config:
        limits = {"nms_pre": 2000, "max_per_img": 2000, "min_bbox_size": 0}
        return {**limits, "nms": {"type": "nms", "iou_threshold": rpn_iou}}

    rpn = {
        "assigner": _assigner(0.7, 0.3, 0.3, match_low_quality=True),
        "sampler": _sampler("RandomSampler", 256, 0.5, truth=False),
        "allowed_border": 0,
        "pos_weight": -1,
        "debug": False,
    }
    return {
        "train_cfg": {"rpn": rpn, "rpn_proposal": proposals(), "rcnn": rounds},
        "test_cfg": {"rpn": proposals(), "rcnn": _limits(nms)},
    }


def _oriented_rcnn(size: Backbone, classes: int) -> Config:
    coder = _coder("MidpointOffsetCoder", [1.0, 1.0, 1.0, 1.0, 0.5, 0.5], angle_range="le90")
    return {
        "type": "OrientedRCNN",
        "rpn_head": _rpn("OrientedRPNHead", coder, size),
        "roi_head": {
            "type": "OrientedStandardRoIHead",
            "bbox_roi_extractor": _pooling(size, rotated=True),
            "bbox_head": _box_head(_from_rotated(0.1, 0.1, 0.2, 0.2, 0.1), size, classes),
        },
        **_two_stage(_rotated_round(), 0.8, {"iou_thr": 0.1}),
    }


def _rotated_faster_rcnn(size: Backbone, classes: int) -> Config:
    return {
        "type": "RotatedFasterRCNN",
        "rpn_head": _upright_rpn(size),
        "roi_head": {
            "type": "RotatedStandardRoIHead",
            "version": "le90",
            "bbox_roi_extractor": _pooling(size, rotated=False),
            "bbox_head": _box_head(_from_upright(0.1, 0.1, 0.2, 0.2, 0.1), size, classes),
        },
        **_two_stage(_round("RandomSampler"), 0.7, {"iou_thr": 0.1}),
    }


def _roi_transformer(size: Backbone, classes: int) -> Config:
    first = _box_head(_from_upright(0.1, 0.1, 0.2, 0.2, 1), size, classes)
    second = _box_head(_from_rotated(0.05, 0.05, 0.1, 0.1, 0.5), size, classes, agnostic=False)
    rounds = [_round("RandomSampler", iou_calculator={"type": "BboxOverlaps2D"}), _rotated_round()]
    return {
        "type": "RoITransformer",
        "rpn_head": _upright_rpn(size),
        "roi_head": {
            "type": "RoITransRoIHead",
            "version": "le90",
            "num_stages": 2,
            "stage_loss_weights": [1, 1],
            "bbox_roi_extractor": [_pooling(size, rotated=False), _pooling(size, rotated=True)],
            "bbox_head": [first, second],
        },
        **_two_stage(rounds, 0.7, {"type": "le90", "iou_thr": 0.1}),
    }


# --- detectors with one box a pixel --------------------------------------------------------------------------------


def _strides() -> list[int]:
    return [8, 16, 32, 64, 128]


def _pixel_head(name: str, size: Backbone, classes: int, layers: int) -> Config:
    channels = {"in_channels": size.neck, "feat_channels": size.neck}
    return {"type": name, "num_classes": classes, **channels, "stacked_convs": layers, "loss_cls": _focal()}


def _retina_head(name: str, size: Backbone, classes: int, layers: int, *, coder: Config, anchors: Config) -> Config:
    head = _pixel_head(name, size, classes, layers)
    anchors = {**anchors, "strides": _strides()}
    return {**head, "anchor_generator": anchors, "bbox_coder": coder, "loss_bbox": _smooth_l1(0.11)}


def _pixel_training(positive: float, negative: float) -> Config:
    iou = {"type": "RBboxOverlaps2D"}
    assigner = _assigner(positive, negative, 0, iou_calculator=iou)
    return {"assigner": assigner, "allowed_border": -1, "pos_weight": -1, "debug": False}


def _rotated_fcos(size: Backbone, classes: int) -> Config:
    head = {
        **_pixel_head("RotatedFCOSHead", size, classes, 4),
        "strides": _strides(),
        "center_sampling": True,
        "center_sample_radius": 1.5,
        "norm_on_bbox": True,
        "centerness_on_reg": True,
        "separate_angle": False,
        "scale_angle": True,
        "bbox_coder": {"type": "DistanceAnglePointCoder", "angle_version": "le90"},
        "loss_bbox": {"type": "RotatedIoULoss", "loss_weight": 1.0},
        "loss_centerness": _cross_entropy(True),
    }
    return {
        "type": "RotatedFCOS",
        "neck": {"start_level": 1, "add_extra_convs": "on_output", "relu_before_extra_convs": True},
        "bbox_head": head,
        "train_cfg": None,
        "test_cfg": _limits({"iou_thr": 0.1}),
    }


def _s2anet(size: Backbone, classes: int) -> Config:
    def head(name: str, **anchors: object) -> Config:
        values = {"angle_range": "le135", "norm_factor": 1, "edge_swap": False, "proj_xy": True}
        coder = _coder("DeltaXYWHAOBBoxCoder", [1.0] * 5, **values)
        return {**_retina_head(name, size, classes, 2, coder=coder, anchors=anchors), "assign_by_circumhbbox": None}

    return {
        "type": "S2ANet",
        "neck": {"start_level": 1, "add_extra_convs": "on_input"},
        "fam_head": head("RotatedRetinaHead", type="RotatedAnchorGenerator", scales=[4], ratios=[1.0]),
        "align_cfgs": {"type": "AlignConv", "kernel_size": 3, "channels": size.neck, "featmap_strides": _strides()},
        "odm_head": head("ODMRefineHead", type="PseudoAnchorGenerator"),
        "train_cfg": {"fam_cfg": _pixel_training(0.5, 0.4), "odm_cfg": _pixel_training(0.5, 0.4)},
        "test_cfg": _limits({"iou_thr": 0.1}),
    }


def _r3det(size: Backbone, classes: int) -> Config:
    def head(name: str, **anchors: object) -> Config:
        values = {"angle_range": "oc", "norm_factor": None, "edge_swap": False, "proj_xy": False}
        coder = _coder("DeltaXYWHAOBBoxCoder", [1.0] * 5, **values)
        return _retina_head(name, size, classes, 4, coder=coder, anchors=anchors)

    anchors = {"octave_base_scale": 4, "scales_per_octave": 3, "ratios": [1.0, 0.5, 2.0]}
    refine = head("RotatedRetinaRefineHead", type="PseudoAnchorGenerator")
    stages = {"s0": _pixel_training(0.5, 0.4), "sr": [_pixel_training(0.6, 0.5)], "stage_loss_weights": [1.0]}
    return {
        "type": "R3Det",
        "neck": {"start_level": 1, "add_extra_convs": "on_input"},
        "bbox_head": head("RotatedRetinaHead", type="RotatedAnchorGenerator", **anchors),
        "frm_cfgs": [{"in_channels": size.neck, "featmap_strides": _strides()}],
        "num_refine_stages": 1,
        "refine_heads": [{**refine, "assign_by_circumhbbox": None}],
        "train_cfg": stages,
        "test_cfg": _limits({"iou_thr": 0.1}),
    }


_DETECTORS = {
    "oriented-rcnn": _oriented_rcnn,
    "roi-transformer": _roi_transformer,
    "rotated-faster-rcnn": _rotated_faster_rcnn,
    "rotated-fcos": _rotated_fcos,
    "s2anet": _s2anet,
    "r3det": _r3det,
}
