"""The authors' implementation: its tensors' names, filled by a fixed rule, and what it made of one image.

``tests/golden/README.md`` says how the files there were made.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"
LEGNET, UNRAVELNET = "orcnn_legnet_tiny_dota10_test_ss_e36", "ORCNN_unravelnet_tiny_fpn_le90_dota10val_ss_e36"
_CLASSIFY = ("fc_cls", "retina_cls", "conv_cls", "odm_cls")
_REGRESS = ("fc_reg", "rpn_reg", "retina_reg", "conv_reg", "conv_angle", "odm_reg")


def golden(name):
    """Shapes of all tensors, counts of parameters, and samples of the backbone's features."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def golden_boxes(name, classes=15):
    """Detections of the whole detector on ``image()``: for each class (n, 6), cx, cy, w, h, angle (le90), score."""
    stored = np.load(GOLDEN / f"{name}.npz")
    return [torch.from_numpy(stored[f"c{number}"]).float() for number in range(classes)]


def golden_state(shapes):
    """Tensors of ``shapes`` (name to shape) as the reference had them, without those that are stored twice."""
    return {
        name: torch.from_numpy(np.asarray(_values(name, tuple(shape)))).reshape(shape)
        for name, shape in shapes.items()
        if ".LFEA.block." not in name and ".BGA.block." not in name
    }


def _values(name, shape):
    """Values that follow from name and shape alone."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    normal = rng.standard_normal(shape).astype(np.float32)
    if leaf == "running_var":
        return 0.5 + rng.random(shape).astype(np.float32)
    if len(shape) >= 2:
        gain = 8.0 if any(part in name for part in _CLASSIFY) else 0.3 if any(part in name for part in _REGRESS) else 1
        return normal * np.float32(gain * np.sqrt(1 / np.prod(shape[1:])))
    if leaf == "scale":
        return np.ones(shape, np.float32)
    return 0.6 + 0.1 * normal if leaf == "weight" else 0.05 * normal


def image(size=1024, seed=7):
    """RGB (h, w, 3) uint8: waves, sixty bright or dark rotated rectangles, noise."""
    rng = np.random.Generator(np.random.PCG64(seed))
    row, col = np.mgrid[:size, :size].astype(np.float32)
    pixels = np.zeros((size, size, 3), np.float32)
    for band in range(3):
        for _ in range(6):
            across, down, phase = rng.uniform(0.002, 0.02), rng.uniform(0.002, 0.02), rng.uniform(0, 6.28)
            pixels[..., band] += 20 * np.sin(across * col + down * row + phase)
    pixels += 110
    for _ in range(60):
        cx, cy = rng.uniform(40, size - 40, 2)
        w, h, angle = rng.uniform(14, 80), rng.uniform(8, 40), rng.uniform(-np.pi / 2, np.pi / 2)
        along = (col - cx) * np.cos(angle) + (row - cy) * np.sin(angle)
        across = -(col - cx) * np.sin(angle) + (row - cy) * np.cos(angle)
        pixels[(abs(along) < w / 2) & (abs(across) < h / 2)] = rng.uniform(20, 240, 3)
    pixels += rng.normal(0, 4, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)
