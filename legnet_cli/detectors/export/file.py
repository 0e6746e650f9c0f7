"""Write a detector as a file that runs without this package: ONNX, OpenVINO IR or a ``torch.export`` program."""

from __future__ import annotations

import json
import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.detectors.metadata import (
    EXPORT_FORMATS,
    FILE_PRECISIONS,
    LEAST_SIDE,
    METADATA_FILE,
    RT_INFO,
    ExportFacts,
    ExportOptions,
    to_metadata,
)
from legnet_cli.detectors.networks import network_config, stock_detector
from legnet_cli.detectors.runtimes import require
from legnet_cli.detectors.weights.checkpoint import Checkpoint
from legnet_cli.detectors.weights.recipes import DETECTORS, TITLES
from legnet_cli.errors import ConfigError, DependencyError

if TYPE_CHECKING:
    import onnx

EXPORTABLE = tuple(DETECTORS)
PROGRAMS = ("oriented-rcnn", "rotated-fcos", "s2anet", "r3det")  # those that .pt2 is for
_PACKAGES = {".onnx": ("onnx", "onnxruntime"), ".xml": ("onnx", "onnxruntime", "openvino"), ".pt2": ()}


def check_export(path: Path, options: ExportOptions) -> None:
    """Refuse, before any work is done, what cannot be exported on this machine.

    Raises:
        ConfigError: for a precision that the format of ``path`` does not have.
        DependencyError: if a package is absent.
    """
    suffix = path.suffix.lower()
    if options.precision not in FILE_PRECISIONS:
        raise ConfigError(f"--precision {options.precision}: choose {', '.join(FILE_PRECISIONS)}")
    if suffix == ".pt2" and (options.precision != "fp32" or options.simplify):
        flag = "--simplify" if options.simplify else f"--precision {options.precision}"
        raise ConfigError(f"{flag}: a .pt2 is stored in fp32 as it is: leave the flag out, or export to .onnx")
    for package in _PACKAGES[suffix]:
        require(package)


def check_network(checkpoint: Checkpoint, weights: str, path: Path) -> None:
    """Refuse detectors that cannot be written to ``path``.

    Raises:
        ConfigError: naming what can be exported.
    """
    card = checkpoint.card
    detector = stock_detector(card)
    if detector not in EXPORTABLE:
        *names, last = (TITLES[name] for name in EXPORTABLE)
        ours = f"{', '.join(names)} and {last}"
        name = card.model["type"] if card.model else card.recipe
        raise ConfigError(f"{weights}: {name} cannot be exported: only {ours} can, as in the recipes")
    if path.suffix.lower() == ".pt2" and detector not in PROGRAMS:
        title, suffixes = TITLES[detector], " or ".join(suffix for suffix in EXPORT_FORMATS if suffix != ".pt2")
        raise ConfigError(f"{path}: {title} is not exported to .pt2: give --out with {suffixes}")


def export_file(
    checkpoint: Checkpoint,
    path: Path,
    options: ExportOptions,
    source_sha256: str,
    tiles: Sequence[NDArray[np.uint8]] = (),
) -> ExportFacts:
    """Write the detector to ``path``, whose suffix chooses the format (``EXPORT_FORMATS``).

    Args:
        checkpoint: the weights, of one of the detectors ``EXPORTABLE``.
        path: a place that nobody else sees: the file may be half written after an error.
        options: what the file is fixed to.
        source_sha256: of the weight file.
        tiles: RGB images (H, W, 3) whose activations set the ranges of int8.
    """
    config = network_config(checkpoint.card)
    rules = config["test_cfg"]
    nms = float(rules.get("rcnn", rules)["nms"]["iou_thr"])
    size = options.size
    facts = ExportFacts(options.precision, options.score_threshold, nms, options.max_detections, size, source_sha256)
    metadata = to_metadata(checkpoint.card, facts)
    suffix = path.suffix.lower()
    if suffix == ".pt2":
        _write_program(checkpoint, path, options, metadata)
    elif suffix == ".onnx":
        _save_onnx(_onnx_model(checkpoint, config, options, metadata, tiles), path, simplify=options.simplify)
    else:
        assert suffix in EXPORT_FORMATS
        _write_openvino(_onnx_model(checkpoint, config, options, metadata, tiles), path, metadata, options)
    return facts


def _onnx_model(
    checkpoint: Checkpoint,
    config: dict[str, Any],
    options: ExportOptions,
    metadata: dict[str, str],
    tiles: Sequence[NDArray[np.uint8]],
) -> onnx.ModelProto:
    from legnet_cli.detectors.export.dense import centred, export_dense, quantise
    from legnet_cli.detectors.export.detectors import detector_graph

    detector = stock_detector(checkpoint.card)
    assert detector is not None
    graph = detector_graph(detector, config, checkpoint.state, options, tiles)
    model = export_dense(graph.dense, options.size)
    if options.precision == "int8":
        model = quantise(model, graph.dense.precise, [centred(tile) for tile in tiles])
    return graph.build(model, metadata)


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
        from legnet_cli.detectors.export.program import export_program

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's of itself
            logging.disable(logging.WARNING)
            program, side = export_program(checkpoint, options)
            facts = {**metadata, LEAST_SIDE: str(side)}
            torch.export.save(program, path, extra_files={METADATA_FILE: json.dumps(facts)})
    except (RuntimeError, ValueError, TypeError, AssertionError, ImportError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DependencyError(
            f"PyTorch {torch.__version__} cannot trace this detector ({reason}): update torch, or export to .onnx"
        ) from None
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
