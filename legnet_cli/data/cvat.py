"""CVAT for images 1.1: one XML file of boxes, which may be turned, polygons, ellipses and masks of many images.

https://docs.cvat.ai/docs/other/xml_format. ``rotation`` is in degrees clockwise about the centre, ``subset`` a split.
An attribute called ``difficult`` counts.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from legnet_cli.boxes import Array
from legnet_cli.data.builder import LabelBuilder
from legnet_cli.data.collect import Collector, around, floats, turned
from legnet_cli.data.labels import ImageLabels, Problem
from legnet_cli.data.masks import mask_points
from legnet_cli.data.xml_tree import parse_xml, place
from legnet_cli.errors import DataError, reading
from legnet_cli.untrusted import MOST_JSON, read_bytes

_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}


def read(path: Path, split: str, problems: list[Problem]) -> tuple[list[ImageLabels], list[str]]:
    """Images with their labels, and class names, of one file.

    Raises:
        DataError: it cannot be read, or is about a video.
    """
    with reading(path, "check the file"):
        data = read_bytes(path, MOST_JSON)
    try:
        root = parse_xml(data, "annotations")
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if root.find("track") is not None:
        raise DataError(f"{path}: is CVAT for video: export the task as 'CVAT for images 1.1'")
    found = Collector(path, split, problems)
    for image in root.iterfind("image"):
        try:
            width, height = floats([image.get("width"), image.get("height")])
            size = (int(width), int(height)) if 0 < width < 1 << 31 and 0 < height < 1 << 31 else None
        except ValueError:
            size = None
        subset = _SPLITS.get(image.get("subset", "").lower(), "")
        builder = found.image(image.get("name"), size, place(image), split or subset)
        if builder is not None:
            for shape in image:
                _add(shape, builder)
    return found.build()


def _add(shape: Element, builder: LabelBuilder) -> None:
    if shape.tag == "tag":  # of the image as a whole
        return
    attributes = {item.get("name", ""): (item.text or "").strip() for item in shape.iterfind("attribute")}
    try:
        points = _points(shape)
    except ValueError as error:
        builder.bad(place(shape), str(error))
    else:
        difficult = attributes.pop("difficult", 0)
        builder.add_polygon(points, shape.get("label", ""), difficult, place(shape), attributes)


def _points(shape: Element) -> Array:
    """Corners (k, 2) in pixels.

    Raises:
        ValueError: it is damaged, or has no area.
    """
    values = shape.get
    if shape.tag == "box":
        sides = floats([values(key) for key in ("xtl", "ytl", "xbr", "ybr")])
        return turned(*sides, *floats([values("rotation", 0)]))
    if shape.tag == "polygon":
        return np.array([floats(point.split(",")) for point in values("points", "").split(";")]).reshape(-1, 2)
    if shape.tag == "ellipse":
        x, y, a, b, degrees = floats([values("cx"), values("cy"), values("rx"), values("ry"), values("rotation", 0)])
        return around((x, y), (a, b), degrees)
    if shape.tag == "mask":
        left, top, width, height = map(int, floats([values(key) for key in ("left", "top", "width", "height")]))
        runs = [int(run) for run in floats(values("rle", "").split(","))]
        # runs go along rows here, and down columns in COCO
        return mask_points({"size": [width, height], "counts": runs}, None)[:, ::-1] + (left, top)
    raise ValueError(f"a {shape.tag} has no area: leave it out of the export, or draw a box")
