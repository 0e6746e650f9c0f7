"""labelme and X-AnyLabeling: a JSON file beside each image, of polygons, rectangles, circles and turned rectangles.

https://github.com/wkentaro/labelme, https://github.com/CVHub520/X-AnyLabeling. A ``rotation`` has its four corners as
they lie; its ``direction`` only repeats them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from legnet_cli.boxes import Array
from legnet_cli.data.builder import LabelBuilder
from legnet_cli.data.collect import around, floats, turned
from legnet_cli.data.format import Format
from legnet_cli.data.labels import ImageLabels
from legnet_cli.errors import DataError, reason
from legnet_cli.untrusted import parse_json

_OUTLINES = ("polygon", "rotation", "rectangle", "quadrilateral")
_OWN = {"label", "points", "shape_type", "difficult", "direction", "flags", "kie_linking", "attributes", "mask"}


def parse(data: bytes, labels: LabelBuilder) -> None:
    """Add the objects of one JSON file to ``labels``."""
    try:
        content = parse_json(data)
    except ValueError as error:
        raise DataError(f"is not JSON ({reason(error)})") from error
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise DataError("has no list of shapes, as labelme writes it")
    sides = content.get("imageWidth"), content.get("imageHeight")
    if all(isinstance(side, int) and 0 < side < 1 << 31 for side in sides):
        labels.size = sides[0], sides[1]
    for number, shape in enumerate(shapes, 1):
        place = f": shape {number}"
        if not isinstance(shape, dict):
            labels.bad(place, "is not a shape")
            continue
        attributes = {key: value for key, value in shape.items() if key not in _OWN and value not in (None, "")}
        more = shape.get("attributes")
        attributes |= more if isinstance(more, dict) else {}
        try:
            points = _points(shape)
        except ValueError as error:
            labels.bad(place, str(error))
        else:
            labels.add_polygon(points, str(shape.get("label") or ""), shape.get("difficult"), place, attributes)


def _points(shape: Mapping[str, Any]) -> Array:
    """Corners (k, 2) in pixels.

    Raises:
        ValueError: it is damaged, or has no area.
    """
    kind, listed = shape.get("shape_type") or "polygon", shape.get("points")
    if not isinstance(listed, list) or not all(isinstance(point, list) and len(point) == 2 for point in listed):
        raise ValueError("its points are not pairs of numbers")
    points = [floats(point) for point in listed]
    if kind == "rectangle" and len(points) == 2:
        (x1, y1), (x2, y2) = points
        return turned(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2), 0)
    if kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        return around(points[0], (radius, radius))
    if kind not in _OUTLINES:
        raise ValueError(f"a {kind} has no outline: draw a polygon or a rotation")
    return np.array(points).reshape(-1, 2)


def render(image: ImageLabels, codes: Mapping[str, str]) -> str:
    """The JSON of ``image``, as X-AnyLabeling shows it."""
    shapes = []
    angles = np.mod(image.boxes[:, 4], 2 * np.pi).tolist()
    for i, name in enumerate(image.names):
        shape = {"label": codes[name], "points": image.quads[i].tolist(), "shape_type": "rotation"}
        shape |= {"direction": angles[i], "difficult": bool(image.difficult[i]), "group_id": None, "description": ""}
        shapes.append(shape | {"flags": {}, "attributes": dict(image.attributes[i])})
    width, height = image.size or (None, None)
    about = {"imagePath": image.file.rpartition("/")[2], "imageData": None, "imageHeight": height, "imageWidth": width}
    content: dict[str, Any] = {"version": "2.4.4", "flags": {}, "shapes": shapes, **about}
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


# images and their labels lie together, as both programs open them
FORMAT = Format("labelme", ".json", "{split}", "{split}", parse, render)
