"""Training crops of harbours (see harbours.py): turned, stretched as ``predict`` does it, with ships of other places.

Ships are pasted on open water, along quays and side by side across them, also on land, where they are background: what
tells a ship from a hall is where it lies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from harbours import LAND, OPEN, OUTSIDE, QUAY, Harbour, Pixels, Point, Polygons, filled, size_of
from numpy.typing import NDArray

from legnet_cli.geo.stretch import NEUTRAL

NEAR_SHIP, NEAR_ALARM = 0.5, 0.3  # shares of crops about a ship, and about what looks like one
PASTED, MOST = 0.6, 7  # share of crops with pasted ships, and the most in one
SHARES = {OPEN: 0.25, QUAY: 0.5, LAND: 0.25}  # of pasted ships
NEXT = 0.75  # share of ships across the shore that get one beside them
EDGE = 16

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Berth:
    """Where a ship is pasted: zone, centre in pixels, direction in radians, and whether it lies across the shore."""

    zone: int
    centre: Point
    direction: float
    across: bool = False


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
    turn = (0.0, rng.uniform(0, 2 * math.pi))
    matrix = _placing(centre, np.full(2, size / 2), np.full(2, scale), turn, rng.choice((-1.0, 1.0)))
    image = cv2.warpAffine(harbour.pixels, matrix, (size, size), borderValue=(-1, -1, -1))
    outside = image[..., 0] < 0
    ships, ignored = (rings @ matrix[:, :2].T + matrix[:, 2] for rings in (harbour.ships, harbour.ignored))
    if donors and rng.random() < PASTED:
        zones = cv2.warpAffine(harbour.zones, matrix, (size, size), flags=cv2.INTER_NEAREST, borderValue=OUTSIDE)
        image, added = _paste(image, Ground(zones, [*ships, *ignored]), harbour.contrast, donors, gsd, rng)
        ships = np.concatenate([ships, np.array(added).reshape(-1, 4, 2)])
    picture = _stretched(image, harbour.values, rng)
    picture[outside] = NEUTRAL
    return picture, ships, ignored


def _placing(source: Point, target: Point, scales: Point, turn: tuple[float, float], mirror: float) -> Pixels:
    """Affine matrix (2, 3) that takes point ``source`` to ``target`` and the first direction of ``turn`` to the second.

    Directions in radians; ``scales`` along and across the first, ``mirror`` 1 or -1.
    """
    linear = _rotation(turn[1]) @ np.diag([scales[0], mirror * scales[1]]) @ _rotation(-turn[0])
    return np.c_[linear, target - linear @ source]


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


class Ground:
    """What lies where in a crop, and where a ship still fits."""

    def __init__(self, zones: NDArray[np.uint8], objects: list[Polygons]) -> None:
        self._zones = zones
        self._wet = (zones == OPEN) | (zones == QUAY)
        self._shore = cv2.distanceTransform((zones != LAND).astype(np.uint8), cv2.DIST_L2, 5)  # pixels from land
        self._taken = filled(objects, 1.2, zones.shape) > 0

    def berth(self, size: Point, rng: np.random.Generator) -> Berth | None:
        """A place for a ship of ``size``; one beside the shore touches it."""
        zone = int(rng.choice(list(SHARES), p=list(SHARES.values())))
        if zone != QUAY:
            centre = self._pixel(self._zones == zone, rng)
            return None if centre is None else Berth(zone, centre, rng.uniform(0, 2 * math.pi))
        across = bool(rng.random() < 0.5)
        distance = np.abs(self._shore - size[0 if across else 1] / 2 - 0.5)
        centre = self._pixel(self._wet & (distance < 0.7), rng)
        if centre is None:
            return None
        direction = self._towards_land(centre) + (0 if across else math.pi / 2)
        return Berth(QUAY, centre, direction, across)

    def beside(self, berth: Berth, offset: float) -> Berth | None:
        """The place ``offset`` pixels to the side."""
        centre = berth.centre + _rotation(berth.direction) @ (0, offset)
        fits = (centre >= EDGE).all() and (centre < np.subtract(self._zones.shape[::-1], EDGE)).all()
        return Berth(berth.zone, centre, berth.direction, berth.across) if fits else None

    def masks(self, outline: Polygons, zone: int) -> tuple[Mask, Mask, Mask] | None:
        """A ship, its rim and what of that is free ground of the zone, unless the ship does not fit."""
        around, inner = (filled([outline], grown, self._zones.shape) > 0 for grown in (1.4, 1.1))
        if zone == QUAY:
            misplaced = (inner & ~self._wet).sum() > 0.15 * inner.sum()
        else:
            misplaced = (around & (self._zones != zone)).any()
        rim = around & ~inner
        free = rim & ~self._taken & (self._zones == LAND if zone == LAND else self._wet)
        return None if misplaced or (inner & self._taken).any() or free.sum() < 8 else (inner, rim, free)

    def take(self, outline: Polygons) -> None:
        """A ship lies there now."""
        self._taken |= filled([outline], 1.05, self._zones.shape) > 0

    def _pixel(self, allowed: Mask, rng: np.random.Generator) -> Point | None:
        """Column and row of an ``allowed`` pixel away from the edges, unless there are few."""
        rows, cols = np.nonzero(allowed[EDGE:-EDGE, EDGE:-EDGE])
        if len(rows) < 20:
            return None
        chosen = rng.integers(len(rows))
        return np.array([cols[chosen], rows[chosen]], np.float64) + EDGE

    def _towards_land(self, centre: Point) -> float:
        col, row = centre.astype(int)
        near = cv2.GaussianBlur(self._shore[row - 8 : row + 9, col - 8 : col + 9], (0, 0), 2)
        return math.atan2(near[6, 8] - near[10, 8], near[8, 6] - near[8, 10])


def _paste(
    image: Pixels, ground: Ground, contrast: float, donors: list[Harbour], gsd: float, rng: np.random.Generator
) -> tuple[Pixels, list[Polygons]]:
    """``image`` with some ships of ``donors``, and the outlines of those on water."""
    ships: list[Polygons] = []
    last: tuple[Berth, float] | None = None  # the ship before and its breadth, if another may lie beside it
    for _ in range(rng.integers(1, MOST + 1)):
        donor = donors[rng.integers(len(donors))]
        ring = donor.alone[rng.integers(len(donor.alone))]
        scales = donor.gsd / gsd * rng.uniform(0.7, 1.4) * rng.uniform(0.85, 1.15, 2)
        size = size_of(ring) * scales
        if last is not None and rng.random() < NEXT:
            berth = ground.beside(last[0], (size[1] + last[1]) / 2 + rng.uniform(0, 4))
        else:
            berth = ground.berth(size, rng)
        last = None
        if berth is None:
            continue
        turn = (_direction(ring), berth.direction)
        matrix = _placing(ring.mean(0), berth.centre, scales, turn, rng.choice((-1.0, 1.0)))
        outline = ring @ matrix[:, :2].T + matrix[:, 2]
        masks = ground.masks(outline, berth.zone)
        if masks is None:
            continue
        inner, rim, free = masks
        source = cv2.warpAffine(donor.pixels, matrix, inner.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        strength = np.clip(contrast / donor.contrast, 0.5, 2) * rng.uniform(0.7, 1.2) * rng.uniform(0.7, 1.3, 3)
        ship = (source - np.median(source[rim], 0)) * strength
        if np.percentile(ship[inner].max(1), 80) < 0.12 * contrast:  # hardly to be seen
            continue
        weight = cv2.GaussianBlur(inner.astype(np.float32), (0, 0), 1.5)[..., None]
        image = image * (1 - weight) + weight * (ship + np.median(image[free], 0))
        ground.take(outline)
        last = (berth, size[1]) if berth.across else None
        if berth.zone != LAND:
            ships.append(outline)
    return image, ships


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


def _direction(ring: Polygons) -> float:
    """Of the long sides of a rectangle, in radians."""
    sides = ring[1:3] - ring[:2]
    along = sides[np.linalg.norm(sides, axis=1).argmax()]
    return math.atan2(along[1], along[0])
