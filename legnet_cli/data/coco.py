"""COCO JSON with polygons: one file holds all images, classes and objects.

Lin et al., "Microsoft COCO", ECCV 2014; https://cocodataset.org/#format-data. Polygons of other than four corners
become their smallest oriented boxes; ``difficult`` and what else COCO has no word for go into keys of their own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from legnet_cli.boxes import Array
from legnet_cli.data.labels import ImageLabels, LabelBuilder, Problem, Scalar
from legnet_cli.errors import DataError

_OWN = {"id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd", "difficult", "attributes"}
_IMAGE_OWN = {"id", "file_name", "width", "height"}


def read(path: Path, split: str, problems: list[Problem]) -> tuple[list[ImageLabels], list[str]]:
    """Images with their labels, and class names in the order of their ids, of one COCO file.

    Raises:
        DataError: it is not JSON or lacks one of COCO's lists.
    """
    content = _load(path)
    names = {item.get("id"): str(item.get("name")) for item in content["categories"]}
    builders: dict[Any, tuple[str, LabelBuilder]] = {}
    for item in content["images"]:
        place, file = f": image {item.get('id')}", str(item.get("file_name", ""))
        if item.get("id") in builders or not _is_inside(file):
            fault = (
                "its id is taken" if item.get("id") in builders else f"file_name {file!r} is no path below the images"
            )
            problems.append(Problem(f"{path}{place}", fault, left_out=True))
            continue
        size = item.get("width"), item.get("height")
        known = all(isinstance(side, int) and side > 0 for side in size)
        builder = LabelBuilder(path, problems, size if known else None)
        builder.meta = {k: v for k, v in item.items() if k not in _IMAGE_OWN and isinstance(v, str | int | float)}
        builders[item["id"]] = file.replace("\\", "/"), builder
    for item in content["annotations"]:
        place = f": annotation {item.get('id')}"
        if item.get("image_id") not in builders:
            problems.append(Problem(f"{path}{place}", f"there is no image {item.get('image_id')!r}", left_out=True))
            continue
        builder = builders[item["image_id"]][1]
        if item.get("category_id") not in names:
            builder.bad(place, f"there is no category {item.get('category_id')!r}")
        else:
            _add(item, names[item["category_id"]], builder, place)
    images = [builder.build(file, None, split) for file, builder in builders.values()]
    return images, [names[key] for key in sorted(names)]


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): check the file") from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error}): write it again") from error
    for key in ("images", "annotations", "categories"):
        found = content.get(key) if isinstance(content, dict) else None
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise DataError(f"{path}: has no list of {key}: it is not a COCO dataset, give another file with --labels")
    found_content: dict[str, Any] = content
    return found_content


def _is_inside(file: str) -> bool:
    parts = file.replace("\\", "/").split("/")
    return bool(file) and not file.startswith("/") and ":" not in parts[0] and not {"..", ""} & {*parts}


def _add(item: dict[str, Any], name: str, builder: LabelBuilder, place: str) -> None:
    shape, bounds = item.get("segmentation"), item.get("bbox")
    extra = {key: value for key, value in item.items() if key not in _OWN}
    attributes: dict[str, Scalar] = {k: v for k, v in extra.items() if isinstance(v, str | int | float)}
    more = item.get("attributes")
    attributes |= more if isinstance(more, dict) else {}
    try:
        if isinstance(shape, dict):
            raise ValueError("a run-length mask where a polygon must be")
        if shape:
            points = np.concatenate([np.asarray(part, np.float64).reshape(-1, 2) for part in shape])
        elif bounds is not None:
            x, y, width, height = map(float, bounds)
            points = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
        else:
            raise ValueError("neither segmentation nor bbox")
        difficult = int(item.get("difficult", 0))
    except (TypeError, ValueError) as error:
        builder.bad(place, f"the shape cannot be used ({error})")
    else:
        builder.add_polygon(points, name, difficult, place, attributes)


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
            annotation |= {"area": areas[i], "bbox": bounds[i].tolist(), "iscrowd": 0}
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
