"""YOLO-OBB: a line ``class x1 y1 x2 y2 x3 y3 x4 y4`` for each object, corners as fractions of width and height.

Class numbers are those of ``names`` in ``data.yaml``. https://docs.ultralytics.com/datasets/obb
Read as well: class numbers with decimals (``1.0``), a confidence in a tenth column, corners in pixels, and commas.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from legnet_cli.boxes import Array
from legnet_cli.data.builder import LARGEST, LabelBuilder
from legnet_cli.data.format import Format, read_class_list, text_lines
from legnet_cli.data.labels import SUBPIXEL, Dataset, ImageLabels, Problem
from legnet_cli.data.yaml_names import yaml_fault, yaml_names
from legnet_cli.errors import DataError

_FAR = 10  # times the size of the image: farther out coordinates cannot be fractions of it
_PIXELS = "the coordinates are too large for fractions of the image: they are taken as pixels"


def parse(data: bytes, labels: LabelBuilder) -> None:
    """Add the objects of one YOLO-OBB text file to ``labels``, whose image size must be known."""
    if labels.size is None:
        raise DataError("has no image beside it: its fractions of the image size cannot be read")
    in_pixels = _in_pixels(row for line in text_lines(data) if (row := words(line)))
    if in_pixels and not any(problem.message == _PIXELS for problem in labels.problems):
        labels.problems.append(Problem(str(labels.source), _PIXELS))
    scale = np.ones(2) if in_pixels else np.array(labels.size, np.float64)
    for number, line in enumerate(text_lines(data), 1):
        if row := words(line):
            _parse_object(row, scale, labels, f":{number}")


def _parse_object(row: Sequence[str], scale: Array, labels: LabelBuilder, place: str) -> None:
    try:
        values = [float(word) for word in row[1:]]
    except ValueError as error:
        labels.bad(place, f"{str(error).rpartition(' ')[2]} is not a number")
        return
    if len(values) in (4, 5):
        labels.bad(place, "an upright box, not an oriented one: 8 coordinates must follow the class")
        return
    confidence = values.pop() if len(values) % 2 and len(values) > 8 and 0 <= values[-1] <= 1 else None
    if len(values) % 2:
        labels.bad(place, f"{len(values)} coordinates where 4 points have 8")
    else:
        farthest = max(map(abs, values))
        if _FAR < farthest < LARGEST / scale.max() and (scale > 1).all():
            labels.bad(place, "coordinates in pixels, where other lines have fractions of the image")
            return
        if farthest <= 1 and (scale == 1).all():
            labels.bad(place, "fractions of the image, where other lines have coordinates in pixels")
            return
        with np.errstate(over="ignore"):  # infinity is a fault of its own
            points = (np.array(values).reshape(-1, 2) * scale).round(SUBPIXEL)
        labels.add(points.ravel().tolist(), _plain_code(row[0]), 0, place, {"confidence": confidence})


def words(line: str) -> list[str]:
    """The words of a line, which blanks, commas or semicolons separate."""
    return line.replace(",", " ").replace(";", " ").split()


def _in_pixels(rows: Iterable[Sequence[str]]) -> bool:
    """Whether the coordinates in most of ``rows`` are too large for fractions of the image."""
    farthest = np.sort(array("d", (max(map(_distance, row[1:9]), default=0.0) for row in rows)))
    return len(farthest) > 0 and bool(farthest[(len(farthest) - 1) // 2] > _FAR)


def _distance(word: str) -> float:
    """The number's size; 0 for what is not a finite number."""
    with suppress(ValueError):
        return abs(float(word)) if math.isfinite(float(word)) else 0.0
    return 0.0


def _plain_code(code: str) -> str:
    """A class number without decimals or exponent; another word as it is."""
    with suppress(ValueError):
        if (number := float(code)).is_integer():
            return str(int(number))
    return code


def render(image: ImageLabels, codes: Mapping[str, str]) -> str:
    """The YOLO-OBB text of ``image``, whose size must be known; "difficult" cannot be said."""
    if image.size is None:
        raise DataError(f"{image.file}: its size is unknown, YOLO-OBB needs it: put the image beside the labels")
    rows = (image.quads / np.array(image.size, np.float64)).reshape(-1, 8).tolist()
    return "".join(f"{codes[name]} {' '.join(map(repr, row))}\n" for name, row in zip(image.names, rows, strict=True))


def read_names(root: Path, problems: list[Problem]) -> dict[str, str]:
    """Class names by number from the ``names`` of a YAML file in ``root``, else from ``classes.txt``.

    What else is wrong with that file goes into ``problems``.

    Raises:
        DataError: there are no names, or several files have different ones.
    """
    found, faults = _names_in(root)
    if not found and faults:
        raise faults[0]
    if not found and (listed := read_class_list(root)):
        return {str(i): name for i, name in enumerate(dict.fromkeys(listed.values()))}
    if not found or len({tuple(names.items()) for names in found.values()}) > 1:
        fault = f"{', '.join(path.name for path in found)} all name classes: keep one" if found else "no class names"
        raise DataError(f"{root}: {fault}" + ("" if found else ": add data.yaml with 'names: [...]'"))
    path, names = next(iter(found.items()))
    problems += yaml_fault(path)
    return names


def names_classes(root: Path) -> bool:
    """Whether a YAML file in ``root`` names the classes of a YOLO dataset."""
    return bool(_names_in(root)[0])


def _names_in(root: Path) -> tuple[dict[Path, dict[str, str]], list[DataError]]:
    """Class names in each YAML file that has some, and what is wrong with the others."""
    found: dict[Path, dict[str, str]] = {}
    faults: list[DataError] = []
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        try:
            if names := yaml_names(path):
                found[path] = names
        except DataError as error:
            faults.append(error)
    return found, faults


def codes(classes: Sequence[str]) -> dict[str, str]:
    """Class numbers as text."""
    return {name: str(i) for i, name in enumerate(classes)}


def data_yaml(dataset: Dataset) -> dict[str, str]:
    """``data.yaml``: where the splits lie and what the class numbers mean."""
    import yaml  # type: ignore[import-untyped, unused-ignore]

    splits = {split or "train": f"images/{split}".rstrip("/") for split in dataset.splits()}
    content = {**splits, "names": dict(enumerate(dataset.classes))}
    content.setdefault("val", splits.get("train", "images"))  # Ultralytics asks for one
    return {"data.yaml": yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}


FORMAT = Format(
    "yolo-obb",
    ".txt",
    "images/{split}",
    "labels/{split}",
    parse,
    render,
    sizes=True,
    read_names=read_names,
    codes=codes,
    side_files=data_yaml,
)
