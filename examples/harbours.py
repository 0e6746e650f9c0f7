"""Sentinel-2 harbours with oriented ships, to train on and to measure with; see train_harbours.py.

A harbour is a GeoTIFF with a GeoJSON layer of ships beside it, as in sen2ships (ShipDetectionExperts, MIT). harbours/
has what was added to these by eye: ships that nobody had labelled, places where ships may be (``difficult``), and
places that look like ships and are none (background.geojson). What is difficult, and bright spots on water without a
label, are neither ship nor background.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer

ADDED = Path(__file__).parent / "harbours"
PERCENTAGES = (0.5, 1, 2, 3, 4, 96, 97, 98, 99, 99.6)  # of dark and of bright stretches
LAND, QUAY, OPEN, OUTSIDE = range(4)  # zones: no water, water that is narrow or near land, open water, no data
RED, GREEN = 1.1, 1.33  # of the blue: dark and even ground above is wood or field; water has up to 1.05 and 1.3

Polygons = NDArray[np.float64]  # (n, 4, 2) corners in pixels
Point = NDArray[np.float64]  # (2,) column and row, or two lengths
Pixels = NDArray[np.float32]  # (h, w, 3)


@dataclass
class Harbour:
    """A scene: ``gsd`` in metres; values of ``PERCENTAGES`` in parts of it (parts, 10, 3); ``zones`` (h, w)."""

    pixels: Pixels
    gsd: float
    ships: Polygons
    ignored: Polygons
    values: NDArray[np.float64]
    zones: NDArray[np.uint8]
    alone: list[Polygons]  # ships with nothing but water about them
    alarms: NDArray[np.float64]  # (n, 2) centres of what looks like a ship and is none

    @property
    def contrast(self) -> float:
        """Range of values of the whole scene."""
        return float((self.values[0, 7] - self.values[0, 2]).mean())


def open_harbour(path: Path) -> Harbour:
    """Read the scene at ``path`` with its labels."""
    with rasterio.open(path) as raster:
        pixels = raster.read().astype(np.float32).transpose(1, 2, 0).copy()
        inverse, middle = ~raster.transform, raster.xy(raster.height // 2, raster.width // 2)
        latitude = Transformer.from_crs(raster.crs, 4326, always_xy=True).transform(*middle)[1]
        gsd = raster.transform.a * math.cos(math.radians(latitude))  # the scale of EPSG:3857 grows with the latitude
    known, added, unsure = read_labels(path, inverse)
    grey = pixels.mean(2)
    low, high = np.percentile(grey, (2, 98))
    bright = ((grey - low) / (high - low)).clip(0, 1.5).astype(np.float32)
    labelled = np.array(known + added).reshape(-1, 4, 2)
    zones = _zones(bright, pixels)
    ignored = np.array(unsure + _spots(bright, labelled, zones != LAND)).reshape(-1, 4, 2)
    alone = [ring for ring in labelled if _is_alone(ring, labelled, zones == OPEN)]
    alarms = [ring.mean(0) for ring, _ in _rings(ADDED / "background.geojson", inverse, harbour=path.stem)]
    places = np.array(alarms).reshape(-1, 2)
    return Harbour(pixels, gsd, labelled, ignored, _part_values(pixels), zones, alone, places)


def read_labels(path: Path, inverse: rasterio.Affine) -> tuple[list[Polygons], list[Polygons], list[Polygons]]:
    """Corners in pixels of the ships of sen2ships, of those added by eye, and of what may be one."""
    listed = _rings(ADDED / f"{path.stem}.geojson", inverse, source="by eye")
    known = [ring for ring, _ in _rings(path.with_suffix(".geojson"), inverse)]
    added, rest = [], []
    for ring, unsure in listed:
        (rest if unsure or size_of(ring)[0] <= 9 else added).append(ring)  # others label no smaller ones
    return known, added, rest


def _rings(path: Path, inverse: rasterio.Affine, **wanted: str) -> list[tuple[Polygons, bool]]:
    """Corners of the polygons of a layer, in pixels, and whether they are difficult; those of ``wanted`` values."""
    if not path.exists():
        return []
    found = []
    for feature in json.loads(path.read_text())["features"]:
        values = feature["properties"]
        if all(values.get(name) == value for name, value in wanted.items()):
            corners = feature["geometry"]["coordinates"][0][:4]
            found.append((np.array([inverse * tuple(corner[:2]) for corner in corners]), bool(values.get("difficult"))))
    return found


def size_of(ring: Polygons) -> Point:
    """Length and breadth of a rectangle."""
    return np.sort(np.linalg.norm(ring[1:3] - ring[:2], axis=1))[::-1]


def filled(rings: list[Polygons], grown: float, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask of polygons, each grown about its centre."""
    mask = np.zeros(shape, np.uint8)
    for ring in rings:
        cv2.fillPoly(mask, [np.rint((ring - ring.mean(0)) * grown + ring.mean(0)).astype(np.int32)], 1)
    return mask


def _part_values(pixels: Pixels) -> NDArray[np.float64]:
    """Values of ``PERCENTAGES`` in the whole scene, four times, and in eight parts."""
    rng, (height, width) = np.random.default_rng(0), pixels.shape[:2]
    values = [np.percentile(pixels.reshape(-1, 3)[::7], PERCENTAGES, axis=0)] * 4
    for _ in range(8):
        rows, cols = int(height * rng.uniform(0.4, 1)), int(width * rng.uniform(0.4, 1))
        top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - cols + 1)
        part = pixels[top : top + rows, left : left + cols].reshape(-1, 3)
        values.append(np.percentile(part[::7], PERCENTAGES, axis=0))
    return np.array(values)


def _zones(bright: NDArray[np.float32], pixels: Pixels) -> NDArray[np.uint8]:
    """Open water is dark, even and not as red or green as fields and woods; other water lies beside it, as dark."""
    mean = cv2.boxFilter(bright, -1, (15, 15))
    deviation = np.sqrt(np.maximum(cv2.boxFilter(bright * bright, -1, (15, 15)) - mean * mean, 0))
    smooth = cv2.boxFilter(pixels, -1, (15, 15))
    blue = (smooth[..., 0] < RED * smooth[..., 2]) & (smooth[..., 1] < GREEN * smooth[..., 2])
    water = (deviation < 0.03) & (mean < 0.35) & blue
    share = cv2.boxFilter(water.astype(np.float32), -1, (25, 25))
    level = cv2.boxFilter(bright * water, -1, (25, 25)) / np.maximum(share, 1e-6)
    like = ((share > 0.02) & (np.abs(bright - level) < 0.06)).astype(np.uint8)
    beside = cv2.morphologyEx(like, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    return np.where(water, OPEN, np.where(beside, QUAY, LAND)).astype(np.uint8)


def _is_alone(ring: Polygons, ships: Polygons, water: NDArray[np.bool_]) -> bool:
    """Whether open water lies on all four sides of a ship, and no other ship near it."""
    centre, length = ring.mean(0), size_of(ring)[0]
    if (np.linalg.norm(ships.mean(1) - centre, axis=1) < 2 * length).sum() > 1:
        return False
    steps = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
    cols, rows = np.rint(centre + steps * (length / 2 + 12)).astype(int).T
    inside = (cols >= 0) & (rows >= 0) & (cols < water.shape[1]) & (rows < water.shape[0])
    return bool(inside.all() and water[rows, cols].all())


def _median(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of values from 0 to 1, over 31 × 31 pixels."""
    return cv2.medianBlur((values.clip(0, 1) * 255).astype(np.uint8), 31).astype(np.float32) / 255


def _spots(bright: NDArray[np.float32], ships: Polygons, wet: NDArray[np.bool_]) -> list[Polygons]:
    """Smallest rectangles, two pixels wider all round, of bright spots on water that are no labelled ships."""
    ground = _median(bright)
    noise = _median(np.abs(bright - ground))
    even = (ground < 0.35) & (noise < 0.035)
    above = (bright - ground > np.maximum(0.08, 5 * noise)).astype(np.uint8)
    above = cv2.morphologyEx(above, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    taken = filled(list(ships), 1.2, bright.shape) > 0
    count, parts, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    found = []
    for number in range(1, count):
        left, top, width, height, area = stats[number].tolist()
        if not 3 <= area <= 260 or max(width, height) > 45:
            continue
        mine = parts[top : top + height, left : left + width] == number
        frame = np.s_[max(top - 4, 0) : top + height + 4, max(left - 4, 0) : left + width + 4]
        rest = np.ones(even[frame].shape, np.bool_)
        rest[min(top, 4) : min(top, 4) + height, min(left, 4) : min(left, 4) + width] = False
        if (even & wet)[frame][rest].mean() < 0.9 or above[frame][rest].mean() > 0.12:
            continue
        if taken[top : top + height, left : left + width][mine].any():
            continue
        points = (np.argwhere(mine)[:, ::-1] + (left + 0.5, top + 0.5)).astype(np.float32)
        middle, (along, across), turn = cv2.minAreaRect(points)
        found.append(cv2.boxPoints((middle, (along + 4, across + 4), turn)).astype(np.float64))
    return found
