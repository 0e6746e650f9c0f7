"""The door to mmcv, mmdet and mmrotate: everything else imports them after :func:`import_mm`, or not at all.

The three are imported without compiled operators, without torchvision (mmcv only wants it for ``torchvision://``
weights) and without e2cnn (mmrotate only wants it for ReDet, and it takes longer to import than all the rest).
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import torch

from legnet_cli.errors import DependencyError
from legnet_cli.installation import install_line
from legnet_cli.ops import mmcv_ext
from legnet_cli.ops.diff_iou import diff_rotated_iou
from legnet_cli.ops.iou import upright_iou


@functools.cache
def import_mm() -> None:
    """Import mmcv, mmdet and mmrotate, with :mod:`legnet_cli.ops` as their operators. Later calls do nothing.

    Raises:
        DependencyError: if one of them is missing or does not fit the others.
    """
    mmcv_ext.install()
    with quiet(), _stand_ins():
        for name in ("mmcv", "mmdet.models", "mmrotate.models"):
            _import(name)
    _fix_anchors()
    _fix_iou_loss()
    _use_upright_iou()
    # advice on configurations and calls that are mmrotate's own
    warnings.filterwarnings("ignore", module=r"(mmcv|mmdet|mmrotate)\.")
    warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release")


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, AssertionError) as error:  # mmdet and mmrotate assert the versions they accept
        reason = " ".join(str(error).split())
        raise DependencyError(
            f"{name.partition('.')[0]} cannot be loaded ({reason}): run `{install_line('mmrotate')}`"
        ) from error


def _fix_anchors() -> None:
    """Let R3Det and S²ANet train without CUDA: mmrotate hands their anchor generator the device as the dtype."""
    from mmrotate.core.anchor import RotatedAnchorGenerator

    made = RotatedAnchorGenerator.grid_priors

    def grid_priors(
        self: object,
        sizes: list[tuple[int, int]],
        dtype: torch.dtype | torch.device = torch.float32,
        device: str = "cuda",
    ) -> list[torch.Tensor]:
        priors: list[torch.Tensor] = (
            made(self, sizes, device=dtype) if isinstance(dtype, torch.device) else made(self, sizes, dtype, device)
        )
        return priors

    RotatedAnchorGenerator.grid_priors = grid_priors


def _fix_iou_loss() -> None:
    """Let the IoU loss use our IoU: mmcv's, in float32, can lose corners of boxes that coincide."""
    vars(sys.modules["mmrotate.models.losses.rotated_iou_loss"])["diff_iou_rotated_2d"] = diff_rotated_iou


def _use_upright_iou() -> None:
    """Let mmdet assign anchors by our IoU on a CPU, which is the same to the last bit and several times faster."""
    home = vars(sys.modules["mmdet.core.bbox.iou_calculators.iou2d_calculator"])
    theirs: Callable[..., torch.Tensor] = home["bbox_overlaps"]

    def bbox_overlaps(
        boxes: torch.Tensor, others: torch.Tensor, mode: str = "iou", is_aligned: bool = False, eps: float = 1e-6
    ) -> torch.Tensor:
        if mode != "iou" or is_aligned or boxes.ndim != 2 or others.ndim != 2 or boxes.device.type != "cpu":
            return theirs(boxes, others, mode, is_aligned, eps)
        return upright_iou(boxes, others, eps)

    home["bbox_overlaps"] = bbox_overlaps


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what mm* and torch's extension builder say of themselves; none of it concerns the user."""
    talkers = [logging.getLogger(name) for name in ("torch.utils.cpp_extension", "mmcv", "mmrotate", "mmdet")]
    for talker in talkers:
        talker.addFilter(_nothing)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for talker in talkers:
            talker.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Put modules in place of torchvision and e2cnn unless they are loaded, and take them away afterwards."""
    torchvision, e2cnn, nn, gspaces = (
        mmcv_ext.RefusingModule(name, f"{name} is not supported here: choose one of the recipes of `legnet models`")
        for name in ("torchvision", "e2cnn", "e2cnn.nn", "e2cnn.gspaces")
    )
    vars(torchvision)["__version__"] = "0"
    # what mmrotate derives from and calls while it is imported
    vars(nn)["EquivariantModule"] = torch.nn.Module
    vars(gspaces)["Rot2dOnR2"] = lambda **_: gspaces
    vars(e2cnn).update(nn=nn, gspaces=gspaces, __path__=[])
    groups = ((torchvision,), (e2cnn, nn, gspaces))
    ours = [module for group in groups if group[0].__name__ not in sys.modules for module in group]
    sys.modules.update((module.__name__, module) for module in ours)
    try:
        yield
    finally:
        for module in ours:
            sys.modules.pop(module.__name__, None)
