"""mmrotate's detectors as trainable modules: pixels and oriented boxes in, named losses out.

Boxes come as ``le90`` in pixels and are turned to the detector's own convention here. Backbone and neck may run in
half precision; heads, box arithmetic and losses stay float32, for halves would cost whole pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from legnet_cli.boxes import Array, from_le90
from legnet_cli.detectors.mmrotate.build import build_mmrotate, prepare
from legnet_cli.detectors.mmrotate.door import quiet
from legnet_cli.detectors.mmrotate.ignore import ignore_ground
from legnet_cli.detectors.mmrotate.norm import replace_batch_norms
from legnet_cli.detectors.weights.recipes import MEAN, STD
from legnet_cli.detectors.weights.tensors import State
from legnet_cli.errors import CheckpointError, ConfigError

logger = logging.getLogger(__name__)

_CLASS_LAYERS = ("fc_cls", "fc_reg", "retina_cls", "conv_cls", "odm_cls")  # shaped by the number of classes


class TrainableDetector(nn.Module):
    """A detector in training.

    Args:
        model: mmrotate's model dict (see ``model_config``).
        angle: convention of its boxes, see ``legnet_cli.boxes``.

    Attributes:
        ignores: whether it takes masks of ignored ground.

    Raises:
        ConfigError: if mmrotate cannot build ``model``.
    """

    def __init__(self, model: Mapping[str, Any], angle: str) -> None:
        super().__init__()
        self.angle = angle
        self.mean: Tensor
        self.std: Tensor
        self.detector: Any
        try:
            self.detector = build_mmrotate(dict(model))
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"mmrotate cannot build this model ({reason}): check its config and overrides") from None
        with quiet():
            self.detector.init_weights()
        replace_batch_norms(self.detector)
        self.ignores = ignore_ground(self.detector)
        self.detector.extract_feat = self._float_features(self.detector.extract_feat)
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        for part in (self.detector.backbone, getattr(self.detector, "neck", None)):
            if part is not None:
                part.to(memory_format=torch.channels_last)

    @staticmethod
    def _float_features(extract: Any) -> Any:  # noqa: ANN401
        def extract_feat(images: Tensor) -> tuple[Tensor, ...]:
            return tuple(level.float() for level in extract(images))

        return extract_feat

    def forward(
        self, images: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor], ignored: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Losses by name, each summed over levels and stages; the sum of all is what to minimise.

        Args:
            images: (B, 3, H, W) uint8 RGB, any H and W.
            boxes: for each image (n, 5) float32 ``le90`` boxes in pixels.
            labels: for each image (n,) int64.
            ignored: (B, H, W) bool; ground that is not background whatever it shows. For a model that ``ignores``.
        """
        x, metas = prepare(images, self.mean, self.std)
        own = [self._to_own(part) for part in boxes]
        masks = {} if ignored is None else {"gt_bboxes_ignore": list(ignored)}
        with quiet():
            found = self._losses(x, metas, own, list(labels), masks)
        losses = {
            name: torch.stack(value).sum() if isinstance(value, list) else value
            for name, value in found.items()
            if "loss" in name
        }
        idle = [p for m in self.detector.modules() if hasattr(m, "fc_cls") for p in m.fc_cls.parameters()]
        if ignored is not None and idle:
            # a head that got no box has no loss of classes, but several processes wait for its gradient
            name = next(iter(losses))
            losses[name] = losses[name] + 0 * torch.stack([p.sum() for p in idle]).sum()
        return losses

    def _losses(
        self,
        x: Tensor,
        metas: list[dict[str, Any]],
        boxes: list[Tensor],
        labels: list[Tensor],
        masks: dict[str, list[Tensor]],
    ) -> dict[str, Any]:
        """mmrotate's losses; only backbone and neck are under autocast."""
        features = self.detector.extract_feat(x)
        self.detector.extract_feat, extract = lambda _: features, self.detector.extract_feat
        try:
            with torch.autocast(x.device.type, enabled=False):
                found: dict[str, Any] = self.detector.forward_train(x, metas, boxes, labels, **masks)
        finally:
            self.detector.extract_feat = extract
        return found

    def _to_own(self, boxes: Tensor) -> Tensor:
        if self.angle == "le90":
            return boxes
        own: Array = from_le90(boxes.double().cpu().numpy(), self.angle)
        return torch.from_numpy(own).to(boxes)

    def weights(self) -> State:
        """The detector's tensors under mmrotate's names."""
        state: State = self.detector.state_dict()
        return state

    def start_from(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take what fits of ``state``: a whole detector, or a backbone; a head for other classes starts anew.

        Raises:
            CheckpointError: if anything but such a head is missing or misshapen.
        """
        own = {name: t for name, t in self.weights().items() if not name.endswith("num_batches_tracked")}
        if not any(name.startswith(("neck.", "rpn_head.", "bbox_head.", "roi_head.")) for name in state):
            state = {f"backbone.{name.removeprefix('backbone.')}": tensor for name, tensor in state.items()}
            own = {name: tensor for name, tensor in own.items() if name.startswith("backbone.")}
            # a classifier's own head, if the file has one, is of no use here
            state = {name: tensor for name, tensor in state.items() if not name.startswith("backbone.head.")}
        unfit = [name for name, tensor in own.items() if name not in state or state[name].shape != tensor.shape]
        anew = [name for name in unfit if any(f".{layer}." in f".{name}" for layer in _CLASS_LAYERS)]
        if wrong := [name for name in unfit if name not in anew]:
            shown = ", ".join(wrong[:3]) + (", …" if len(wrong) > 3 else "")
            raise CheckpointError(f"{source}: {len(wrong)} tensors are missing or of another shape ({shown})")
        if anew:
            logger.warning("%s: head re-initialised: the class count differs (%s)", source, ", ".join(anew))
        self.detector.load_state_dict({name: state[name] for name in own if name not in anew}, strict=False)
