"""Collects the objects and faults of one image while its labels are parsed; the same checks for every format."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array, boxes_to_polygons, polygons_to_boxes
from legnet_cli.data.labels import SUBPIXEL, ImageLabels, Problem, Scalar, Size, names_region, unknown_class
from legnet_cli.errors import DataError

_MOST_FAULTS = 10_000  # of one file
_FEW = 4096  # objects looked at at a time
_NONE: Mapping[str, Scalar] = {}

LARGEST = 1 << 31  # beyond it nothing can be meant: no coordinate in pixels, no side of an image, no difficulty

_WORDS = {"false": "0", "true": "1"}

# control characters and halves of surrogate pairs: no label format can hold them
_NOT_TEXT = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


class LabelBuilder:
    """Collects the objects and faults of one image while its label file is parsed.

    Attributes:
        source: the label file.
        problems: faults found so far, shared by all builders of a dataset.
        size: width and height of the image in pixels, None if unknown; a parser may set it.
        names: class names by the code that stands for them in the file; None if codes are names.
        meta: what the file says about the image.
    """

    def __init__(
        self, source: Path, problems: list[Problem], size: Size | None = None, names: Mapping[str, str] | None = None
    ) -> None:
        self.source, self.problems, self.size, self.names = source, problems, size, names
        self.meta: dict[str, object] = {}
        self._faults = 0
        # one object a line would take many times the memory of its text
        self._corners, self._levels = array("d"), array("q")
        self._codes: dict[str, str] = {}
        self._names: list[str] = []
        self._places: list[str] = []
        self._attributes: list[Mapping[str, Scalar]] = []

    def bad(self, place: str, message: str) -> None:
        """Note a fault at ``place`` (``:12`` for line 12, empty for the whole file); its object is left out."""
        self._faults += 1
        if self._faults > _MOST_FAULTS:
            raise DataError(f"has over {_MOST_FAULTS:,} faults: check that it is of this format")
        self.problems.append(Problem(f"{self.source}{place}", message, left_out=True))

    def add(
        self,
        coordinates: Sequence[float],
        code: str,
        difficult: object = 0,
        place: str = "",
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        """Add an object of 8 ``coordinates`` x1, y1 … x4, y4 in pixels; note a fault if it cannot be one."""
        name = code if self.names is None else self.names.get(code, code if names_region(code) else None)
        level = difficulty(difficult)
        if len(coordinates) != 8:
            self.bad(place, f"{len(coordinates) / 2:g} points where an oriented box has 4")
        elif not code:
            self.bad(place, "the class is missing")
        elif name is None:
            self.bad(place, self._unknown(code))
        elif not is_text(name):
            self.bad(place, f"the class {name!r} has characters that are not text")
        elif level is None:
            self.bad(place, f"'difficult' is {short(difficult)}, not a whole number")
        else:
            self._corners.extend(coordinates)
            self._levels.append(level)
            self._names.append(self._codes.setdefault(name, name))
            self._places.append(place)
            self._attributes.append(scalars(attributes or {}) or _NONE)

    def _unknown(self, code: str) -> str:
        names = self.names or {}
        if not code.isdecimal():
            return unknown_class(code, names)
        return unknown_class(code, (f"{key} ({name})" for key, name in names.items()))

    def add_polygon(
        self,
        points: Array,
        code: str,
        difficult: object = 0,
        place: str = "",
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        """Add an object outlined by (k, 2) ``points``: as it is with 4 points, else its smallest oriented box."""
        if len(points) > 1 and (points[0] == points[-1]).all():
            points = points[:-1]
        if len(points) < 3:
            self.bad(place, f"{len(points)} different points, a polygon has at least 3")
            return
        if len(points) != 4 and _is_pixels(points).all():
            points = boxes_to_polygons(polygons_to_boxes(points[None]))[0].round(SUBPIXEL)
        self.add(points[:4].ravel().tolist(), code, difficult, place, attributes)

    def build(self, file: str, path: Path | None, split: str) -> ImageLabels:
        """The image with its sound objects; corners that are not pixels and quads without area are faults."""
        quads = np.frombuffer(self._corners, np.float64).reshape(-1, 4, 2)
        sound, flat = np.zeros(len(quads), np.bool_), np.zeros(len(quads), np.bool_)
        for start in range(0, len(quads), _FEW):
            few = slice(start, start + _FEW)
            sound[few] = _is_pixels(quads[few]).all((1, 2))
            flat[few] = sound[few] & _without_area(np.where(sound[few, None, None], quads[few], 0.0))
        for i in np.flatnonzero(~sound | flat):
            finite = bool(np.isfinite(quads[i]).all())
            far = f"a corner is over {LARGEST:.0e} pixels away" if finite else "a corner is not a finite number"
            self.bad(self._places[i], "the area is zero" if flat[i] else far)
        kept = sound & ~flat
        keep = np.flatnonzero(kept).tolist()
        return ImageLabels(
            file=file,
            quads=quads if kept.all() else quads[kept],
            names=tuple(self._names[i] for i in keep),
            difficult=np.array(self._levels, np.int64)[kept],
            attributes=tuple(self._attributes[i] for i in keep),
            path=path,
            size=self.size,
            split=split,
            meta=scalars(self.meta),
            source=self.source,
            places=tuple(self._places[i] for i in keep),
        )


def _is_pixels(points: Array) -> NDArray[np.bool_]:
    return np.asarray(np.abs(points) < LARGEST)  # false for NaN too


def _without_area(quads: Array) -> NDArray[np.bool_]:
    """Whether the four corners of each of (n, 4, 2) quads lie on one line."""
    a, b, c = np.moveaxis(quads[:, 1:] - quads[:, :1], 1, 0)
    crosses = [u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0] for u, v in ((a, b), (a, c), (b, c))]
    flat: NDArray[np.bool_] = np.abs(crosses).max(0) < 1e-6
    return flat


def is_text(text: str) -> bool:
    """Whether ``text`` can be written to every format."""
    return not _NOT_TEXT.search(text) and not {"\n", "\r", "\t"} & {*text}


def difficulty(value: object) -> int | None:
    """A difficulty as the formats write it, 0 for none; None if it is not a whole number that makes sense."""
    if value is None or value == "":
        return 0
    if not isinstance(value, str | int | float):
        return None
    try:
        number = float(_WORDS.get(value.strip().lower(), value) if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() and abs(number) < LARGEST else None


def rotation(value: object) -> float | None:
    """Degrees that an attribute called ``rotation`` holds; None where it speaks of something else, such as ``left``.

    Raises:
        ValueError: it has digits and is not a number.
    """
    if isinstance(value, str | int | float):
        with suppress(ValueError, OverflowError):
            degrees = float(value)
            if math.isfinite(degrees):
                return degrees
    if not re.search("[0-9]", short(value)):
        return None
    raise ValueError(f"its rotation is {short(value)}, not a number of degrees")


def scalars(values: Mapping[str, object]) -> dict[str, Scalar]:
    """What of ``values`` says something, as scalars that every format can hold: lists and the like as JSON."""
    found = {_NOT_TEXT.sub("\ufffd", key): _scalar(value) for key, value in values.items()}
    return {key: value for key, value in found.items() if value is not None}


def _scalar(value: object) -> Scalar | None:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else str(value)
    try:
        return _NOT_TEXT.sub("\ufffd", value if isinstance(value, str) else json.dumps(value))
    except RecursionError:
        return None


def short(value: object) -> str:
    """``value`` as a message can hold it."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # whole numbers of over 4300 digits have no text
        text = type(value).__name__
    return text if len(text) <= 40 else f"{text[:40]}…"
