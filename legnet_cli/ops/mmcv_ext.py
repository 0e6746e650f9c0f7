"""Stand-in for ``mmcv._ext``, the compiled module through which all of ``mmcv.ops`` reaches its kernels.

The functions keep mmcv 1.7's names, argument names and habit of filling tensors they are given. They work on every
device and need no compiler. Operators that no recipe uses exist, as mmcv checks for them when imported, but raise
:class:`~legnet_cli.errors.DependencyError` when called.
"""

# mmcv passes options by name, a dozen a call
# ruff: noqa: ANN401

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

from legnet_cli.errors import DependencyError
from legnet_cli.ops.deform_conv import ConvGeometry, deform_conv, deform_conv_grad_inputs, deform_conv_grad_weight
from legnet_cli.ops.diff_iou import sort_vertices
from legnet_cli.ops.feature_align import align_plan
from legnet_cli.ops.focal_loss import sigmoid_focal_loss, sigmoid_focal_loss_grad
from legnet_cli.ops.iou import rotated_iou
from legnet_cli.ops.nms import nms, nms_rotated
from legnet_cli.ops.roi_align import RoiPlan, first_rows, rotated_plan, upright_plan
from legnet_cli.ops.sampling import feature_rows, rows_to_features

NAME = "mmcv._ext"
SWITCH = "LEGNET_OPS"
"""Environment variable: ``mmcv`` asks for mmcv's compiled operators."""


def install() -> None:
    """Make ``mmcv._ext`` this stand-in, or leave mmcv's own where ``LEGNET_OPS=mmcv`` asks for it.

    Call before ``mmcv.ops`` is first imported.

    Raises:
        DependencyError: if compiled operators are asked for and not there.
    """
    if os.environ.get(SWITCH) != "mmcv":
        sys.modules[NAME] = MODULE
    elif not _compiled():
        raise DependencyError(f"{SWITCH}=mmcv asks for compiled operators, which this mmcv lacks: unset {SWITCH}")


def backend() -> str:
    """Which operators are in use: ``torch``, this module, or ``mmcv``, compiled."""
    return "mmcv" if os.environ.get(SWITCH) == "mmcv" else "torch"


def _compiled() -> bool:
    mmcv = find_spec("mmcv")  # does not import it
    return mmcv is not None and PathFinder.find_spec(NAME, mmcv.submodule_search_locations) is not None


class RefusingModule(ModuleType):
    """A module in which every name not defined is a function that raises DependencyError with a message.

    Args:
        name: of the module.
        message: of the error; ``{name}`` stands for the function called.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(name)
        self._message = message
        self.__spec__ = ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: object, **__: object) -> NoReturn:
            raise DependencyError(self._message.format(name=name))

        return missing


MODULE = RefusingModule(NAME, "mmcv operator {name} has no substitute here: install mmcv-full with compiled operators")


def _operator(function: Callable[..., Any]) -> Callable[..., Any]:
    """Publish ``_name`` as ``name``; mmcv's autograd functions call it, so it records no gradients itself."""
    setattr(MODULE, function.__name__[1:], torch.no_grad()(function))
    return function


# --- boxes ---------------------------------------------------------------------------------------------------------


@_operator
def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    return nms(boxes, scores, iou_threshold, offset=offset)


@_operator
def _nms_rotated(
    dets: Tensor, scores: Tensor, order: Tensor, dets_sorted: Tensor, labels: Tensor, iou_threshold: float, multi: bool
) -> Tensor:
    return nms_rotated(dets[:, :5], scores, iou_threshold, labels if multi else None)


@_operator
def _nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    rest = dets[:, 4].argsort(descending=True, stable=True)
    groups: list[list[int]] = []
    while len(rest):
        boxes = dets[rest, :4]
        close = _upright_iou(boxes[0], boxes, 0) >= iou_threshold
        close[0] = True
        groups.append(rest[close].tolist())
        rest = rest[~close]
    return groups


@_operator
def _softnms(boxes: Tensor, scores: Tensor, dets: Tensor, **options: Any) -> Tensor:
    rest, scores = torch.arange(len(boxes), device=boxes.device), scores.clone()
    kept = rest[:0]
    while len(rest):
        best = rest[scores[rest].argmax()]
        dets[len(kept)] = torch.cat([boxes[best], scores[best, None]])
        kept = torch.cat([kept, best[None]])
        rest = rest[rest != best]
        iou = _upright_iou(boxes[best], boxes[rest], options["offset"])
        far = iou < options["iou_threshold"]
        factors = (far.float(), torch.where(far, 1.0, 1 - iou), torch.exp(-(iou**2) / options["sigma"]))
        scores[rest] *= factors[options["method"]]
        rest = rest[scores[rest] >= options["min_score"]]
    return kept


@_operator
def _box_iou_rotated(boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    # rows may carry scores, which the compiled operator passes over
    one, two = boxes1[:, :5], boxes2[:, :5]
    ious.copy_(rotated_iou(one, two, aligned=aligned, mode="iof" if mode_flag else "iou").view_as(ious))


@_operator
def _bbox_overlaps(boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    shared, area1, area2 = _upright_areas(boxes1 if aligned else boxes1[:, None], boxes2, offset)
    ious.copy_(shared / (area1 if mode else area1 + area2 - shared))


def _upright_areas(a: Tensor, b: Tensor, offset: int) -> tuple[Tensor, Tensor, Tensor]:
    """Shared area of upright boxes that broadcast, and the area of each."""
    size = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2]) + offset
    area_a, area_b = ((box[..., 2:] - box[..., :2] + offset).prod(-1) for box in (a, b))
    return size.clamp(min=0).prod(-1), area_a, area_b


def _upright_iou(a: Tensor, b: Tensor, offset: int) -> Tensor:
    shared, area_a, area_b = _upright_areas(a, b, offset)
    return shared / (area_a + area_b - shared)


@_operator
def _diff_iou_rotated_sort_vertices_forward(vertices: Tensor, mask: Tensor, num_valid: Tensor) -> Tensor:
    return sort_vertices(vertices, mask, num_valid)


# --- RoI and feature align -----------------------------------------------------------------------------------------


def _pool(features: Tensor, output: Tensor, plan: RoiPlan) -> None:
    output.copy_(rows_to_features(plan.pool(feature_rows(features)).flatten(0, 1), output.shape))


def _unpool(grad_output: Tensor, grad_input: Tensor, plan: RoiPlan) -> None:
    bins = grad_output.flatten(2).transpose(1, 2)
    grad_input.copy_(rows_to_features(plan.unpool(bins, grad_input[:, 0].numel()), grad_input.shape))


def _upright(shape: torch.Size, rois: Tensor, **options: Any) -> RoiPlan:
    if options["pool_mode"] != 1:
        raise DependencyError("mmcv operator roi_align only averages here: set pool_mode='avg'")
    size = options["aligned_height"], options["aligned_width"]
    scale, ratio, aligned = (options[name] for name in ("spatial_scale", "sampling_ratio", "aligned"))
    return upright_plan(rois, shape[2], shape[3], scale, size, ratio, aligned)


def _rotated(shape: torch.Size, rois: Tensor, **options: Any) -> RoiPlan:
    size = options.pop("pooled_height"), options.pop("pooled_width")
    scale, ratio, *senses = (options[name] for name in ("spatial_scale", "sampling_ratio", "aligned", "clockwise"))
    return rotated_plan(rois, shape[2], shape[3], first_rows(rois, *shape[2:]), scale, size, ratio, *senses)


@_operator
def _roi_align_forward(
    features: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor, **options: Any
) -> None:
    _pool(features, output, _upright(features.shape, rois, **options))


@_operator
def _roi_align_backward(
    grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor, **options: Any
) -> None:
    _unpool(grad_output, grad_input, _upright(grad_input.shape, rois, **options))


@_operator
def _roi_align_rotated_forward(features: Tensor, rois: Tensor, output: Tensor, **options: Any) -> None:
    _pool(features, output, _rotated(features.shape, rois, **options))


@_operator
def _roi_align_rotated_backward(grad_output: Tensor, rois: Tensor, grad_input: Tensor, **options: Any) -> None:
    _unpool(grad_output, grad_input, _rotated(grad_input.shape, rois, **options))


@_operator
def _rotated_feature_align_forward(
    features: Tensor, boxes: Tensor, output: Tensor, spatial_scale: float, points: int
) -> None:
    output.copy_(align_plan(boxes, features.shape, spatial_scale, points).apply(features))


@_operator
def _rotated_feature_align_backward(
    grad_output: Tensor, boxes: Tensor, grad_input: Tensor, spatial_scale: float, points: int
) -> None:
    grad_input.copy_(align_plan(boxes, grad_output.shape, spatial_scale, points).transpose(grad_output))


# --- convolutions --------------------------------------------------------------------------------------------------


def _plain(**options: Any) -> ConvGeometry:
    pairs = (("dH", "dW"), ("padH", "padW"), ("dilationH", "dilationW"))
    stride, padding, dilation = ((options[y], options[x]) for y, x in pairs)
    return ConvGeometry(stride, padding, dilation, options["group"], options["deformable_group"])


def _modulated(**options: Any) -> ConvGeometry:
    stride, padding, dilation = ((options[f"{name}_h"], options[f"{name}_w"]) for name in ("stride", "pad", "dilation"))
    return ConvGeometry(stride, padding, dilation, options["group"], options["deformable_group"])


@_operator
def _deform_conv_forward(
    features: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **options: Any
) -> None:
    output.copy_(deform_conv(features, offset, weight, None, _plain(**options)))


@_operator
def _deform_conv_backward_input(*tensors: Tensor, **options: Any) -> None:
    features, offset, grad_output, grad_input, grad_offset, weight, _ = tensors
    gradients = deform_conv_grad_inputs(grad_output, features, offset, weight, None, _plain(**options))
    grad_input.copy_(gradients[0])
    grad_offset.copy_(gradients[1])


@_operator
def _deform_conv_backward_parameters(*tensors: Tensor, scale: float, **options: Any) -> None:
    features, offset, grad_output, grad_weight, _, _ = tensors
    gradient = deform_conv_grad_weight(grad_output, features, offset, grad_weight, None, _plain(**options))
    grad_weight.add_(gradient, alpha=scale)


@_operator
def _modulated_deform_conv_forward(*tensors: Tensor, **options: Any) -> None:
    features, weight, bias, _, offset, mask, output, _ = tensors
    output.copy_(deform_conv(features, offset, weight, mask, _modulated(**options)))
    if options["with_bias"]:
        output += bias[:, None, None]


@_operator
def _modulated_deform_conv_backward(*tensors: Tensor, **options: Any) -> None:
    features, weight, _, _, offset, mask, _, grad_input, grad_weight, grad_bias, *rest, grad_output = tensors
    problem = (grad_output, features, offset, weight, mask, _modulated(**options))
    for target, gradient in zip((grad_input, *rest), deform_conv_grad_inputs(*problem), strict=True):
        target.copy_(gradient)
    grad_weight.copy_(deform_conv_grad_weight(*problem))
    if options["with_bias"]:
        grad_bias.copy_(grad_output.sum((0, 2, 3)))


def _turned(indices: Tensor) -> Tensor:
    """Place (rotations, orientations * kh * kw) each weight of an oriented filter takes in its rotated copies."""
    return indices.flatten(0, 2).long().T - 1


@_operator
def _active_rotated_filter_forward(weight: Tensor, indices: Tensor, output: Tensor) -> None:
    turned = _turned(indices)
    copies = weight.flatten(2)[:, None].expand(-1, len(turned), -1, -1)
    out = torch.empty_like(copies).scatter_(3, turned[None, :, None].expand_as(copies), copies)
    output.copy_(out.view_as(output))


@_operator
def _active_rotated_filter_backward(grad_output: Tensor, indices: Tensor, grad_input: Tensor) -> None:
    turned = _turned(indices)
    copies = grad_output.view(len(grad_input), len(turned), grad_input.shape[1], -1)
    grad_input.copy_(copies.gather(3, turned[None, :, None].expand_as(copies)).sum(1).view_as(grad_input))


# --- losses --------------------------------------------------------------------------------------------------------


def _fill_by_class(output: Tensor, values: Tensor, target: Tensor, weight: Tensor) -> None:
    if weight.numel():  # of classes; background has none
        values = values * F.pad(weight, (0, 1), value=1.0)[target.clamp(max=len(weight)), None]
    output.copy_(values)


@_operator
def _sigmoid_focal_loss_forward(
    logits: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    _fill_by_class(output, sigmoid_focal_loss(logits, target, gamma, alpha), target, weight)


@_operator
def _sigmoid_focal_loss_backward(
    logits: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    _fill_by_class(grad_input, sigmoid_focal_loss_grad(logits, target, gamma, alpha), target, weight)
