"""mmrotate's training transforms on this project's pixels and boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array, from_le90, to_le90
from legnet_cli.detectors.mmrotate.door import import_mm, quiet
from legnet_cli.errors import ConfigError, reason

Labels = NDArray[np.int64]
Image = NDArray[np.uint8]

# steps of a mmrotate pipeline that others take over: reading, normalisation on the device, batching
_TAKEN_OVER = ("LoadImageFromFile", "LoadAnnotations", "Normalize", "Pad", "DefaultFormatBundle", "Collect")
_PLAIN = ("RResize", "RRandomFlip", "PolyRandomRotate")  # steps that treat any number of channels alike
ROUND = ("storage-tank", "storagetank", "roundabout")  # classes turned by right angles only, their boxes being upright


def stock_transforms(angle: str, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The published recipes' transforms: flips along x, y and both at .25 each, then at .5 any rotation."""
    upright = [i for i, name in enumerate(classes) if name.lower() in ROUND]
    flips = {"flip_ratio": [0.25] * 3, "direction": ["horizontal", "vertical", "diagonal"]}
    return [
        {"type": "RRandomFlip", "version": angle, **flips},
        {"type": "PolyRandomRotate", "version": angle, "rotate_ratio": 0.5, "angles_range": 180, "auto_bound": False}
        | {"rect_classes": upright or None, "allow_negative": True},
    ]


def geometric(pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The steps of a mmrotate training pipeline that change pixels and boxes."""
    return [dict(step) for step in pipeline if step["type"] not in _TAKEN_OVER]


class Augment:
    """A chain of mmrotate's transforms.

    Args:
        transforms: their dicts, in order.
        angle: convention of boxes that they are made for.

    Raises:
        ConfigError: if mmrotate cannot build one of them.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Any]], angle: str) -> None:
        import_mm()
        with quiet():
            from mmrotate.datasets.builder import ROTATED_PIPELINES

        self._angle, self._made_of = angle, transforms
        self._steps = []
        for step in transforms:
            kind = step.get("type")
            made = ROTATED_PIPELINES.get(str(kind))
            if made is None:
                raise ConfigError(f"transform {kind!r} is unknown to mmrotate: check the config or the override")
            try:
                self._steps.append(made(**{key: _scales(key, value) for key, value in step.items() if key != "type"}))
            except Exception as error:  # of mmrotate, as the settings are
                raise ConfigError(f"transform {kind} cannot be made ({reason(error)}): check its settings") from None
        for flip in self._steps:
            if type(flip).__name__ == "RRandomFlip":
                _from_corners(flip)

    @property
    def moves_masks(self) -> bool:
        """Whether an image may have a fourth channel."""
        return all(type(step).__name__ in _PLAIN for step in self._steps)

    def __reduce__(self) -> tuple[type[Augment], tuple[Sequence[Mapping[str, Any]], str]]:
        """Made anew in a process that is started afresh: mmrotate's transforms need not be picklable."""
        return Augment, (self._made_of, self._angle)

    def __call__(self, image: Image, boxes: Array, labels: Labels, seed: int) -> tuple[Image, Array, Labels]:
        """A changed image (H, W, any), its ``le90`` boxes (n, 5) and labels (n,); the same for the same ``seed``."""
        results: dict[str, Any] = {
            "img": image,
            "img_fields": ["img"],
            "bbox_fields": ["gt_bboxes"],
            "img_shape": image.shape,
            "ori_shape": image.shape,
            "pad_shape": image.shape,
            "gt_bboxes": from_le90(boxes, self._angle).astype(np.float32),
            "gt_labels": labels,
        }
        state = np.random.get_state()  # noqa: NPY002 - mmrotate's transforms draw from the global generator
        np.random.seed(seed)  # noqa: NPY002
        try:
            for step in self._steps:
                results = _changed(step, results)
                if results is None:  # a step that insists on objects: the image as it was
                    return image, boxes, labels
        finally:
            np.random.set_state(state)  # noqa: NPY002
        found = np.asarray(results["gt_bboxes"], np.float64).reshape(-1, 5)
        return np.ascontiguousarray(results["img"]), to_le90(found), np.asarray(results["gt_labels"], np.int64)


def _changed(step: Any, results: dict[str, Any]) -> Any:  # noqa: ANN401
    """What a transform of mmrotate makes of ``results``."""
    try:
        return step(results)
    except Exception as error:
        fault = f"transform {type(step).__name__} fails ({reason(error)})"
        raise ConfigError(f"{fault}: check its settings") from error


def _scales(key: str, value: Any) -> Any:  # noqa: ANN401
    """Image scales as the tuples that mmdet insists on, and YAML does not know."""
    if key != "img_scale" or not isinstance(value, (list, tuple)):
        return value
    return [tuple(scale) for scale in value] if isinstance(value[0], (list, tuple)) else tuple(value)


def _from_corners(flip: Any) -> None:  # noqa: ANN401
    """Let a flip take coordinates from the outer corner of the first pixel: mmrotate's counts from its centre."""
    mirrored = flip.bbox_flip

    def bbox_flip(boxes: Array, shape: tuple[int, ...], direction: str) -> Array:
        flipped: Array = mirrored(boxes, (shape[0] + 1, shape[1] + 1), direction)
        return flipped

    flip.bbox_flip = bbox_flip
