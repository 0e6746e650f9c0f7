"""YOLO-OBB: a line ``class x1 y1 x2 y2 x3 y3 x4 y4`` for each object, corners as fractions of width and height.

Class numbers are those of ``names`` in ``data.yaml``. https://docs.ultralytics.com/datasets/obb
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from legnet_cli.data.format import Format, read_class_list, read_text, text_lines
from legnet_cli.data.labels import SUBPIXEL, Dataset, ImageLabels, LabelBuilder
from legnet_cli.errors import DataError


def parse(data: bytes, labels: LabelBuilder) -> None:
    """Add the objects of one YOLO-OBB text file to ``labels``, whose image size must be known."""
    if labels.size is None:
        raise DataError("has no image beside it: fractions of its size mean nothing without")
    scale = np.tile(np.array(labels.size, np.float64), 4)
    for number, line in enumerate(text_lines(data), 1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words[1:]]
        except ValueError as error:
            labels.bad(f":{number}", f"{str(error).rpartition(' ')[2]} is not a number")
            continue
        if len(values) == 4:
            labels.bad(f":{number}", "an upright box, not an oriented one: 8 coordinates must follow the class")
        elif len(values) % 2:
            labels.bad(f":{number}", f"{len(values)} coordinates where 4 points have 8")
        else:
            padded = np.resize(scale, len(values))
            labels.add((np.array(values) * padded).round(SUBPIXEL).tolist(), words[0], 0, f":{number}")


def render(image: ImageLabels, codes: Mapping[str, str]) -> str:
    """The YOLO-OBB text of ``image``, whose size must be known; "difficult" cannot be said."""
    if image.size is None:
        raise DataError(f"{image.file}: its size is unknown, YOLO-OBB needs it: put the image beside the labels")
    rows = (image.quads / np.array(image.size, np.float64)).reshape(-1, 8).tolist()
    return "".join(f"{codes[name]} {' '.join(map(repr, row))}\n" for name, row in zip(image.names, rows, strict=True))


def read_names(root: Path) -> dict[str, str]:
    """Class names by number from the ``names`` of a YAML file in ``root``, else from ``classes.txt``.

    Raises:
        DataError: there are no names, or more than one file has some.
    """
    import yaml  # type: ignore[import-untyped, unused-ignore]

    found: dict[Path, dict[str, str]] = {}
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        try:
            content = yaml.safe_load(read_text(path))
        except yaml.YAMLError as error:
            raise DataError(f"{path}: is not YAML ({' '.join(str(error).split())}): mend it") from error
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list):
            found[path] = {str(i): str(name) for i, name in enumerate(names)}
        elif isinstance(names, dict):
            found[path] = {str(i): str(name) for i, name in sorted(names.items())}
    if not found:
        listed = read_class_list(root) or {}
        found = {root: {str(i): name for i, name in enumerate(dict.fromkeys(listed.values()))}} if listed else {}
    if len(found) != 1:
        fault = f"{', '.join(path.name for path in found)} all name classes: keep one" if found else "no class names"
        raise DataError(f"{root}: {fault}" + ("" if found else ": add data.yaml with 'names: [...]'"))
    return next(iter(found.values()))


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
