"""COCO JSON with polygons: one file holds all images, classes and objects.

Lin et al., "Microsoft COCO", ECCV 2014; https://cocodataset.org/#format-data. Polygons of other than four corners
and masks become their smallest oriented boxes; ``difficult`` and what else COCO has no word for go into keys of their
own. An upright box with the attribute ``rotation``, as CVAT writes it, is turned clockwise by so many degrees.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from legnet_cli.boxes import Array, turned_rectangle
from legnet_cli.data.builder import LARGEST, LabelBuilder, is_text, rotation, short
from legnet_cli.data.labels import IGNORED, SUBPIXEL, ImageLabels, Problem, Size, names_region
from legnet_cli.data.masks import mask_points
from legnet_cli.errors import DataError, counted, reading
from legnet_cli.untrusted import MOST_JSON, parse_json, read_bytes

_OWN = {"id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd", "ignore", "difficult", "attributes"}
_ANGLES = {"angle", "theta", "obb", "rbox", "rbbox", "rotated_bbox"}  # as other programs call it, each in its own way
_IMAGE_OWN = {"id", "file_name", "width", "height"}

_EDGE = 0.02  # px that a corner may lie off the sides of its upright box

_Key = int | float | str
_Item = Mapping[str, Any]


def read(path: Path, split: str, problems: list[Problem]) -> tuple[list[ImageLabels], list[str]]:
    """Images with their labels, and class names in the order of their ids, of one COCO file.

    Raises:
        DataError: it is not JSON or lacks one of COCO's lists.
    """
    content = _load(path)
    names = _categories(path, content["categories"], problems)
    builders = _images(path, content["images"], problems)
    # a program that calls all masks crowds means nothing by it
    crowds = not all(item.get("iscrowd") for item in content["annotations"])
    regions = 0
    for item in content["annotations"]:
        place = f": annotation {short(item.get('id'))}"
        image, category = _key(item.get("image_id")), _key(item.get("category_id"))
        if image is None or image not in builders:
            fault = f"there is no image {short(item.get('image_id'))}"
            problems.append(Problem(f"{path}{place}", fault, left_out=True))
        elif category is None or category not in names:
            builders[image][1].bad(place, f"there is no category {short(item.get('category_id'))}")
        else:
            region = bool(item.get("ignore") or (crowds and item.get("iscrowd")))
            regions += region and not names_region(names[category])
            _add(item, IGNORED if region else names[category], builders[image][1], place)
    if regions:
        told = f"{counted(regions, 'object')} with iscrowd or ignore: ignored regions"
        problems.append(Problem(str(path), told))
    images = [builder.build(file, None, split) for file, builder in builders.values()]
    return images, [names[key] for key in sorted(names, key=lambda key: (isinstance(key, str), key))]


def _load(path: Path) -> dict[str, Any]:
    with reading(path, "check the file"):
        text = read_bytes(path, MOST_JSON)
    with reading(path, "write it again", "is not JSON"):
        content = parse_json(text)
    for key in ("images", "annotations", "categories"):
        found = content.get(key) if isinstance(content, dict) else None
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise DataError(f"{path}: has no list of {key}: it is not a COCO dataset, give another file with --labels")
    found_content: dict[str, Any] = content
    return found_content


def _key(value: object) -> _Key | None:
    """An id as JSON may have it; None for what cannot be one."""
    return value if isinstance(value, int | float | str) else None


def _categories(path: Path, items: Sequence[_Item], problems: list[Problem]) -> dict[_Key, str]:
    names: dict[_Key, str] = {}
    for item in items:
        key, name = _key(item.get("id")), item.get("name")
        if key is not None and isinstance(name, str | int) and is_text(str(name)):
            names[key] = str(name)
        else:
            fault = "its id is not a number" if key is None else f"its name {short(name)} is not text"
            problems.append(Problem(f"{path}: category {short(item.get('id'))}", fault, left_out=True))
    return names


def _images(path: Path, items: Sequence[_Item], problems: list[Problem]) -> dict[_Key, tuple[str, LabelBuilder]]:
    """File and builder of each image by its id."""
    builders: dict[_Key, tuple[str, LabelBuilder]] = {}
    for item in items:
        key, file = _key(item.get("id")), item.get("file_name")
        if key is None or key in builders:
            fault = "its id is not a number" if key is None else "its id is taken"
        elif not isinstance(file, str) or not _is_inside(file):
            fault = f"file_name {short(file)} is not a path below the images"
        else:
            builder = LabelBuilder(path, problems, _size(item.get("width"), item.get("height")))
            builder.meta = {k: v for k, v in item.items() if k not in _IMAGE_OWN and isinstance(v, str | int | float)}
            builders[key] = file.replace("\\", "/"), builder
            continue
        problems.append(Problem(f"{path}: image {short(item.get('id'))}", fault, left_out=True))
    return builders


def _size(width: object, height: object) -> Size | None:
    if isinstance(width, int) and isinstance(height, int) and 0 < min(width, height) <= max(width, height) < LARGEST:
        return width, height
    return None


def _is_inside(file: str) -> bool:
    parts = file.replace("\\", "/").split("/")
    return is_text(file) and not file.startswith("/") and ":" not in parts[0] and not {"..", ""} & {*parts}


def _add(item: _Item, name: str, builder: LabelBuilder, place: str) -> None:
    attributes = {k: v for k, v in item.items() if k not in _OWN and isinstance(v, str | int | float)}
    more = item.get("attributes")
    if isinstance(more, list):  # of pairs
        more = {str(pair.get("name")): pair.get("value") for pair in more if isinstance(pair, dict)}
    attributes |= more if isinstance(more, dict) else {}
    try:
        points = _points(item, builder)
        if _is_upright(points, item.get("bbox")):
            _note_angles(item, attributes, builder)
            points = _turned(points, attributes)
    except ValueError as error:
        builder.bad(place, f"the shape cannot be used ({error})")
        return
    builder.add_polygon(points, name, item.get("difficult"), place, attributes)


def _turned(points: Array, attributes: dict[str, Any]) -> Array:
    """The upright box ``points`` as its attribute ``rotation`` turns it, which is taken out of ``attributes``.

    Raises:
        ValueError: that is not a number.
    """
    key = next((key for key in attributes if key.lower() == "rotation"), None)
    degrees = None if key is None else rotation(attributes[key])
    if key is None or degrees is None:
        return points
    del attributes[key]
    corners: Array = turned_rectangle(points.min(0), points.max(0), degrees).round(SUBPIXEL)
    return corners


def _note_angles(item: _Item, attributes: Mapping[str, Any], builder: LabelBuilder) -> None:
    """Tell, once a file, of what could be the angle of an upright box and is not known to be."""
    values = {**item, **attributes}
    for key in _ANGLES.intersection(map(str.lower, values)):
        fault = f"boxes are read as upright, whatever {key!r} says: give corners as segmentation, or rotation"
        problem = Problem(str(builder.source), fault)
        if values.get(key) not in (0, None, "", []) and problem not in builder.problems:
            builder.problems.append(problem)


def _points(item: _Item, builder: LabelBuilder) -> Array:
    """The outline (k, 2) of an annotation, or points with the same convex hull.

    Raises:
        ValueError: it has none that can be understood.
    """
    shape, bounds = item.get("segmentation"), item.get("bbox")
    if isinstance(shape, dict):
        return mask_points(shape, builder.size)
    parts = [_numbers(part) for part in shape if part] if isinstance(shape, list) else []
    if any(len(part) % 2 for part in parts):
        raise ValueError("an odd number of coordinates")
    if parts:
        return np.concatenate(parts).reshape(-1, 2)
    if not isinstance(bounds, list) or not bounds:
        raise ValueError("neither segmentation nor bbox")
    if len(bounds) == 5:
        raise ValueError("a bbox of 5 numbers is ambiguous in its angle: give the corners as segmentation")
    if len(bounds) != 4:
        raise ValueError(f"a bbox of {len(bounds)} numbers in place of 4")
    x, y, width, height = _numbers(bounds)
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


def _numbers(values: object) -> list[float]:
    """The floats in a list, however deep.

    Raises:
        ValueError: it holds something else.
    """
    try:
        return [float(number) for number in np.asarray(values, object).ravel().tolist()]
    except (TypeError, ValueError, OverflowError):
        raise ValueError("its coordinates are not numbers") from None


def _is_upright(points: Array, bounds: object) -> bool:
    """Whether ``points`` are the corners of an upright box, that of ``bounds`` if there are any."""
    if len(points) not in (4, 5) or not np.isfinite(points).all():
        return False
    low, high = points.min(0), points.max(0)
    at_edges = (np.abs(points - low) < _EDGE) | (np.abs(points - high) < _EDGE)
    own = [*low, *(high - low)]
    stated = own
    if isinstance(bounds, list) and len(bounds) == 4:
        with suppress(ValueError):
            stated = _numbers(bounds)
    return bool(at_edges.all()) and bool(np.allclose(own, stated, rtol=0, atol=_EDGE))


def render(images: Sequence[ImageLabels], classes: Sequence[str]) -> str:
    """COCO JSON of ``images``, whose sizes must be known; ids count from 1."""
    category = {name: i for i, name in enumerate(classes, 1)}
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, 1):
        if image.size is None:
            raise DataError(f"{image.file}: its size is unknown, COCO needs it: put the image beside the labels")
        width, height = image.size
        listed.append({"id": image_id, "file_name": image.file, "width": width, "height": height, **image.meta})
        areas, bounds = _areas(image.quads).tolist(), np.concatenate([image.quads.min(1), np.ptp(image.quads, 1)], 1)
        for i, name in enumerate(image.names):
            annotation: dict[str, Any] = {"id": len(annotations) + 1, "image_id": image_id}
            annotation |= {"category_id": category[name], "segmentation": [image.quads[i].ravel().tolist()]}
            annotation |= {"area": areas[i], "bbox": bounds[i].tolist(), "iscrowd": int(name == IGNORED)}
            annotation |= {"difficult": int(image.difficult[i])}
            annotation |= {"attributes": dict(image.attributes[i])} if image.attributes[i] else {}
            annotations.append(annotation)
    categories = [{"id": i, "name": name} for name, i in category.items()]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def _areas(quads: Array) -> Array:
    x, y = np.moveaxis(quads, 2, 0)
    areas: Array = np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1)) / 2
    return areas
