"""Training crops of Sentinel-2 harbours with oriented ships; see train_harbours.py.

A harbour is a GeoTIFF with a GeoJSON layer of ships beside it, as in sen2ships (ShipDetectionExperts, MIT). harbours/
has what was added to these by eye: ships that nobody had labelled, places where ships may be (``difficult``), and
places that look like ships and are none (background.geojson), which crops show often. What is difficult, and bright
spots on water without a label, are neither ship nor background.
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

from legnet_cli.geo.stretch import NEUTRAL

ADDED = Path(__file__).parent / "harbours"
PERCENTAGES = (0.5, 1, 2, 3, 4, 96, 97, 98, 99, 99.6)  # of dark and of bright stretches
NEAR_SHIP, NEAR_ALARM = 0.5, 0.3  # shares of crops about a ship, and about what looks like one

Polygons = NDArray[np.float64]  # (n, 4, 2) corners in pixels
Pixels = NDArray[np.float32]  # (h, w, 3)


@dataclass
class Harbour:
    """A scene: ``gsd`` in metres; values of ``PERCENTAGES`` in parts of it (parts, 10, 3); open water (h, w)."""

    pixels: Pixels
    gsd: float
    ships: Polygons
    ignored: Polygons
    values: NDArray[np.float64]
    water: NDArray[np.uint8]
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
    ignored = np.array(unsure + _spots(bright, labelled)).reshape(-1, 4, 2)
    water = _open_water(bright)
    alone = [ring for ring in labelled if _is_alone(ring, labelled, water)]
    alarms = [ring.mean(0) for ring, _ in _rings(ADDED / "background.geojson", inverse, harbour=path.stem)]
    places = np.array(alarms).reshape(-1, 2)
    return Harbour(pixels, gsd, labelled, ignored, _part_values(pixels), water, alone, places)


def read_labels(path: Path, inverse: rasterio.Affine) -> tuple[list[Polygons], list[Polygons], list[Polygons]]:
    """Corners in pixels of the ships of sen2ships, of those added by eye, and of what may be one."""
    listed = _rings(ADDED / f"{path.stem}.geojson", inverse, source="by eye")
    sure = [not unsure and _length(ring) > 9 for ring, unsure in listed]  # others label no smaller ones
    known = [ring for ring, _ in _rings(path.with_suffix(".geojson"), inverse)]
    added, rest = ([ring for (ring, _), one in zip(listed, sure, strict=True) if one is kind] for kind in (True, False))
    return known, added, rest


def crop(
    harbour: Harbour, donors: list[Harbour], size: int, gsd: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Polygons, Polygons]:
    """A square of ``size`` pixels of about ``gsd`` metres, turned and stretched; its ships and ignored places."""
    height, width = harbour.pixels.shape[:2]
    scale = harbour.gsd / gsd * rng.uniform(0.8, 1.3)
    kind = rng.random()
    if kind < NEAR_SHIP + NEAR_ALARM:
        shown = harbour.ships.mean(1) if kind < NEAR_SHIP or not len(harbour.alarms) else harbour.alarms
        centre = shown[rng.integers(len(shown))] + rng.uniform(-0.35, 0.35, 2) * size / scale
    else:
        centre = rng.uniform((0, 0), (width, height))
    matrix = _placing(scale, centre, np.array([size / 2, size / 2]), rng)
    image = cv2.warpAffine(harbour.pixels, matrix, (size, size), borderValue=(-1, -1, -1))
    outside = image[..., 0] < 0
    ships, ignored = (rings @ matrix[:, :2].T + matrix[:, 2] for rings in (harbour.ships, harbour.ignored))
    if donors and rng.random() < 0.4:
        water = cv2.warpAffine(harbour.water, matrix, (size, size), flags=cv2.INTER_NEAREST)
        image, ships = _paste(image, water, ships, ignored, harbour.contrast, donors, gsd, rng)
    picture = _stretched(image, harbour.values, rng)
    picture[outside] = NEUTRAL
    return picture, ships, ignored


def _placing(
    scale: float, source: NDArray[np.float64], target: NDArray[np.float64], rng: np.random.Generator
) -> Pixels:
    """Affine matrix (2, 3) of a random turn and mirroring that takes point ``source`` to ``target``."""
    turn, mirror = rng.uniform(0, 2 * math.pi), rng.choice((-1.0, 1.0))
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    linear = scale * rotation @ np.diag([mirror, 1.0])
    return np.c_[linear, target - linear @ source]


def _paste(
    image: Pixels,
    water: NDArray[np.uint8],
    ships: Polygons,
    ignored: Polygons,
    contrast: float,
    donors: list[Harbour],
    gsd: float,
    rng: np.random.Generator,
) -> tuple[Pixels, Polygons]:
    """``image`` with up to four ships of ``donors`` on its water, and the outlines of all ships."""
    size = image.shape[0]
    rows, cols = np.nonzero(water[16:-16, 16:-16])
    if len(rows) < 400:
        return image, ships
    taken = _filled([*ships, *ignored], 1.5, image.shape[:2])
    added = []
    for _ in range(rng.integers(1, 5)):
        donor = donors[rng.integers(len(donors))]
        ring = donor.alone[rng.integers(len(donor.alone))]
        place = rng.integers(len(rows))
        target = np.array([cols[place] + 16.0, rows[place] + 16.0])
        matrix = _placing(donor.gsd / gsd * rng.uniform(0.7, 1.4), ring.mean(0), target, rng)
        outline = ring @ matrix[:, :2].T + matrix[:, 2]
        around, inner = _filled([outline], 1.4, (size, size)), _filled([outline], 1.1, (size, size))
        rim = (around > 0) & (inner == 0)
        if (around & taken).any() or not water[around > 0].all() or rim.sum() < 8:
            continue
        source = cv2.warpAffine(donor.pixels, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
        weight = cv2.GaussianBlur(inner.astype(np.float32), (0, 0), 1.5)[..., None]
        strength = np.clip(contrast / donor.contrast, 0.5, 2) * rng.uniform(0.7, 1.2)
        moved = (source - np.median(source[rim], 0)) * strength + np.median(image[rim], 0)
        image = image * (1 - weight) + weight * moved
        taken |= around
        added.append(outline)
    return image, np.concatenate([ships, np.array(added).reshape(-1, 4, 2)])


def _stretched(image: Pixels, values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """8-bit by percentiles of the scene or a part of it, as ``predict`` does, with a little of everything else."""
    part = values[rng.integers(len(values))]
    low, high = part[rng.integers(5)], part[5 + rng.integers(5)]
    bright = ((image - low) / (high - low)).clip(0, 1) ** math.exp(rng.normal(0, 0.15))
    picture = bright * 255 * rng.uniform(0.9, 1.1, 3) * rng.uniform(0.85, 1.1) + rng.uniform(-8, 8)
    if rng.random() < 0.3:
        picture = picture + rng.normal(0, rng.uniform(1, 4), picture.shape)
    if rng.random() < 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 0.9))
    return picture.clip(0, 255).astype(np.uint8)


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


def _length(ring: Polygons) -> float:
    return float(np.linalg.norm(np.diff(ring, axis=0), axis=1).max())


def _filled(rings: list[Polygons], grown: float, shape: tuple[int, int]) -> NDArray[np.uint8]:
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


def _open_water(bright: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Where it is dark and even."""
    mean = cv2.boxFilter(bright, -1, (15, 15))
    deviation = np.sqrt(np.maximum(cv2.boxFilter(bright * bright, -1, (15, 15)) - mean * mean, 0))
    return ((deviation < 0.03) & (mean < 0.35)).astype(np.uint8)


def _is_alone(ring: Polygons, ships: Polygons, water: NDArray[np.uint8]) -> bool:
    """Whether open water lies on all four sides of a ship, and no other ship near it."""
    centre, length = ring.mean(0), _length(ring)
    if (np.linalg.norm(ships.mean(1) - centre, axis=1) < 2 * length).sum() > 1:
        return False
    steps = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
    cols, rows = np.rint(centre + steps * (length / 2 + 12)).astype(int).T
    inside = (cols >= 0) & (rows >= 0) & (cols < water.shape[1]) & (rows < water.shape[0])
    return bool(inside.all() and water[rows, cols].all())


def _median(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of values from 0 to 1, over 31 × 31 pixels."""
    return cv2.medianBlur((values.clip(0, 1) * 255).astype(np.uint8), 31).astype(np.float32) / 255


def _spots(bright: NDArray[np.float32], ships: Polygons) -> list[Polygons]:
    """Smallest rectangles, two pixels wider all round, of bright spots on water that are no labelled ships."""
    ground = _median(bright)
    noise = _median(np.abs(bright - ground))
    even = (ground < 0.35) & (noise < 0.035)
    above = (bright - ground > np.maximum(0.08, 5 * noise)).astype(np.uint8)
    above = cv2.morphologyEx(above, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    taken = _filled(list(ships), 1.2, bright.shape) > 0
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
        if even[frame][rest].mean() < 0.9 or above[frame][rest].mean() > 0.12:
            continue
        if taken[top : top + height, left : left + width][mine].any():
            continue
        points = (np.argwhere(mine)[:, ::-1] + (left + 0.5, top + 0.5)).astype(np.float32)
        middle, (along, across), turn = cv2.minAreaRect(points)
        found.append(cv2.boxPoints((middle, (along + 4, across + 4), turn)).astype(np.float64))
    return found
