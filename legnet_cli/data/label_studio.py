"""Label Studio's JSON and JSON-MIN: rectangles, ellipses and polygons in percent of the image.

https://labelstud.io/guide/export. A rectangle is turned clockwise about its top left corner. Uploaded images are
stored as ``1a2b3c4d-name.png``; those called ``name.png`` fit as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from legnet_cli.boxes import Array
from legnet_cli.data.builder import LabelBuilder, short
from legnet_cli.data.collect import Collector, around, floats, image_file, read_json
from legnet_cli.data.labels import IMAGE_SUFFIXES, SUBPIXEL, ImageLabels, Problem
from legnet_cli.errors import DataError, counted

_Item = Mapping[str, Any]


def read(path: Path, split: str, problems: list[Problem]) -> tuple[list[ImageLabels], list[str]]:
    """Images with their labels, and class names, of one export; tasks that nobody annotated are left out.

    Raises:
        DataError: it is not such a file.
    """
    content = read_json(path)
    tasks = content if isinstance(content, list) else [content]
    if not all(isinstance(task, dict) for task in tasks):
        raise DataError(f"{path}: is not a list of tasks: export it as JSON or JSON-MIN")
    found = Collector(path, split, problems)
    bare = 0
    for task in tasks:
        place = f": task {short(task.get('id'))}"
        results = _results(task, place, found)
        if results is None:
            bare += 1
        elif (builder := found.image(_image(task), None, place)) is not None:
            for number, shape in enumerate(_shapes(results), 1):
                _add(shape, builder, f"{place}, region {number}")
    if bare:
        problems.append(Problem(str(path), f"left out {counted(bare, 'task')} without annotations"))
    return found.build()


def _image(task: _Item) -> object:
    """What a task says of its image."""
    data = task.get("data", task)
    values = [data.get("image"), *data.values()] if isinstance(data, dict) else [data]
    named = (value for value in values if str(image_file(value)).lower().endswith(IMAGE_SUFFIXES))
    return next(named, values[0])


def _results(task: _Item, place: str, found: Collector) -> list[_Item] | None:
    """The regions of a task; None if nobody annotated it."""
    if "data" not in task:  # JSON-MIN: a list for each tool, and an annotator
        lists = [value for value in task.values() if isinstance(value, list)]
        regions: list[_Item] = [{**item, "value": item} for items in lists for item in items if isinstance(item, dict)]
        return regions if regions or "annotation_id" in task or "annotator" in task else None
    given = task.get("annotations", task.get("completions"))
    listed = [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []
    valid = [item for item in listed if not item.get("was_cancelled")]
    chosen = [item for item in valid if item.get("ground_truth")] or valid
    if len(chosen) > 1:
        message = f"has {len(chosen)} annotations: the last one is read"
        found.problems.append(Problem(f"{found.path}{place}", message))
    if not chosen:
        return None
    results = chosen[-1].get("result")
    return [item for item in results if isinstance(item, dict)] if isinstance(results, list) else []


def _shapes(results: Sequence[_Item]) -> list[dict[str, Any]]:
    """Regions with all that is said of them: the class may stand in an item of its own, of the same id."""
    shapes: dict[object, dict[str, Any]] = {}
    for number, item in enumerate(results):
        value = item.get("value")
        if not isinstance(value, dict) or item.get("type") in ("choices", "relation", "textarea", "rating"):
            continue
        key = item["id"] if isinstance(item.get("id"), str) else number
        shape = shapes.setdefault(key, {})
        shape |= {name: item[name] for name in ("original_width", "original_height", "image_rotation") if name in item}
        shape |= value
    return [*shapes.values()]


def _add(shape: _Item, builder: LabelBuilder, place: str) -> None:
    lists = (names for key, names in shape.items() if key.endswith("labels") and isinstance(names, list))
    labels = [name for names in lists for name in names]
    try:
        if len(labels) > 1:
            raise ValueError(f"has {len(labels)} classes: keep one")
        width, height = floats([shape.get("original_width"), shape.get("original_height")])
        if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
            raise ValueError("original_width and original_height are not the size of an image")
        points = _points(shape, np.array([width, height]) / 100)
    except ValueError as error:
        builder.bad(place, str(error))
        return
    builder.size = builder.size or (int(width), int(height))
    builder.add_polygon(points.round(SUBPIXEL), str(labels[0]) if labels else "", 0, place)


def _points(shape: _Item, scale: Array) -> Array:
    """Corners (k, 2) in pixels, ``scale`` (2,) being those of one percent.

    Raises:
        ValueError: it is damaged, or has no area.
    """
    (image_turn,) = floats([shape.get("image_rotation") or 0])
    if image_turn:
        raise ValueError(f"the image was turned by {image_turn:g}° in Label Studio: turn it back there")
    if "points" in shape:
        corners = shape["points"]
        listed = [floats(corner) for corner in corners] if isinstance(corners, list) else []
        if not listed or any(len(corner) != 2 for corner in listed):
            raise ValueError("its points are not pairs of numbers")
        return np.array(listed) * scale
    if "radiusX" in shape:
        x, y, a, b, degrees = floats([shape.get(key) or 0 for key in ("x", "y", "radiusX", "radiusY", "rotation")])
        return around((x * scale[0], y * scale[1]), (a * scale[0], b * scale[1]), degrees)
    if "width" not in shape or "rle" in shape:
        raise ValueError("neither a rectangle nor a polygon: export brush masks as COCO")
    x, y, width, height = floats([shape.get(key) for key in ("x", "y", "width", "height")])
    (turn,) = np.radians(floats([shape.get("rotation") or 0]))
    along = np.array([np.cos(turn), np.sin(turn)]) * width * scale[0]
    down = np.array([-np.sin(turn), np.cos(turn)]) * height * scale[1]
    corner = np.array([x, y]) * scale
    return np.stack([corner, corner + along, corner + along + down, corner + down])
