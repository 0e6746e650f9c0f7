"""Labels as polygons of a GeoPackage or GeoJSON file, in map coordinates or pixels.

A column ``image`` (or ``scene``) names the image of a polygon; without it a polygon belongs to every image that its
centre lies on. Corners come back clockwise on the screen from the first one on: the formats keep no other direction.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.data.builder import LabelBuilder
from legnet_cli.data.detect import Part
from legnet_cli.data.images import find_images, image_size
from legnet_cli.data.labels import (
    SUBPIXEL,
    Dataset,
    ImageLabels,
    Problem,
    Scalar,
    strip_image_suffix,
)
from legnet_cli.data.parts import summary
from legnet_cli.data.vector_place import located, named_class, without_degrees
from legnet_cli.errors import DataError, GeoError, counted
from legnet_cli.geo.crs import WGS84
from legnet_cli.geo.georef import Georef, read_georef
from legnet_cli.geo.polygons import PolygonTable, read_polygons, to_pixels
from legnet_cli.geo.rings import rows_as_y
from legnet_cli.geo.vector import Layer, write_layer

_IMAGE_FIELDS = ("image", "scene")
_META = ("imagesource", "gsd")
_OWN = {*_IMAGE_FIELDS, *_META, "class", "difficult", "split"}
_GEOJSON_SUBPIXEL = 3  # decimals of a pixel that nine decimals of a degree can tell


@dataclass(frozen=True)
class PlacedImage:
    """An image that polygons may lie on."""

    path: Path
    file: str
    split: str
    size: tuple[int, int]
    georef: Georef | None


def load_polygons(
    path: Path, parts: Sequence[Part], class_field: str | None, problems: list[Problem]
) -> list[ImageLabels]:
    """The images in ``parts`` with the polygons in ``path`` as labels.

    Raises:
        DataError: the file cannot be read, or does not say which class or image its polygons belong to.
    """
    table = without_degrees(read_polygons(path))
    names = class_names(table, class_field, path)
    seen: list[Problem] = []
    images = list(open_images(parts, table, seen))
    if images and table.crs is None:
        table = located(table, [(image.path, image.size) for image in images], path, problems)
        if table.crs is not None:
            seen.clear()
            images = list(open_images(parts, table, seen))
    problems += seen
    if not images:
        raise DataError(f"{path}: there are no images for its polygons beside it: give their folder as the dataset")
    if table.crs is not None and not any(image.georef and image.georef.crs for image in images):
        problems.append(Problem(str(path), "is taken as pixels: none of the images is georeferenced"))
        table, images = replace(table, crs=None), [replace(image, georef=None) for image in images]
    rows = _rows_of_images(table, images, path, problems)
    return [_label(image, rows[i], table, names, path, problems) for i, image in enumerate(images)]


def class_names(table: PolygonTable, class_field: str | None, path: Path) -> list[str]:
    """Class of each row: of ``class_field``, else of the column called class, else of the only column of text.

    SpaceNet's files have no such column: their name says it.

    Raises:
        DataError: if no column, or more than one, could hold the classes.
    """
    if len(table) == 0:
        return []
    if class_field is None and (name := named_class(path)):
        return [name] * len(table)
    taken = {*_OWN - {"class"}, "model"}
    texts = [
        key for key, column in table.fields.items() if key not in taken and any(isinstance(v, str) for v in column)
    ]
    fitting = [class_field] if class_field else [key for key in table.fields if key.lower() == "class"] or texts
    if len(fitting) != 1 or fitting[0] not in table.fields:
        fault = f"has no column {class_field!r}" if class_field else "does not say which column holds the classes"
        raise DataError(f"{path}: {fault}: choose with --class-field from {', '.join(table.fields) or 'none'}")
    return ["" if value is None else str(value).strip() for value in table.fields[fitting[0]]]


def open_images(parts: Sequence[Part], table: PolygonTable, problems: list[Problem]) -> Iterator[PlacedImage]:
    """The images of ``parts`` that can be read, with their place on the ground if ``table`` is in map coordinates."""
    for part in parts:
        for folder in part.images:
            files = [""] if folder.is_file() else find_images(folder)
            for file in files:
                path = folder / file if file else folder
                try:
                    georef = None if table.crs is None else read_georef(path)
                    size = image_size(path) if georef is None else (georef.width, georef.height)
                except DataError as error:
                    place, _, fault = str(error).partition(": ")
                    problems.append(Problem(place, fault, left_out=True))
                    continue
                problems += [Problem(str(path), warning) for warning in (georef.warnings if georef else ())]
                yield PlacedImage(path, file or part.file or path.name, part.split, size, georef)


def _rows_of_images(
    table: PolygonTable, images: list[PlacedImage], path: Path, problems: list[Problem]
) -> list[dict[int, Array]]:
    """Polygons (k, 2) in pixels by row of ``table``, for each image."""
    field = next((key for key in table.fields if key.lower() in _IMAGE_FIELDS), None)
    found: list[dict[int, Array]] = [{} for _ in images]
    if field is None and table.crs is None and len(images) > 1:
        raise DataError(f"{path}: is in pixels but has no column 'image' that says of which image: add one")
    wanted = table.fields[field] if field else [None] * len(table)
    splits = table.fields.get("split", [None] * len(table))
    by_name = ImagesByName(images)
    for row, name in enumerate(wanted):
        if name is not None:
            index = by_name.find(str(name), splits[row])
            if index is None:
                problems.append(
                    Problem(f"{path}: feature {table.ids[row]}", f"there is no image {name!r}", left_out=True)
                )
            else:
                found[index][row] = np.zeros((0, 2))
    loose = [row for row, name in enumerate(wanted) if name is None]
    for index, image in enumerate(images):
        _place_on(image, found[index], loose, table, path, problems)
    if bare := [table.ids[row] for row, points in enumerate(table.points) if not len(points)]:
        problems.append(Problem(str(path), f"{counted(len(bare), 'feature')} without a polygon: {summary(bare)}"))
    astray = {row for row in loose if len(table.points[row])} - {row for rows in found for row in rows}
    if astray:
        few = summary(table.ids[row] for row in astray)
        problems.append(Problem(str(path), f"{counted(len(astray), 'polygon')} on none of the images: features {few}"))
    return found


class ImagesByName:
    """Finds images by their path, by that without suffix, or by their file name, in this order."""

    _FORMS: tuple[Callable[[str], str], ...] = (str, strip_image_suffix, posixpath.basename)

    def __init__(self, images: Sequence[PlacedImage]) -> None:
        self._splits = [image.split for image in images]
        self._found: list[dict[str, list[int]]] = [{} for _ in self._FORMS]
        for index, image in enumerate(images):
            for form, found in zip(self._FORMS, self._found, strict=True):
                found.setdefault(form(image.file), []).append(index)

    def find(self, name: str, split: str | None = None) -> int | None:
        """Number of the image called ``name``, rather of ``split`` than of another; None if there is none."""
        name = name.replace("\\", "/")
        for form, found in zip(self._FORMS, self._found, strict=True):
            fitting = found.get(form(name), [])
            fitting = [index for index in fitting if self._splits[index] == split] or fitting
            if fitting:
                return fitting[0]
        return None


def _place_on(
    image: PlacedImage,
    rows: dict[int, Array],
    loose: list[int],
    table: PolygonTable,
    path: Path,
    problems: list[Problem],
) -> None:
    """Put into ``rows`` the pixels of its polygons, and of those of the ``loose`` ones whose centre is on ``image``."""
    asked = [*rows, *loose]
    if not asked:
        return
    if image.georef is not None and image.georef.crs is None:
        problems.append(Problem(str(image.path), "has no georeference: polygons in map coordinates miss it"))
        rows.clear()
        return
    polygons = [table.points[row] for row in asked]
    if image.georef is not None:
        try:
            polygons = to_pixels(polygons, table.crs, image.georef)
        except GeoError as error:
            raise GeoError(f"{path}: {error}") from error
        exact = path.suffix.lower() != ".geojson"
        with np.errstate(over="ignore"):  # infinity is a fault of its own
            polygons = [points.round(SUBPIXEL if exact else _GEOJSON_SUBPIXEL) for points in polygons]
    for row, part in zip(asked, polygons, strict=True):
        if row in rows or (len(part) and bool(((part.mean(0) >= 0) & (part.mean(0) < image.size)).all())):
            rows[row] = part


def _label(
    image: PlacedImage,
    rows: dict[int, Array],
    table: PolygonTable,
    names: list[str],
    path: Path,
    problems: list[Problem],
) -> ImageLabels:
    builder = LabelBuilder(path, problems, image.size)
    for row, points in sorted(rows.items()):
        values = {key: column[row] for key, column in table.fields.items() if column[row] not in (None, "")}
        attributes: dict[str, Scalar] = {k: v for k, v in values.items() if k not in _OWN and names[row] != v}
        builder.meta |= {key: values[key] for key in _META if key in values}
        place = f": feature {table.ids[row]}"
        if len(points) == 0:
            builder.bad(place, "is not a polygon")
        else:
            builder.add_polygon(clockwise(points), names[row], values.get("difficult"), place, attributes)
    return builder.build(image.file, image.path, image.split)


def clockwise(points: Array) -> Array:
    """``points`` (k, 2) in pixels from the same first one on, clockwise on the screen."""
    x, y = points.T
    turn = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum()
    return np.roll(points[::-1], 1, axis=0) if turn < 0 else points


def write_polygons(path: Path, dataset: Dataset) -> None:
    """Write the objects of ``dataset``: in map coordinates if the images are georeferenced, if none is in pixels, y up.

    GeoJSON, and images of several reference systems, go into WGS 84. Images without objects leave no trace in the file.

    Raises:
        GeoError: some images are georeferenced and others are not.
        DataError: the file cannot be written.
    """
    images = [image for image in dataset.images if len(image)]
    georefs = [read_georef(image.path) if image.path is not None else None for image in images]
    known = [georef for georef in georefs if georef is not None and georef.crs is not None]
    if known and len(known) < len(images):
        bare = next(i.file for i, g in zip(images, georefs, strict=True) if g is None or g.crs is None)
        raise GeoError(f"{bare}: has no georeference as other images have: convert those by themselves")
    systems = {georef.crs.to_wkt(): georef.crs for georef in known if georef.crs is not None}
    shared = len(systems) == 1 and path.suffix.lower() != ".geojson"
    crs = None if not known else next(iter(systems.values())) if shared else WGS84
    parts = [np.zeros((0, 4, 2))]
    for image, georef in zip(images, georefs, strict=True):
        corners = image.quads.reshape(-1, 2)
        if crs is not None and georef is not None:
            corners = georef.to_map(corners) if shared else georef.to_crs(corners, crs)
        else:
            corners = rows_as_y(corners)
        parts.append(corners.reshape(-1, 4, 2))
    write_layer(path, Layer(np.concatenate(parts), crs, _fields(images)))


def _fields(images: Sequence[ImageLabels]) -> dict[str, NDArray[Any]]:
    rows: list[dict[str, Scalar]] = []
    for image in images:
        meta = {key: image.meta[key] for key in _META if key in image.meta}
        fixed = {"image": image.file, **({"split": image.split} if image.split else {})}
        for i, name in enumerate(image.names):
            extra = {key: value for key, value in image.attributes[i].items() if key not in _OWN}
            rows.append({**fixed, "class": name, "difficult": int(image.difficult[i]), **meta, **extra})
    keys = dict.fromkeys(["image", "class", "difficult", *(key for row in rows for key in row)])
    return {key: _column([row.get(key) for row in rows]) for key in keys}


def _column(values: list[Scalar | None]) -> NDArray[Any]:
    """One type for a column: whole numbers, numbers with NaN for none, or text with nothing for none."""
    if values and all(isinstance(value, int) for value in values):
        return np.array(values, np.int64)
    if values and all(value is None or isinstance(value, int | float) for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(["" if value is None else str(value) for value in values], str)
