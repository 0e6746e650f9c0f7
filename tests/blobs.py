"""Rectangles of known place and brightness, and a detector that finds them by it."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from rasterio.transform import Affine

from legnet_cli.boxes import Detections, boxes_to_polygons, to_le90
from legnet_cli.detectors.weights.card import ModelCard

CLASSES = ("dim", "bright")
HALF_METRE = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)


@dataclass
class BlobDetector:
    """Finds rectangles over 120 on a dark ground: "bright" ones over 200, "dim" ones below."""

    card: ModelCard = field(
        default_factory=lambda: ModelCard("blobs", "oriented-rcnn/legnet-nano", CLASSES, tile=128, overlap=48)
    )
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batches: list[int] = field(default_factory=list)
    precision: str = "fp32"
    engine: str = "torch"
    kernels: str = "direct"
    network: None = None

    def detect(self, images):
        self.batches.append(len(images))
        return [self._one(image[..., 0]) for image in images]

    def _one(self, grey):
        rows = []
        for label, seen in enumerate([(grey > 120) & (grey <= 200), grey > 200]):
            contours, _ = cv2.findContours(seen.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            for contour in contours:
                (x, y), (w, h), angle = cv2.minAreaRect(contour)
                if min(w, h) >= 3:  # contours run through pixel centres
                    rows.append((x + 0.5, y + 0.5, w + 1, h + 1, np.deg2rad(angle), 0.5 + 0.001 * len(rows), label))
        table = np.array(rows, float).reshape(-1, 7)
        return Detections(to_le90(table[:, :5]), table[:, 5].astype(np.float32), table[:, 6].astype(np.int64))


def draw(shape, boxes, values):
    """Grey image (h, w) uint8 of filled boxes (n, 5) on a dark ground."""
    image = np.full(shape, 30, np.uint8)
    for corners, value in zip(boxes_to_polygons(np.array(boxes, float).reshape(-1, 5)), values, strict=True):
        # pixel centres of cv2 lie at whole numbers
        cv2.fillPoly(image, [np.round((corners - 0.5) * 256).astype(np.int32)], int(value), shift=8)
    return image


VALUES = {"dim": 150, "bright": 250}


def write_tiles(root, parts=(("train", 8), ("val", 2)), side=96, names=("dim", "bright")):
    """Tiles of a few rectangles in DOTA's layout, told apart by their brightness; the last one of a part is empty."""
    rng = np.random.default_rng(0)
    for part, count in parts:
        for folder in ("images", "labelTxt"):
            (root / part / folder).mkdir(parents=True)
        for number in range(count):
            boxes = np.array([(24, 24, 30, 16, rng.uniform(-1, 1)), (68, 66, 34, 18, rng.uniform(-1, 1))])
            boxes = boxes[: 0 if number == count - 1 and count > 2 else 2]
            labels = [names[i % len(names)] for i in rng.permutation(2)][: len(boxes)]
            pixels = draw((side, side), boxes, [VALUES[name] for name in labels])
            cv2.imwrite(str(root / part / "images" / f"{part}{number}.png"), pixels)
            rows = [
                " ".join(f"{value:.2f}" for value in quad.ravel()) + f" {name} 0\n"
                for quad, name in zip(boxes_to_polygons(boxes), labels, strict=True)
            ]
            (root / part / "labelTxt" / f"{part}{number}.txt").write_text("".join(rows))
    return root
