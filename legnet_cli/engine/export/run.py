"""Export a detector to ONNX, OpenVINO or ``torch.export``, and prove that the file finds the same boxes.

from legnet_cli.engine.export import ExportConfig, export
result = export(ExportConfig(weights="legnet-tiny-dota10", out=Path("tiny.onnx")))
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.detectors.export.file import check_export, check_network, export_file, operators
from legnet_cli.detectors.loader import build_detector, load_checkpoint, load_detector
from legnet_cli.detectors.metadata import EXPORT_FORMATS, ExportFacts, ExportOptions, is_exported
from legnet_cli.detectors.runtimes import filled
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import Checkpoint
from legnet_cli.detectors.weights.fetch import fetch, sha256
from legnet_cli.engine.eval import EvalConfig, evaluate
from legnet_cli.engine.export.config import ExportConfig
from legnet_cli.engine.export.parity import STRICT, TOLERANCES, Parity, measure_parity
from legnet_cli.engine.export.stac import stac_path, write_stac
from legnet_cli.engine.sample_tiles import read_tiles, synthetic_tile
from legnet_cli.errors import ConfigError, DataError
from legnet_cli.files import atomic_path, check_output

logger = logging.getLogger(__name__)

Image = NDArray[np.uint8]
_SYNTHETIC = 2  # tiles where none are given
_RUNNERS = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        out: the model.
        files: all files, with their sizes in bytes.
        card, facts: what the model says of itself.
        operators: how many of each the graph has; empty for formats other than ONNX.
        parity: agreement with PyTorch; None if not verified.
        maps: mAP (area under the curve, IoU 0.5) of PyTorch and of the file, if there was data.
        seconds: what it took.
    """

    out: Path
    files: dict[Path, int]
    card: ModelCard
    facts: ExportFacts
    operators: Counter[str]
    parity: Parity | None
    maps: tuple[float, float] | None
    seconds: float


def export(
    config: ExportConfig,
    on_step: Callable[[str], None] = lambda step: None,
    on_download: Callable[[int, int | None], None] = lambda done, total: None,
) -> ExportResult:
    """Write ``config.out``.

    Args:
        config: what to do.
        on_step: told what is about to be done.
        on_download: told the bytes so far and in all (None if unknown) while weights are fetched.

    Raises:
        ConfigError: settings that are wrong or disagree, or a detector that cannot be exported.
        DataError: weights, tiles, data or an output that cannot be used, or a file whose boxes differ.
        DependencyError: a package that is absent.
    """
    start = time.perf_counter()
    options = ExportOptions(config.precision, config.tile, config.score, config.max_detections, config.simplify)
    _check(config, options)
    checkpoint = load_checkpoint(config.weights, progress=on_download)
    check_network(checkpoint, config.weights, config.out)
    tiles = _tiles(config, checkpoint.card)
    with atomic_path(config.out) as scratch:
        scratch.parent.mkdir(exist_ok=True)
        on_step(f"exporting {checkpoint.card.name}")
        source = sha256(fetch(config.weights))
        facts = export_file(checkpoint, scratch, options, source, tiles)
        used = operators(scratch)
        parity, maps = _verify(config, checkpoint, scratch, tiles, on_step) if config.verify else (None, None)
        if config.stac:
            version = metadata.version(_RUNNERS[scratch.suffix.lower()])
            write_stac(stac_path(scratch), config.out.name, checkpoint.card, facts, checkpoint.parameters, version)
        names = {path.name: path.stat().st_size for path in sorted(scratch.parent.iterdir())}
    files = {config.out.with_name(name): size for name, size in names.items()}
    seconds = time.perf_counter() - start
    return ExportResult(config.out, files, checkpoint.card, facts, used, parity, maps, seconds)


def _check(config: ExportConfig, options: ExportOptions) -> None:
    check_output(config.out, overwrite=config.overwrite, suffixes=tuple(EXPORT_FORMATS))
    if config.out.suffix.lower() == ".xml":
        check_output(config.out.with_suffix(".bin"), overwrite=config.overwrite, suffixes=(".bin",))
    if config.stac:
        check_output(stac_path(config.out), overwrite=config.overwrite, suffixes=(".json",))
    if is_exported(config.weights):
        raise ConfigError(f"{config.weights}: is exported already: give the weights it was made from")
    check_export(config.out, options)


def _tiles(config: ExportConfig, card: ModelCard) -> list[Image]:
    """What to verify and calibrate on, of the size the model is made for."""
    if not config.verify and config.precision != "int8":
        return []
    side = max(config.tile) if config.tile else card.tile
    if config.images:
        tiles = read_tiles(config.images, side, config.max_tiles, card.stretch)
    else:
        tiles = [synthetic_tile(side, side, seed) for seed in range(_SYNTHETIC)]
        if config.precision == "int8":
            logger.warning("int8 is calibrated on synthetic tiles: give --images with imagery like yours")
    if not tiles:
        raise DataError(f"--images {config.images[0]}: has no valid pixel: choose other rasters")
    if config.tile is None:
        return tiles
    height, width = config.tile
    return [filled(tile[None, :height, :width], config.tile)[0] for tile in tiles]


def _verify(
    config: ExportConfig, checkpoint: Checkpoint, path: Path, tiles: list[Image], on_step: Callable[[str], None]
) -> tuple[Parity, tuple[float, float] | None]:
    """Compare the file with PyTorch, on the CPU.

    Raises:
        DataError: if too many boxes differ.
    """
    on_step(f"comparing it with PyTorch on {len(tiles)} {'given' if config.images else 'synthetic'} tiles")
    limits = {"score_threshold": config.score, "max_detections": config.max_detections}
    reference = build_detector(checkpoint, torch.device("cpu"), **limits)  # type: ignore[arg-type]
    found = load_detector(path, device="cpu", **limits)  # type: ignore[arg-type]
    if config.tile is None:  # sides that are no multiple of 32 are padded inside
        height, width = tiles[0].shape[:2]
        tiles = [*tiles, np.ascontiguousarray(tiles[0][: max(33, height * 2 // 3 + 1), : max(33, width // 2 + 1)])]
    parity = measure_parity(reference, found, tiles, TOLERANCES[config.precision])
    if not any(parity.boxes):
        logger.warning("no box scores over 0.1 on these tiles, so nothing was compared: give others with --images")
    asked = parity.tolerance
    matched, boxes = min(zip(parity.matched, parity.boxes, strict=True), key=lambda pair: pair[0] / max(1, pair[1]))
    if not parity.passed:
        hint = "give --images with imagery like yours, or" if config.precision == "int8" else "report it, or"
        raise DataError(
            f"{config.out}: not written: {matched} of {boxes} boxes agree with PyTorch within IoU {asked.iou} "
            f"and score {asked.score}, {asked.share:.0%} are needed: {hint} keep the file with --no-verify"
        )
    if asked == STRICT and matched < boxes:
        logger.warning("%d of %d boxes unmatched: near-ties, decided by rounding", boxes - matched, boxes)
    return parity, None if config.data is None else _maps(config, path, on_step)


def _maps(config: ExportConfig, path: Path, on_step: Callable[[str], None]) -> tuple[float, float]:
    """mAP (area, IoU 0.5) of the weights and of the exported file on ``config.data``."""
    assert config.data is not None
    maps = []
    for weights in (config.weights, str(path)):
        on_step(f"measuring mAP of {Path(weights).name}")
        with tempfile.TemporaryDirectory() as folder:
            plan = EvalConfig(data=config.data, out=Path(folder, "eval"), weights=(weights,), device="cpu")
            maps.append(float(evaluate(plan).metrics["map"]["area"]["0.50"]))
    return maps[0], maps[1]
