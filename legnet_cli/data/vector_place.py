"""Where the polygons of a vector file belong that does not say it: its reference system, and the images of its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.data.labels import Problem, Size
from legnet_cli.errors import DataError, GeoError
from legnet_cli.geo.crs import CRS, WGS84
from legnet_cli.geo.georef import Georef, read_georef
from legnet_cli.geo.polygons import PolygonTable, to_pixels

# what SpaceNet's names of labels and of images have and the other lack: buildings_AOI_2_Vegas_img1.geojson is of
# RGB-PanSharpen_AOI_2_Vegas_img1.tif
_KINDS = {"buildings", "building", "geojson", "geo", "roads", "labels"} | {
    "pan", "mul", "mul-pansharpen", "rgb-pansharpen", "ps-rgb", "ps-ms", "ps-rgbnir", "rgb", "ms", "8band", "3band",
}  # fmt: skip
_SPACENET = re.compile(r"(^|_)AOI_\d+_", re.IGNORECASE)


def images_named(places: Sequence[Path], images: Sequence[Path]) -> dict[Path, Path]:
    """The image of each of the label files ``places`` that has one of its name: beside it, else the only one anywhere.

    Names are alike, too, but for the words that tell SpaceNet's labels from its images.
    """
    found: dict[Path, Path] = {}
    for key in (_scene_key, lambda path: path.stem):
        named: dict[str, list[Path]] = {}
        for image in images:
            named.setdefault(key(image), []).append(image)
        for path in places:
            alike = named.get(key(path), [])
            nearest = [image for image in alike if image.parent == path.parent] or alike
            if len(nearest) == 1:
                found[path] = nearest[0]
    return found


def _scene_key(path: Path) -> str:
    return "_".join(word for word in path.stem.lower().split("_") if word not in _KINDS)


def named_class(path: Path) -> str | None:
    """The class of all polygons in one of SpaceNet's files, which have no column for it; None for another file."""
    words = {*path.stem.lower().split("_"), path.parent.name.lower()}
    return "building" if _SPACENET.search(path.stem) and words & {"buildings", "building", "geo"} else None


def without_degrees(table: PolygonTable) -> PolygonTable:
    """``table`` without its reference system, if that has degrees and most of its coordinates cannot be some.

    GeoJSON that does not name another system is in degrees, but many programs leave the name out.
    """
    points = [polygon for polygon in table.points if len(polygon)]
    if table.crs is None or not table.crs.is_geographic or not points:
        return table
    lon, lat = np.abs(np.concatenate(points)).T
    return replace(table, crs=None) if ((lon > 1080) | (lat > 90)).mean() > 0.5 else table


def located(
    table: PolygonTable, images: Sequence[tuple[Path, Size]], path: Path, problems: list[Problem]
) -> PolygonTable:
    """``table``, which has no reference system, in pixels or in the system in which it lies on one of ``images``.

    Raises:
        DataError: it lies on none of them, in pixels, in their own system or in degrees.
    """
    points = [polygon for polygon in table.points if len(polygon)]
    if not points or _in_pixels(points, np.max([size for _, size in images], 0)):
        return table
    georefs = [georef for image, _ in images if (georef := _georef(image)) is not None]
    systems = {georef.crs.to_wkt(): georef.crs for georef in georefs if georef.crs is not None}
    for crs in (*systems.values(), WGS84) if systems else ():
        placed = table.in_system(crs)
        if any(_lies_on(placed, crs, georef) for georef in georefs):
            problems.append(Problem(str(path), f"has no reference system (.prj): taken as {crs.name}"))
            return placed
    if systems:
        advice = "add its .prj, or set it with ogr2ogr -a_srs EPSG:n"
        raise DataError(f"{path}: has no reference system, and lies on none of the images in theirs: {advice}")
    return table


def _in_pixels(points: list[Array], size: NDArray[np.int64]) -> bool:
    """Whether most of the polygons can be in pixels: within an image, and not smaller than a pixel."""
    centres = np.array([polygon.mean(0) for polygon in points])
    sides = np.array([np.ptp(polygon, 0).max() for polygon in points])
    return bool(np.median((centres >= 0).all(1) & (centres <= size).all(1) & (sides >= 1)) > 0.5)


def _georef(path: Path) -> Georef | None:
    try:
        return read_georef(path)
    except DataError:  # whoever reads the image will say so
        return None


def _lies_on(table: PolygonTable, crs: CRS, georef: Georef) -> bool:
    """Whether the centre of a polygon lies on the image of ``georef``."""
    if georef.crs is None:
        return False
    try:
        pixels = to_pixels([polygon for polygon in table.points if len(polygon)], crs, georef)
    except GeoError:
        return False
    centres: NDArray[np.float64] = np.array([polygon.mean(0) for polygon in pixels])
    return bool(((centres >= 0) & (centres < (georef.width, georef.height))).all(1).any())
