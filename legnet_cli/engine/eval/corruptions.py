"""Corruptions of remote-sensing images, in five severities: noise, blur, light, haze, stripes, coding, coarse pixels.

What happens to a pixel depends on the seed, the image's name and the pixel's place in the image, never on the window
it is read through: tiles that overlap agree, and an image of any size needs the memory of a tile.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from legnet_cli.engine.predict import PixelGrid
from legnet_cli.tiles import Tile

Image = NDArray[np.uint8]
Values = NDArray[np.float32]

SEVERITIES = (1, 2, 3, 4, 5)
AIRLIGHT = 230.0  # grey value of dense haze
FULL_WELL = 400.0  # photons of a white pixel in full light

_BLOCK = 256  # px: noise is drawn in blocks of the image, each from a generator of its own
_ALIGN = 48  # px: holds whole JPEG blocks (16) and whole coarse pixels (2, 3, 4, 6, 8)
_HALO = 24  # px that blur and resampling reach


@dataclass(frozen=True)
class Corruption:
    """One of ``KINDS`` and how severe it is, 1 to 5."""

    kind: str
    severity: int


@dataclass(frozen=True)
class Place:
    """Where in an image a window lies, and what its random numbers start from."""

    seed: int
    image: str
    row: int = 0
    col: int = 0

    def generator(self, *numbers: int) -> np.random.Generator:
        """Random numbers that belong to the image and ``numbers``."""
        return np.random.default_rng([self.seed, zlib.crc32(self.image.encode()), *numbers])

    def normal(self, shape: tuple[int, ...]) -> Values:
        """Standard normal noise (h, w, channels) of the window."""
        height, width, channels = shape
        noise = np.empty(shape, np.float32)
        for top, rows in _blocks(self.row, height):
            for left, cols in _blocks(self.col, width):
                block = self.generator(top, left).standard_normal((_BLOCK, _BLOCK, channels), np.float32)
                y, x = self.row + rows.start - top * _BLOCK, self.col + cols.start - left * _BLOCK
                noise[rows, cols] = block[y : y + rows.stop - rows.start, x : x + cols.stop - cols.start]
        return noise


def _blocks(start: int, length: int) -> Iterator[tuple[int, slice]]:
    """Number of each block of the image that the window reaches, and its part of the window."""
    for number in range(start // _BLOCK, (start + length - 1) // _BLOCK + 1):
        yield number, slice(max(number * _BLOCK - start, 0), min((number + 1) * _BLOCK - start, length))


def _gaussian_noise(image: Values, sigma: float, place: Place) -> Values:
    """Noise of ``sigma`` grey values, like that of a sensor's electronics."""
    return image + sigma * _noise(image, place)


def _speckle_noise(image: Values, sigma: float, place: Place) -> Values:
    """Noise in proportion to the signal."""
    return image * (1 + sigma * _noise(image, place))


def _defocus_blur(image: Values, radius: float, place: Place) -> Values:
    """Every point becomes a disc of ``radius`` pixels."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)  # soft edge: the share of each pixel inside
    return _filter(image, disc)


def _motion_blur(image: Values, length: float, place: Place) -> Values:
    """Every point becomes a line of ``length`` pixels, in a direction of the image's own."""
    angle = place.generator().uniform(0, np.pi)
    reach = int(length) // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    line = np.clip(length / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    return _filter(image, line)


def _low_light(image: Values, light: float, place: Place) -> Values:
    """A share of the ``light``, with the noise of the few photons left."""
    photons = image * (FULL_WELL / 255 * light)
    photons += np.sqrt(photons) * _noise(image, place)
    return photons * (255 / FULL_WELL)


def _haze(image: Values, transmission: float, place: Place) -> Values:
    """Haze that lets a share of the signal through, thicker and thinner over some hundreds of pixels."""
    height, width = image.shape[:2]
    y, x = np.arange(height)[:, None] + place.row, np.arange(width)[None] + place.col
    thickness = np.full((height, width), -np.log(transmission))
    draw = place.generator()
    for wave in (1600.0, 700.0, 300.0):
        heading, phase = draw.uniform(0, 2 * np.pi, 2)
        down, right = y * (np.sin(heading) * 2 * np.pi / wave) + phase, x * (np.cos(heading) * 2 * np.pi / wave)
        ripple = np.sin(down) * np.cos(right) + np.cos(down) * np.sin(right)
        thickness *= 1 + 0.15 * ripple
    through = np.exp(-thickness).astype(np.float32)[..., None]
    return np.asarray(image * through + AIRLIGHT * (1 - through), np.float32)


def _stripes(image: Values, sigma: float, place: Place) -> Values:
    """Columns brighter and darker by ``sigma`` grey values, like those of an uncalibrated line sensor."""
    offsets = place.generator().standard_normal(place.col + image.shape[1], np.float32)[place.col :]
    return np.asarray(image + sigma * offsets[None, :, None], np.float32)


def _jpeg(image: Values, quality: float, place: Place) -> Values:
    """JPEG coding at ``quality``."""
    coded = cv2.imencode(".jpg", _to_bytes(image)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.float32)[..., ::-1]


def _lower_gsd(image: Values, factor: float, place: Place) -> Values:
    """Pixels ``factor`` times as wide, shown at the old size."""
    step = int(factor)
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, 0, -height % step, 0, -width % step, cv2.BORDER_REPLICATE)
    size = padded.shape[1] // step, padded.shape[0] // step
    coarse = cv2.resize(padded, size, interpolation=cv2.INTER_AREA)
    shown = cv2.resize(coarse, padded.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(shown, np.float32)[:height, :width]


Effect = Callable[[Values, float, Place], Values]

# what each does, and its strength at severities 1 to 5
KINDS: dict[str, tuple[Effect, tuple[float, ...]]] = {
    "gaussian-noise": (_gaussian_noise, (8, 16, 26, 38, 52)),
    "speckle-noise": (_speckle_noise, (0.1, 0.2, 0.3, 0.45, 0.6)),
    "defocus-blur": (_defocus_blur, (1, 2, 3, 4.5, 6)),
    "motion-blur": (_motion_blur, (5, 9, 15, 21, 31)),
    "low-light": (_low_light, (0.6, 0.4, 0.25, 0.15, 0.08)),
    "haze": (_haze, (0.8, 0.65, 0.5, 0.35, 0.2)),
    "stripes": (_stripes, (4, 8, 14, 22, 32)),
    "jpeg": (_jpeg, (50, 30, 20, 12, 7)),
    "lower-gsd": (_lower_gsd, (2, 3, 4, 6, 8)),
}


def corrupt(image: Image, corruption: Corruption, place: Place) -> Image:
    """A corrupted window of an image, RGB (h, w, 3).

    Args:
        image: the window; its first row and column should be multiples of 48 for kinds that work on blocks.
        corruption: what to do.
        place: where the window lies, in which image.
    """
    apply, strengths = KINDS[corruption.kind]
    return _to_bytes(apply(image.astype(np.float32), strengths[corruption.severity - 1], place))


@dataclass(frozen=True)
class CorruptedGrid:
    """A pixel grid of the image called ``image``, corrupted; safe to read from many threads if ``grid`` is."""

    grid: PixelGrid
    corruption: Corruption
    seed: int
    image: str

    @property
    def height(self) -> int:
        """Rows."""
        return self.grid.height

    @property
    def width(self) -> int:
        """Columns."""
        return self.grid.width

    def read(self, tile: Tile) -> tuple[Image, NDArray[np.bool_]]:
        """Corrupted RGB pixels (h, w, 3) and which of them are valid (h, w); others stay as they are."""
        row, height = _widen(tile.row, tile.height, self.height)
        col, width = _widen(tile.col, tile.width, self.width)
        image, valid = self.grid.read(Tile(row, col, height, width))
        corrupted = corrupt(image, self.corruption, Place(self.seed, self.image, row, col))
        corrupted[~valid] = image[~valid]
        top, left = tile.row - row, tile.col - col
        inner = np.s_[top : top + tile.height, left : left + tile.width]
        return corrupted[inner], valid[inner]


def _widen(start: int, length: int, limit: int) -> tuple[int, int]:
    """Start and length of the aligned range within 0 … ``limit`` that holds a range and its halo."""
    first = max((start - _HALO) // _ALIGN * _ALIGN, 0)
    stop = min(-(-(start + length + _HALO) // _ALIGN) * _ALIGN, limit)
    return first, stop - first


def _noise(image: Values, place: Place) -> Values:
    """Noise for each channel of its own; the same for all where the image is grey."""
    grey = bool((image == image[..., :1]).all())
    return place.normal((*image.shape[:2], 1 if grey else 3))


def _filter(image: Values, kernel: NDArray[np.float64]) -> Values:
    kernel = (kernel / kernel.sum()).astype(np.float32)
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.float32)


def _to_bytes(image: Values) -> Image:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
