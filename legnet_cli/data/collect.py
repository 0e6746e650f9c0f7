"""Label files that are about many images: what their readers share."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from legnet_cli.boxes import Array, turned_rectangle
from legnet_cli.data.builder import LARGEST, LabelBuilder, is_text, short
from legnet_cli.data.labels import SUBPIXEL, ImageLabels, Problem, Size
from legnet_cli.errors import reading
from legnet_cli.untrusted import MOST_JSON, parse_json, read_bytes


class Collector:
    """The images that the label file ``path`` describes, and their objects, in the order of the file."""

    def __init__(self, path: Path, split: str, problems: list[Problem]) -> None:
        self.path, self.problems = path, problems
        self._split = split
        self._builders: dict[tuple[str, str], LabelBuilder] = {}

    def image(self, name: object, size: Size | None = None, place: str = "", split: str = "") -> LabelBuilder | None:
        """What collects the objects of the image of this name; None, and a problem, if it cannot be a file's."""
        file = image_file(name)
        if file is None:
            self.bad(place, f"{short(name)} is not the name of an image")
            return None
        key = split or self._split, file
        builder = self._builders.setdefault(key, LabelBuilder(self.path, self.problems, size))
        builder.size = builder.size or size
        return builder

    def bad(self, place: str, message: str) -> None:
        """Note that what stands at ``place`` is left out."""
        self.problems.append(Problem(f"{self.path}{place}", message, left_out=True))

    def build(self) -> tuple[list[ImageLabels], list[str]]:
        """The images and the sorted names of their classes."""
        images = [builder.build(file, None, split) for (split, file), builder in self._builders.items()]
        return images, sorted({name for image in images for name in image.names})


def image_file(name: object) -> str | None:
    """The path below the images that ``name`` stands for, a relative path, a URL or an absolute path; None if none.

    Of URLs and absolute paths the last part counts; ``?d=…`` is how Label Studio serves files of the machine.
    """
    if not isinstance(name, str):
        return None
    file = name.strip().replace("\\", "/")
    if re.match(r"[a-z][a-z0-9+-]+://|/|[a-z]:/", file, re.IGNORECASE):
        try:
            url = urlsplit(file)
        except ValueError:
            return None
        file = unquote(parse_qs(url.query).get("d", [url.path])[0]).rpartition("/")[2]
    file = file.removeprefix("./")
    return file if is_text(file) and not {"..", ""} & {*file.split("/")} else None


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """The value in a JSON file.

    Raises:
        DataError: it cannot be read.
    """
    with reading(path, "check the file"):
        text = read_bytes(path, MOST_JSON)
    with reading(path, "write it again", "is not JSON"):
        return parse_json(text)


def floats(values: object) -> list[float]:
    """A list of numbers as JSON or text has them.

    Raises:
        ValueError: it is not a list, or one is not a number.
    """
    if not isinstance(values, list):
        raise ValueError(f"{short(values)} is not a list of numbers")
    found = []
    for value in values:
        number = math.nan
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            with suppress(ValueError, OverflowError):
                number = float(value)
        if not abs(number) < LARGEST:
            raise ValueError(f"{short(value)} is not a usable number")
        found.append(number)
    return found


def turned(left: float, top: float, right: float, bottom: float, degrees: float) -> Array:
    """Corners (4, 2) of a rectangle that is turned by ``degrees`` clockwise about its centre."""
    low, high = np.array([left, top]), np.array([right, bottom])
    if not degrees:
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    corners: Array = turned_rectangle(low, high, degrees).round(SUBPIXEL)
    return corners


def around(centre: Sequence[float], radii: Sequence[float], degrees: float = 0) -> Array:
    """Corners (4, 2) of the rectangle around an ellipse."""
    (x, y), (a, b) = centre, radii
    return turned(x - a, y - b, x + a, y + b, degrees)
