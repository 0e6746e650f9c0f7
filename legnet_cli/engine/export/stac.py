"""A STAC item that describes an exported model: https://github.com/stac-extensions/mlm, version 1.4.0."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from legnet_cli.detectors.metadata import ExportFacts
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.recipes import TITLES, get_recipe

SUFFIX = ".stac.json"
_EXTENSIONS = ("https://stac-extensions.github.io/mlm/v1.4.0/schema.json",)
_FRAMEWORKS = {".onnx": ("ONNX", "application/octet-stream"), ".xml": ("OpenVINO", "application/xml")}
_PYTORCH = ("PyTorch", "application/zip")
_OUTPUTS: tuple[tuple[str, list[int], list[str], str, str], ...] = (
    ("boxes", [-1, 5], ["detection", "box"], "float32", "cx, cy, w, h in pixels, angle le90 in radians"),
    ("scores", [-1], ["detection"], "float32", "0 to 1, falling within an image"),
    ("labels", [-1], ["detection"], "int64", "index of the class"),
    ("batch", [-1], ["detection"], "int64", "index of the image"),
)


def stac_path(out: Path) -> Path:
    """Where the item of a model file goes."""
    return out.with_name(out.stem + SUFFIX)


def write_stac(path: Path, model: str, card: ModelCard, facts: ExportFacts, parameters: int, version: str) -> None:
    """Write the item.

    Args:
        path: of the item.
        model: file name of the model beside it.
        card, facts: what the model says of itself.
        parameters: number of weights.
        version: of the framework that runs it.
    """
    framework, media = _FRAMEWORKS.get(Path(model).suffix.lower(), _PYTORCH)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": Path(model).stem,
        "geometry": None,
        "properties": {
            "datetime": now,
            "created": now,
            "description": f"{card.name}: oriented objects in RGB imagery" + _trained(card),
            **_licence(card),
            **_model(card, facts, parameters, framework, version),
        },
        "links": [],
        "assets": {
            "model": {
                "href": f"./{model}",
                "type": media,
                "title": f"{card.recipe}, {facts.precision}",
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": "torch.export.save" if framework == "PyTorch" else framework.lower(),
            }
        },
    }
    path.write_text(json.dumps(item, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _model(card: ModelCard, facts: ExportFacts, parameters: int, framework: str, version: str) -> dict[str, Any]:
    recipe = get_recipe(card.recipe)
    return {
        "mlm:name": card.name,
        "mlm:architecture": f"{TITLES[recipe.detector]}, {recipe.backbone.name}",
        "mlm:tasks": ["object-detection"],
        "mlm:framework": framework,
        "mlm:framework_version": version,
        "mlm:total_parameters": parameters,
        "mlm:pretrained": True,
        "mlm:accelerator_constrained": False,
        "mlm:batch_size_suggestion": 1,
        "mlm:hyperparameters": {
            "recipe": card.recipe,
            "tile": card.tile,
            "overlap": card.overlap,
            "gsd": card.gsd,
            "score_threshold": facts.score_threshold,
            "nms_threshold": facts.nms_threshold,
            "max_detections": facts.max_detections,
            "precision": facts.precision,
            "source_sha256": facts.source_sha256,
        },
        "mlm:input": [_input(facts)],
        "mlm:output": [_output(card, *row) for row in _OUTPUTS],
    }


def _input(facts: ExportFacts) -> dict[str, Any]:
    shape = [1, *facts.size, 3] if facts.size else [-1, -1, -1, 3]
    return {
        "name": "images",
        "description": "8-bit RGB; normalisation is inside the model",
        "bands": ["red", "green", "blue"],
        "input": {"shape": shape, "dim_order": ["batch", "height", "width", "bands"], "data_type": "uint8"},
        "value_scaling": None,
        "resize_type": None,
        "pre_processing_function": None,
    }


def _output(
    card: ModelCard, name: str, shape: list[int], order: list[str], kind: str, description: str
) -> dict[str, Any]:
    output: dict[str, Any] = {
        "name": name,
        "description": description,
        "tasks": ["object-detection"],
        "result": {"shape": shape, "dim_order": order, "data_type": kind},
        "post_processing_function": None,
    }
    if name == "labels":
        output["classification:classes"] = [
            {"value": value, "name": re.sub(r"[^0-9A-Za-z_-]", "_", text), "description": text}
            for value, text in enumerate(card.classes)
        ]
    return output


def _trained(card: ModelCard) -> str:
    return f", trained on {card.trained_on}" if card.trained_on else ""


def _licence(card: ModelCard) -> dict[str, str]:
    """An SPDX name where the licence looks like one."""
    if card.licence is None:
        return {}
    name = card.licence.strip().replace("CC BY-NC 4.0", "CC-BY-NC-4.0")
    return {"license": name if re.fullmatch(r"[\w.+-]+", name) else "other"}
