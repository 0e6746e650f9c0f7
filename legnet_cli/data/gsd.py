"""Ground sampling distance of labelled images, as far as anybody says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from legnet_cli.data.labels import ImageLabels
from legnet_cli.data.tile_notes import SPLIT_RECORD
from legnet_cli.errors import DataError
from legnet_cli.geo.georef import read_georef
from legnet_cli.geo.raster import grid_size

_MAPPED = (".tif", ".tiff", ".jp2")  # images that may say where on the ground they lie


def image_gsd(image: ImageLabels, zoom: float = 1.0) -> NDArray[np.float64]:
    """Metres per pixel (2,) along columns and rows, from the georeference or what the labels say; NaN if unknown.

    ``zoom`` is how often a tile was enlarged before it was cut: its georeference is of the pixels after that, what its
    labels say of those before.

    Raises:
        DataError: the image is not a raster.
    """
    if image.path is not None and image.path.suffix.lower() in _MAPPED:
        georef = read_georef(image.path)
        if georef.gsd is not None:
            return np.array(georef.gsd) * zoom
    try:
        return np.full(2, float(image.meta.get("gsd") or np.nan))
    except ValueError:  # DOTA writes "null"
        return np.full(2, np.nan)


def resampled(image: ImageLabels, gsd: float) -> ImageLabels:
    """The labels of an image, and its size, where its pixels measure ``gsd`` metres.

    Raises:
        DataError: the ground sampling distance of the image is unknown.
        ConfigError: it is much too coarse.
    """
    own, name = image_gsd(image), str(image.path or image.file)
    if not np.isfinite(own).all() or image.size is None:
        raise DataError(f"{name}: its ground sampling distance is unknown: leave out --gsd, or the image")
    size = grid_size(image.size, (own[0], own[1]), gsd, name)
    return replace(image, quads=image.quads * (np.array(size) / image.size), size=size)


def gsd_range(values: Sequence[NDArray[np.float64]]) -> tuple[float, float] | None:
    """Least and greatest mean of the two sides, without the outermost 5 % at each end; None if all are unknown."""
    sides = np.sqrt(np.prod(np.reshape(values, (-1, 2)), 1))
    sides = sides[np.isfinite(sides) & (sides > 0)]
    if not len(sides):
        return None
    low, high = np.quantile(sides, (0.05, 0.95))
    return float(f"{low:.4g}"), float(f"{high:.4g}")


def dataset_gsd(root: Path, images: Sequence[ImageLabels]) -> tuple[float, float] | None:
    """The range over ``images`` of the data set at ``root``, or the one that its split recorded; None if unknown.

    Raises:
        DataError: an image is not a raster.
    """
    return gsd_range([image_gsd(image) for image in images]) or _recorded(root / SPLIT_RECORD)


def _recorded(path: Path) -> tuple[float, float] | None:
    try:
        low, high = json.loads(path.read_text(encoding="utf-8"))["gsd"]
        return (float(low), float(high)) if 0 < low <= high < float("inf") else None
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
