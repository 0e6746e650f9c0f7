"""Files that ``legnet export`` wrote, run as detectors: ONNX, OpenVINO IR and ``torch.export`` programs."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from legnet_cli.boxes import Detections
from legnet_cli.detectors.metadata import LEAST_SIDE, METADATA_FILE, OUTPUTS, RT_INFO, ExportFacts, from_metadata
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.recipes import MEAN
from legnet_cli.errors import CheckpointError, ConfigError, DataError, DependencyError
from legnet_cli.installation import install_line

Images: TypeAlias = NDArray[np.uint8]
Runner: TypeAlias = Callable[[Images], "list[NDArray[Any]]"]


def require(module: str) -> Any:  # noqa: ANN401
    """Import a package of the ``export`` extra.

    Raises:
        DependencyError: if it is absent.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise DependencyError(f"the package {package} is missing: run `{install_line('export')}`") from None


@dataclass(frozen=True)
class ExportedModel:
    """An exported file, ready to run.

    Attributes:
        card, facts: what the file says of itself.
        run: uint8 images (B, H, W, 3) to the arrays of ``OUTPUTS``.
    """

    card: ModelCard
    facts: ExportFacts
    run: Runner

    def search(self, images: Tensor, score_threshold: float, max_detections: int) -> list[Detections]:
        """Detections in each image, as of ``OrientedRCNN.detect``."""
        pixels = images.cpu().numpy()
        if self.facts.size is None:
            return _by_image(self.run(pixels), len(pixels), self._lowest(score_threshold), max_detections)
        parts = [self._fixed(pixels[i : i + 1], score_threshold, max_detections) for i in range(len(pixels))]
        return [found for part in parts for found in part]

    def _lowest(self, score_threshold: float) -> float:
        """What scores must exceed; the file's own threshold may be on what scores were before a factor (FCOS)."""
        return score_threshold if score_threshold > self.facts.score_threshold else -1.0

    def _fixed(self, image: Images, score_threshold: float, max_detections: int) -> list[Detections]:
        """The only size there is: a smaller image is filled up with the mean colour."""
        assert self.facts.size is not None
        height, width = image.shape[1:3]
        if height > self.facts.size[0] or width > self.facts.size[1]:
            high, wide = self.facts.size
            raise DataError(
                f"the weights take images of {wide} × {high} pixels, not {width} × {height}: "
                f"give --tile {min(self.facts.size)}, or export without --tile"
            )
        whole = (height, width) == self.facts.size
        image = image if whole else filled(image, self.facts.size)
        found = _by_image(self.run(image), 1, self._lowest(score_threshold), max_detections)[0]
        if whole:  # centres beyond the border included, as some detectors give
            return [found]
        return [found[(found.boxes[:, 0] < width) & (found.boxes[:, 1] < height)]]


def _by_image(found: list[NDArray[Any]], images: int, score_threshold: float, limit: int) -> list[Detections]:
    """The boxes of each image, as many as wanted."""
    boxes, scores, labels, batch = found
    parts = [np.flatnonzero((batch == i) & (scores > score_threshold))[:limit] for i in range(images)]
    return [
        Detections(boxes[part].astype(np.float64), scores[part].astype(np.float32), labels[part].astype(np.int64))
        for part in parts
    ]


def filled(images: Images, size: tuple[int, int]) -> Images:
    """Images (B, h, w, 3) made ``size`` high and wide by the mean colour, below and right."""
    height, width = images.shape[1:3]
    full = np.tile(np.round(MEAN).astype(np.uint8), (len(images), *size, 1))
    full[:, :height, :width] = images
    return full


def open_exported(
    path: Path, device: torch.device, *, chosen: bool = True, openvino: bool = False
) -> tuple[ExportedModel, torch.device]:
    """Load an exported file; returns it and where it runs.

    Args:
        path: .onnx, .xml (its .bin beside it) or .pt2.
        device: where it is wanted.
        chosen: whether that is the user's choice, so that another place would be wrong.
        openvino: run an .onnx by OpenVINO, not by ONNX Runtime.

    Raises:
        CheckpointError: if it cannot be read, or was not written by ``legnet export``.
        ConfigError: for a device that the format cannot use.
        DependencyError: if a package is absent.
    """
    opener = {".onnx": _open_onnx, ".xml": _open_openvino, ".pt2": _open_program}[path.suffix.lower()]
    opener = _open_openvino if openvino else opener
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    metadata, run, place = opener(path, device, chosen)
    card, facts = from_metadata(metadata, path)
    return ExportedModel(card, facts, run), place


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:200]
    return CheckpointError(f"{path}: is damaged or of an unknown kind: delete it and export it again ({reason})")


def onnx_providers(device: torch.device, chosen: bool) -> tuple[list[Any], torch.device]:
    """What ONNX Runtime is to run on, best first, and the device that is; arguments as of :func:`open_exported`.

    Raises:
        DependencyError: if it is absent, or cannot use the device that the user chose.
    """
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in require("onnxruntime").get_available_providers():
        return [("CUDAExecutionProvider", {"device_id": device.index or 0}), *providers], device
    if device.type != "cpu" and chosen:
        raise DependencyError(
            f"--device {device}: this ONNX Runtime has no provider for it: "
            "install onnxruntime-gpu in place of onnxruntime, or use --device cpu"
        )
    return providers, torch.device("cpu")


def _open_onnx(path: Path, device: torch.device, chosen: bool) -> tuple[Mapping[str, str], Runner, torch.device]:
    runtime = require("onnxruntime")
    providers, device = onnx_providers(device, chosen)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        session = runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # of the runtime's own types, which it does not name
        raise _damaged(path, error) from None
    metadata = session.get_modelmeta().custom_metadata_map

    def run(images: Images) -> list[NDArray[Any]]:
        try:
            found: list[NDArray[Any]] = session.run(list(OUTPUTS), {"images": images})
        except Exception as error:  # of the runtime's own types; UnravelNet takes no side below 65 pixels, for one
            reason, (high, wide) = " ".join(str(error).split())[:200], images.shape[1:3]
            raise DataError(f"{path}: cannot search images of {wide} × {high} pixels: {reason}") from None
        return found

    return metadata, run, device


def _open_openvino(path: Path, device: torch.device, chosen: bool) -> tuple[Mapping[str, str], Runner, torch.device]:
    openvino = require("openvino")
    if device.type != "cpu":
        if chosen:
            raise ConfigError(f"--device {device}: OpenVINO files run on the CPU here: use --device cpu or an .onnx")
        device = torch.device("cpu")
    # float32 as exported: where the CPU has bfloat16, this runtime would use that
    config = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    try:
        core = openvino.Core()
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU", config)
    except RuntimeError as error:
        raise _damaged(path, error) from None
    if path.suffix.lower() == ".onnx":
        metadata = {entry.key: entry.value for entry in require("onnx").load(path).metadata_props}
    else:
        section = model.get_rt_info(RT_INFO) if model.has_rt_info(RT_INFO) else {}
        metadata = {key: str(value) for key, value in dict(getattr(section, "value", section)).items()}

    def run(images: Images) -> list[NDArray[Any]]:
        found = compiled(np.ascontiguousarray(images))
        return [np.array(found[name]) for name in OUTPUTS]

    return metadata, run, device


def _open_program(path: Path, device: torch.device, _: bool) -> tuple[Mapping[str, str], Runner, torch.device]:
    extra = {METADATA_FILE: ""}
    try:
        module = torch.export.load(path, extra_files=extra).module().to(device)
        metadata = dict(json.loads(extra[METADATA_FILE]))
        least = int(metadata.get(LEAST_SIDE, 65))  # files before that key were of Oriented R-CNN
    except Exception as error:  # a damaged archive makes it fail in any way it likes
        raise _damaged(path, error) from None

    def run(images: Images) -> list[NDArray[Any]]:
        height, width = (max(side, least) for side in images.shape[1:3])
        if (height, width) != images.shape[1:3]:
            images = filled(images, (height, width))
        with torch.inference_mode():
            found = module(torch.from_numpy(images).to(device))
        return [part.cpu().numpy() for part in found]

    return metadata, run, device
