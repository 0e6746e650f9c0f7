"""mmrotate's own detectors on our backbones: to train every recipe, and to run those that have no faster path."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from legnet_cli.backbones.legnet import LEGNet
from legnet_cli.backbones.unravelnet import UnravelNet
from legnet_cli.boxes import Detections, to_le90
from legnet_cli.detectors.fast.modules import named_layers
from legnet_cli.detectors.mmrotate.door import import_mm, quiet
from legnet_cli.detectors.stages import StageObserver, observed_modules, unobserved
from legnet_cli.detectors.weights.recipes import MEAN, STD, STRIDE
from legnet_cli.detectors.weights.tensors import State, check_state


def build_mmrotate(config: dict[str, Any]) -> nn.Module:
    """The detector of a mmrotate model dict (see ``model_config``), randomly initialised.

    Backbone types ``LEGNet``, ``UnravelNet`` and upstream's ``LWEGNet`` are known besides mmrotate's own.
    """
    import_mm()
    from mmcv import ConfigDict
    from mmrotate.models.builder import MODELS, build_detector

    for name, backbone in {"LEGNet": LEGNet, "LWEGNet": LEGNet, "UnravelNet": UnravelNet}.items():
        if name not in MODELS:
            MODELS.register_module(name, module=_without_pretrained(backbone))
    with quiet():  # mmdet warns of its own deprecated properties
        model: nn.Module = build_detector(ConfigDict(config))
    return model


def _without_pretrained(backbone: type[nn.Module]) -> Callable[..., nn.Module]:
    """``backbone`` for configs in which mmrotate sets ``pretrained``: weights are loaded elsewhere."""

    def make(pretrained: None = None, **values: Any) -> nn.Module:  # noqa: ANN401
        return backbone(**values)

    return make


class MMRotateDetector:
    """A detector run through mmrotate's own test path; boxes leave it as ``le90`` whatever its convention.

    Args:
        config: mmrotate's model dict.
        state: its weights.
        device: where it runs.
        dtype: of backbone and neck; heads and boxes stay float32, where halves would cost whole pixels.
        compile: compile the backbone.
        score_threshold: lowest score kept.
        max_detections: most boxes per image.

    Raises:
        CheckpointError: if ``state`` does not fit the config.
    """

    def __init__(
        self,
        config: dict[str, Any],
        state: State,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
        score_threshold: float = 0.05,
        max_detections: int = 2000,
    ) -> None:
        config = copy.deepcopy(config)
        test = config["test_cfg"]
        test.get("rcnn", test).update(score_thr=score_threshold, max_per_img=max_detections)
        model: Any = build_mmrotate(config)
        check_state(state, model.state_dict(), str(config["type"]))
        model.load_state_dict(state, strict=False)
        self._model = model.eval().to(device)
        for part in (model.backbone, model.neck):  # S²ANet's head has weights of five axes, which have no such format
            part.to(memory_format=torch.channels_last)
        if compile:
            self._model.backbone.compile()
        if dtype != torch.float32:
            self._model.extract_feat = self._halved(self._model.extract_feat, device, dtype)
        self._mean = torch.tensor(MEAN, device=device).view(3, 1, 1)
        self._std = torch.tensor(STD, device=device).view(3, 1, 1)
        self._stage: StageObserver = unobserved

    @staticmethod
    def _halved(extract: Any, device: torch.device, dtype: torch.dtype) -> Any:  # noqa: ANN401
        def extract_feat(images: Tensor) -> tuple[Tensor, ...]:
            with torch.autocast(device.type, dtype):
                return tuple(level.float() for level in extract(images))

        return extract_feat

    @contextmanager
    def observed(self, observer: StageObserver) -> Iterator[None]:
        """Report the stages of :meth:`detect`, as far as mmrotate lets them be seen, inside the ``with`` body."""
        self._stage = observer
        try:
            with observed_modules({"backbone": self._model.backbone, "neck": self._model.neck}, observer):
                yield
        finally:
            self._stage = unobserved

    def layers(self) -> dict[str, nn.Module]:
        """Convolutions and linear layers by name."""
        return named_layers(self._model)

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """Detections in each of the images, uint8 RGB (B, H, W, 3), best first."""
        x, metas = prepare(images.permute(0, 3, 1, 2), self._mean, self._std)
        with quiet():  # of its own deprecated calls
            two_stage = getattr(self._model, "rpn_head", None) is not None
            results = self._test_two_stage(x, metas) if two_stage else self._model.simple_test(x, metas)
        return [_detections(per_class) for per_class in results]

    def _test_two_stage(self, x: Tensor, metas: list[dict[str, Any]]) -> list[list[NDArray[np.float32]]]:
        """What ``simple_test`` of mmrotate's two-stage detectors does, stage by stage."""
        model = self._model
        features = model.extract_feat(x)
        with self._stage("rpn"):
            proposals = model.rpn_head.simple_test_rpn(features, metas)
        heads = model.roi_head.bbox_head
        last = heads[-1] if isinstance(heads, nn.ModuleList) else heads
        with self._stage("roi"), ExitStack() as rest:

            def begin_nms(*_: object) -> None:  # what follows the last head is decoding and NMS
                rest.enter_context(self._stage("nms"))

            rest.callback(last.register_forward_hook(begin_nms).remove)
            results: list[list[NDArray[np.float32]]] = model.roi_head.simple_test(features, proposals, metas)
        return results


def prepare(images: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, list[dict[str, Any]]]:
    """What mmrotate's models take: uint8 images (B, 3, H, W) normalised and padded, and a dict of facts on each."""
    height, width = images.shape[2:]
    x = (images.float() - mean) / std
    x = functional.pad(x, (0, -width % STRIDE, 0, -height % STRIDE)).contiguous(memory_format=torch.channels_last)
    meta = {
        "img_shape": (height, width, 3),
        "ori_shape": (height, width, 3),
        "pad_shape": (*x.shape[2:], 3),
        "scale_factor": np.ones(4, np.float32),
        "flip": False,
    }
    return x, [dict(meta) for _ in x]


def _detections(per_class: list[NDArray[np.float32]]) -> Detections:
    """Detections of mmrotate's result for an image: an array (n, 6) of boxes and scores for each class."""
    rows = np.concatenate(per_class)
    labels = np.repeat(np.arange(len(per_class)), [len(found) for found in per_class])
    order = np.argsort(-rows[:, 5], kind="stable")
    return Detections(to_le90(rows[:, :5].astype(np.float64)), rows[:, 5].astype(np.float32), labels)[order]
