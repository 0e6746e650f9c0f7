"""VGG Image Annotator 2 and 1: its project or its annotations, as JSON or CSV, of rectangles, polygons and ellipses.

https://www.robots.ox.ac.uk/~vgg/software/via. Angles of ellipses are radians clockwise. The class is the region
attribute called class, label, name or type, or the only one.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from legnet_cli.boxes import Array
from legnet_cli.data.builder import difficulty
from legnet_cli.data.collect import Collector, around, floats, read_json, turned
from legnet_cli.data.labels import ImageLabels, Problem
from legnet_cli.errors import DataError, reading
from legnet_cli.untrusted import MOST_JSON, parse_json, read_text

CSV_MARKS = ("region_shape_attributes", "region_attributes")
_USUAL = ("class", "label", "name", "type")

_Region = tuple[str, Mapping[str, Any] | None, Mapping[str, Any]]  # image, shape (None for no region), attributes


def read(
    path: Path, split: str, problems: list[Problem], class_field: str | None = None
) -> tuple[list[ImageLabels], list[str]]:
    """Images with their labels, and class names, of one file; ``class_field`` is the attribute that is the class.

    Raises:
        DataError: it is not such a file, or does not say which attribute is the class.
    """
    regions = [*(_csv_regions(path) if path.suffix.lower() == ".csv" else _json_regions(path))]
    key = _class_key(path, regions, class_field)
    found = Collector(path, split, problems)
    for number, (image, shape, attributes) in enumerate(regions, 1):
        place = f": region {number}"
        builder = found.image(image, None, place)
        if builder is None or shape is None:
            continue
        others = {name: value for name, value in attributes.items() if name not in (key, "difficult")}
        level = attributes.get("difficult")
        level = level if difficulty(level) is not None else _chosen(level)
        try:
            builder.add_polygon(_points(shape), _chosen(attributes.get(key)), level, place, others)
        except ValueError as error:
            builder.bad(place, str(error))
    return found.build()


def _json_regions(path: Path) -> Iterator[_Region]:
    content = read_json(path)
    if isinstance(content, dict) and "metadata" in content and "file" in content:
        raise DataError(f"{path}: is a project of VIA 3, which has no turned boxes: draw in VIA 2, or in CVAT")
    images = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    if not isinstance(images, dict):
        raise DataError(f"{path}: is not VIA's JSON: export the annotations again")
    for image in images.values():
        if not isinstance(image, dict) or not isinstance(image.get("filename"), str):
            raise DataError(f"{path}: an entry has no filename: export the annotations again")
        regions = image.get("regions") or []
        yield image["filename"], None, {}
        listed = [*regions.values()] if isinstance(regions, dict) else regions
        for region in listed if isinstance(listed, list) else [None]:
            about = region if isinstance(region, dict) else {}
            pair = about.get("shape_attributes"), about.get("region_attributes")
            shape, attributes = (value if isinstance(value, dict) else {} for value in pair)
            yield image["filename"], shape, attributes


def _csv_regions(path: Path) -> Iterator[_Region]:
    with reading(path, "export it again", "is not VIA's CSV"):
        rows = [*csv.DictReader(io.StringIO(read_text(path, MOST_JSON).removeprefix("#")))]
        texts = [(row["filename"], row[CSV_MARKS[0]] or "{}", row[CSV_MARKS[1]] or "{}") for row in rows]
        parsed = [(file, parse_json(shape), parse_json(attributes)) for file, shape, attributes in texts]
    for file, shape, attributes in parsed:
        about = attributes if isinstance(attributes, dict) else {}
        yield file, shape if isinstance(shape, dict) and shape else None, about


def _class_key(path: Path, regions: list[_Region], wanted: str | None) -> str:
    keys = dict.fromkeys(key for _, shape, attributes in regions if shape is not None for key in attributes)
    usual = [key for name in _USUAL for key in keys if key.lower() == name]
    fitting = [key for key in keys if key == wanted] if wanted else usual[:1] or [*keys]
    if len(fitting) != 1 and keys:
        fault = f"has no attribute {wanted!r}" if wanted else "does not say which attribute is the class"
        raise DataError(f"{path}: {fault}: choose with --class-field from {', '.join(keys)}")
    return fitting[0] if fitting else ""


def _chosen(value: object) -> str:
    """The text of an attribute: a word, or the only box that is checked."""
    if isinstance(value, dict):
        checked = [str(name) for name, on in value.items() if on]
        return checked[0] if len(checked) == 1 else ""
    return str(value).strip() if isinstance(value, str | int) else ""


def _points(shape: Mapping[str, Any]) -> Array:
    """Corners (k, 2) in pixels.

    Raises:
        ValueError: it is damaged, or has no area.
    """
    kind, values = shape.get("name"), shape.get
    if kind == "rect":
        x, y, width, height = floats([values(key) for key in ("x", "y", "width", "height")])
        return turned(x, y, x + width, y + height, 0)
    if kind == "polygon":
        xs, ys = (values(key) for key in ("all_points_x", "all_points_y"))
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise ValueError("all_points_x and all_points_y do not fit each other")
        return np.stack([floats(xs), floats(ys)], 1)
    if kind in ("circle", "ellipse"):
        x, y, a, b, theta = floats(
            [values("cx"), values("cy"), values("rx", values("r")), values("ry", values("r")), values("theta", 0)]
        )
        return around((x, y), (a, b), math.degrees(theta))
    raise ValueError(f"a {kind} has no area: draw a polygon or a rectangle")
