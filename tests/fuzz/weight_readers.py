"""Readers of weight files, model cards and addresses of weights."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request

import pytest
import torch
from reader import Reader, as_bytes
from safetensors.torch import save

from legnet_cli.detectors.metadata import from_metadata
from legnet_cli.detectors.weights import fetch
from legnet_cli.detectors.weights.checkpoint import read_checkpoint

CARD = {
    "version": 1,
    "name": "m",
    "recipe": "oriented-rcnn/legnet-tiny",
    "classes": ["a", "b", "c"],
    "tile": 1024,
    "overlap": 200,
    "gsd": 0.5,
    "stretch": "auto",
    "licence": None,
    "trained_on": "x",
    "data_sha256": None,
    "model": None,
}
FACTS = {
    "legnet": 1,
    "precision": "fp32",
    "score_threshold": 0.05,
    "nms_threshold": 0.1,
    "max_detections": 9,
    "size": [64, 64],
}


def tensors() -> dict[str, torch.Tensor]:
    shapes = {
        "backbone.Stem.LoG.conv_init.weight": (8, 3, 7, 7),
        "rpn_head.rpn_cls.weight": (3, 2, 1, 1),
        "rpn_head.rpn_reg.weight": (18, 2, 1, 1),
        "roi_head.bbox_head.fc_cls.weight": (4, 2),
    }
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def saved(content: Any, **options: Any) -> bytes:
    memory = io.BytesIO()
    torch.save(content, memory, **options)
    return memory.getvalue()


def read_card(folder: Path) -> None:
    text = (folder / "card.json").read_text("utf-8", "replace")
    (folder / "w.safetensors").write_bytes(save(tensors(), {"legnet": text}))
    read_checkpoint(folder / "w.safetensors")


def read_exported(folder: Path) -> None:
    try:
        values = json.loads((folder / "card.json").read_bytes())
        metadata = {str(key): json.dumps(value) for key, value in values.items()}
    except (ValueError, AttributeError, RecursionError):
        metadata = {key: (folder / "card.json").read_text("utf-8", "replace") for key in (*CARD, *FACTS)}
    from_metadata(metadata, folder / "a.onnx")


def weight_readers() -> dict[str, Reader]:
    meta = {"CLASSES": ("a", "b", "c"), "epoch": 12}
    pth = [saved({"meta": meta, "state_dict": tensors()}), saved(tensors())]
    legacy = [saved({"state_dict": tensors(), "meta": meta}, _use_new_zipfile_serialization=False)]
    sound = [save(tensors(), {"legnet": json.dumps(CARD)})]
    return {
        "weights: .pth": Reader("w.pth", pth, lambda folder: read_checkpoint(folder / "w.pth")),
        "weights: legacy .pth": Reader("w.pth", legacy, lambda folder: read_checkpoint(folder / "w.pth")),
        "weights: .safetensors": Reader(
            "w.safetensors", sound, lambda folder: read_checkpoint(folder / "w.safetensors")
        ),
        "weights: card": Reader("card.json", [as_bytes(CARD)], read_card),
        "weights: exported": Reader("card.json", [as_bytes(CARD | FACTS | {"source_sha256": "0"})], read_exported),
        "weights: URL": Reader(
            "url", [b"https://example.org/a/w.pth?x=1", b"legnet-tiny-dota10", b"w.pth"], read_url, sound=False
        ),
        "weights: .sha256": Reader(
            "w.pth.sha256",
            [hashlib.sha256(b"a").hexdigest().encode() + b"  w.pth\n"],
            lambda folder: fetch._check_hash(folder / "w.pth"),
            {"w.pth": b"a"},
        ),
    }


def read_url(folder: Path) -> None:
    class Offline:
        def open(self, request: Request, **_: object) -> None:
            request.full_url.encode("ascii")
            raise URLError("offline")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "_opener", Offline)
        patch.setenv("LEGNET_CACHE", str(folder / "cache"))
        fetch.fetch((folder / "url").read_bytes().decode("utf-8", "surrogateescape"))
