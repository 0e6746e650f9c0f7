"""Weight files of the few tensors by which a detector is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CLASSES = ("ship", "plane", "car")
LEGNET_TINY = {"Stem.LoG.conv_init.weight": (8, 3, 7, 7)}
UNRAVEL_SMALL = {"Stem.proj.weight": (64, 3, 4, 4)}
LFEA = "stages.0.blocks.0.LFEA.conv2d.0.weight"


def tensors(shapes: dict[str, tuple[int, ...]], prefix: str = "") -> dict[str, Tensor]:
    """Random tensors of ``shapes``."""
    torch.manual_seed(0)
    return {prefix + name: torch.randn(shape) for name, shape in shapes.items()}


def oriented_rcnn(backbone: dict[str, tuple[int, ...]] = LEGNET_TINY, classes: int = 3) -> dict[str, Tensor]:
    """The few tensors by which a file of Oriented R-CNN is known."""
    heads = {
        "neck.lateral_convs.0.conv.weight": (256, 32, 1, 1),
        "rpn_head.rpn_cls.weight": (3, 256, 1, 1),
        "rpn_head.rpn_reg.weight": (18, 256, 1, 1),
        "roi_head.bbox_head.fc_cls.weight": (classes + 1, 16),
    }
    return tensors({LFEA: (32, 32, 3, 3), **backbone}, "backbone.") | tensors(heads)


def save(content: object, path: Path, **options: Any) -> Path:
    """``content`` as PyTorch saves it; returns ``path``."""
    torch.save(content, path, **options)
    return path
