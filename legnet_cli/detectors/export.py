"""Write a detector as a file that runs without this package: ONNX, OpenVINO IR or a ``torch.export`` program."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.detectors.checkpoint import Checkpoint
from legnet_cli.detectors.exported import FORMATS, METADATA_FILE, RT_INFO, ExportFacts, require, to_metadata
from legnet_cli.detectors.loader import is_fast, network_config
from legnet_cli.detectors.oriented_rcnn import OrientedRCNN, Precision
from legnet_cli.errors import ConfigError, DependencyError

if TYPE_CHECKING:
    import onnx

PRECISIONS = ("fp32", "fp16", "int8")
_PACKAGES = {".onnx": ("onnx", "onnxruntime"), ".xml": ("onnx", "onnxruntime", "openvino"), ".pt2": ()}


@dataclass(frozen=True)
class ExportOptions:
    """What the file is fixed to.

    Attributes:
        precision: fp32, fp16 or int8 (wide convolutions and the box head's hidden layers).
        size: height and width of the only image it takes, one at a time; None for any number of any size.
        score_threshold: boxes score more than this.
        max_detections: most boxes per image.
        simplify: let ONNX Runtime fold and fuse the graph before it is stored.
    """

    precision: str = "fp32"
    size: tuple[int, int] | None = None
    score_threshold: float = 0.05
    max_detections: int = 2000
    simplify: bool = False


def check_export(path: Path, options: ExportOptions) -> None:
    """Refuse, before any work is done, what cannot be exported on this machine.

    Raises:
        ConfigError: for a precision that the format of ``path`` does not have.
        DependencyError: if a package is absent.
    """
    suffix = path.suffix.lower()
    if options.precision not in PRECISIONS:
        raise ConfigError(f"--precision {options.precision}: choose {', '.join(PRECISIONS)}")
    if suffix == ".pt2" and (options.precision != "fp32" or options.simplify):
        flag = "--simplify" if options.simplify else f"--precision {options.precision}"
        raise ConfigError(f"{flag}: a .pt2 is stored in fp32 as it is: leave the flag out, or export to .onnx")
    for package in _PACKAGES[suffix]:
        require(package)


def check_network(checkpoint: Checkpoint, weights: str) -> None:
    """Refuse detectors other than Oriented R-CNN.

    Raises:
        ConfigError: naming what can be exported.
    """
    card = checkpoint.card
    if not is_fast(card):
        raise ConfigError(f"{weights}: {card.recipe} cannot be exported: only Oriented R-CNN can, on any backbone")


def export_file(
    checkpoint: Checkpoint,
    path: Path,
    options: ExportOptions,
    source_sha256: str,
    tiles: Sequence[NDArray[np.uint8]] = (),
) -> ExportFacts:
    """Write the detector to ``path``, whose suffix chooses the format (``exported.FORMATS``).

    Args:
        checkpoint: the weights, of an Oriented R-CNN.
        path: a place that nobody else sees: the file may be half written after an error.
        options: what the file is fixed to.
        source_sha256: of the weight file.
        tiles: RGB images (H, W, 3) whose activations set the ranges of int8.
    """
    config = network_config(checkpoint.card)
    nms = float(config["test_cfg"]["rcnn"]["nms"]["iou_thr"])
    size = options.size
    facts = ExportFacts(options.precision, options.score_threshold, nms, options.max_detections, size, source_sha256)
    metadata = to_metadata(checkpoint.card, facts)
    suffix = path.suffix.lower()
    if suffix == ".pt2":
        _write_program(checkpoint, path, options, metadata)
    elif suffix == ".onnx":
        _save_onnx(_onnx_model(checkpoint, config, options, metadata, tiles), path, simplify=options.simplify)
    else:
        assert suffix in FORMATS
        _write_openvino(_onnx_model(checkpoint, config, options, metadata, tiles), path, metadata, options)
    return facts


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _onnx_model(
    checkpoint: Checkpoint,
    config: dict[str, Any],
    options: ExportOptions,
    metadata: dict[str, str],
    tiles: Sequence[NDArray[np.uint8]],
) -> onnx.ModelProto:
    from legnet_cli.detectors.export_dense import export_dense, quantise
    from legnet_cli.detectors.export_graph import DetectorGraph

    half: Precision = "fp16" if options.precision == "fp16" else "fp32"
    network = OrientedRCNN(config, checkpoint.state, device="cpu", precision=half)
    images = [torch.from_numpy(tile[None]) for tile in tiles]
    ranges = _input_ranges(network, images) if options.precision == "int8" else []
    dense = export_dense(network, options.size)
    if options.precision == "int8":
        dense = quantise(dense, [network.prepare(image).numpy() for image in images])
    return DetectorGraph(network, options, ranges).build(dense, metadata)


def _input_ranges(network: OrientedRCNN, images: Sequence[torch.Tensor]) -> list[tuple[float, float]]:
    """Least and largest input of each hidden layer of the box head on images (1, H, W, 3)."""
    ranges = []
    for layer in network.roi_head.bbox_head.shared_fcs:
        seen: list[float] = []

        def look(_: torch.nn.Module, inputs: tuple[torch.Tensor], seen: list[float] = seen) -> None:
            seen.extend(extreme.item() for extreme in inputs[0].aminmax())

        ranges.append((layer.register_forward_pre_hook(look), seen))
    for image in images:
        network.detect(image)
    for handle, _ in ranges:
        handle.remove()
    return [(min(seen, default=0.0), max(seen, default=0.0)) for _, seen in ranges]


def _save_onnx(model: onnx.ModelProto, path: Path, *, simplify: bool) -> None:
    import onnx

    onnx.save(model, path)
    if simplify:
        runtime = require("onnxruntime")
        options = runtime.SessionOptions()
        # the basic level keeps to standard operators; the others are made for the machine at hand
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _write_openvino(model: onnx.ModelProto, path: Path, metadata: dict[str, str], options: ExportOptions) -> None:
    openvino = require("openvino")
    source = path.with_name(f"{path.stem}.onnx")
    _save_onnx(model, source, simplify=options.simplify)
    converted = openvino.Core().read_model(source)
    for key, value in metadata.items():
        converted.set_rt_info(value, [RT_INFO, key])
    openvino.save_model(converted, path, compress_to_fp16=options.precision == "fp16")
    source.unlink()


def _write_program(checkpoint: Checkpoint, path: Path, options: ExportOptions, metadata: dict[str, str]) -> None:
    try:
        from legnet_cli.detectors.export_program import export_program

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's of itself
            logging.disable(logging.WARNING)
            program = export_program(checkpoint, options)
            torch.export.save(program, path, extra_files={METADATA_FILE: json.dumps(metadata)})
    except (RuntimeError, ValueError, TypeError, AssertionError, ImportError) as error:
        reason = " ".join(str(error).split())[:160]
        mend = "update torch, or export to .onnx"
        raise DependencyError(f"PyTorch {torch.__version__} cannot trace this detector: {mend} ({reason})") from None
    finally:
        logging.disable(logging.NOTSET)


def operators(path: Path) -> Counter[str]:
    """How many of each operator an ONNX file's graph has, those inside loops included; empty for other formats."""
    found: Counter[str] = Counter()
    if path.suffix.lower() == ".onnx":
        waiting = [require("onnx").load(path).graph]
        while waiting:
            for node in waiting.pop().node:
                found[f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type] += 1
                waiting.extend(attribute.g for attribute in node.attribute if attribute.HasField("g"))
    return found
