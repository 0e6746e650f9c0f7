"""What a file of ``legnet export`` says of itself: all that a :class:`ModelCard` holds and what it was fixed to.

The values are JSON under the keys of :func:`to_metadata`, in each of the ``EXPORT_FORMATS``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from legnet_cli.detectors.weights.card import ModelCard, checked_card
from legnet_cli.detectors.weights.recipes import MEAN, STD
from legnet_cli.errors import CheckpointError
from legnet_cli.untrusted import parse_json

EXPORT_FORMATS = {".onnx": "ONNX", ".xml": "OpenVINO IR", ".pt2": "torch.export"}
FILE_PRECISIONS = ("fp32", "fp16", "int8")
OUTPUTS = ("boxes", "scores", "labels", "batch")
FORMAT_VERSION = 1
METADATA_FILE = "legnet.json"  # inside a .pt2
RT_INFO = "legnet"  # section of an OpenVINO model's runtime information
LEAST_SIDE = "least_side"  # key of a .pt2: pixels; smaller images are filled up, so that each level has two pixels


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


@dataclass(frozen=True)
class ExportFacts:
    """What a file was fixed to when it was exported.

    Attributes:
        precision: fp32, fp16 or int8.
        score_threshold: boxes score more than this.
        nms_threshold: IoU over which the worse of two boxes of a class was dropped.
        max_detections: most boxes per image.
        size: height and width of the only images it takes, one at a time; None for any.
        source_sha256: of the weight file it was made from.
    """

    precision: str
    score_threshold: float
    nms_threshold: float
    max_detections: int
    size: tuple[int, int] | None
    source_sha256: str


def is_exported(path: str | Path) -> bool:
    """Whether a file name is that of an exported model."""
    return Path(path).suffix.lower() in EXPORT_FORMATS


def to_metadata(card: ModelCard, facts: ExportFacts) -> dict[str, str]:
    """What goes into the file, every value as JSON.

    The last keys are those that the QGIS plugin Deepness and GeoDeep read (resolution in centimetres a pixel, overlap
    in percent of a tile).
    """
    values: dict[str, Any] = {
        "legnet": FORMAT_VERSION,
        **asdict(card),
        **asdict(facts),
        "angle": "le90: radians clockwise in image coordinates, in [-pi/2, pi/2), w >= h",
        "input": "uint8 RGB, batch x height x width x 3; normalisation is inside",
        "mean": MEAN,
        "std": STD,
        "model_type": "Detector",
        "det_type": "oriented_boxes",
        "class_names": {str(label): name for label, name in enumerate(card.classes)},
        "tile_size": card.tile,
        "tiles_size": card.tile,
        "tiles_overlap": round(100 * card.overlap / card.tile),
        "det_conf": max(facts.score_threshold, 0.25),  # as `legnet predict`
        "det_iou_thresh": facts.nms_threshold,
        "det_remove_overlap": True,
    }
    if card.gsd is not None:
        values["resolution"] = 100 * math.sqrt(card.gsd[0] * card.gsd[1])
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


def from_metadata(metadata: Mapping[str, str], path: Path) -> tuple[ModelCard, ExportFacts]:
    """Inverse of :func:`to_metadata`.

    Raises:
        CheckpointError: if the file was not written by ``legnet export``, or by a newer one.
    """
    try:
        version = parse_json(metadata["legnet"])
        known = {name.name for kind in (ModelCard, ExportFacts) for name in fields(kind)}
        values = {key: parse_json(text) for key, text in metadata.items() if key in known}
        card = checked_card(ModelCard(**{f.name: values[f.name] for f in fields(ModelCard) if f.name in values}))
        facts = _checked_facts(ExportFacts(**{f.name: values[f.name] for f in fields(ExportFacts)}))
        newer = version > FORMAT_VERSION
    except (KeyError, ValueError, TypeError, AttributeError):
        raise CheckpointError(f"{path}: was not written by legnet export: export the weights again") from None
    if newer:
        raise CheckpointError(f"{path}: made by a newer legnet (format {version}): update legnet")
    return card, facts


def _checked_facts(facts: ExportFacts) -> ExportFacts:
    """``facts``, as they were read from a file.

    Raises:
        ValueError, TypeError: a value is of another kind than it must be.
    """
    size = None if facts.size is None else tuple(facts.size)
    if size is not None and not (len(size) == 2 and all(isinstance(side, int) and 0 < side < 1 << 20 for side in size)):
        raise ValueError("size")
    texts, counts = (facts.precision, facts.source_sha256), (facts.max_detections,)
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(count, int) for count in counts):
        raise TypeError("facts")
    if not (0 <= facts.score_threshold <= 1 and 0 <= facts.nms_threshold <= 1):
        raise ValueError("thresholds")
    return replace(facts, size=size)


def values_of(record: ModelCard | ExportFacts) -> dict[str, Any]:
    """The attributes of a record by name."""
    return {f.name: getattr(record, f.name) for f in fields(record)}
