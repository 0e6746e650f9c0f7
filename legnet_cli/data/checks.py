"""What in a dataset is usable but looks like a mistake: told to the user, left as it is."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.data.labels import ImageLabels, Problem, plain_name

_RARE = 20  # a class this many times rarer than one with nearly its name is a misspelling
_ALIKE = 0.85


def check_labels(images: Sequence[ImageLabels]) -> Iterator[Problem]:
    """Self-crossing quads, objects outside of their image, classes that look misspelt.

    Whether an object lies outside is told for images of known size only.
    """
    if not images:
        return
    quads = np.concatenate([image.quads for image in images])
    owner = np.repeat(np.arange(len(images)), [len(image) for image in images])
    first = np.cumsum([0, *map(len, images)])
    sizes = np.array([image.size or (np.inf, np.inf) for image in images], np.float64)[owner]

    def place(index: int) -> str:
        image = int(owner[index])
        return images[image].place(index - int(first[image]))

    for index in np.flatnonzero(self_crossing(quads)).tolist():
        yield Problem(place(index), "the sides of the quad cross each other: are its corners in order?")
    low, high = quads.min(1), quads.max(1)
    outside = ((high <= 0) | (low >= sizes)).any(1)
    for index in np.flatnonzero(outside).tolist():
        width, height = sizes[index].astype(int)
        yield Problem(place(index), f"the object lies outside of its image of {width} × {height} pixels")
    over = np.flatnonzero(((low < 0) | (high > sizes)).any(1) & ~outside).tolist()
    if over:
        more = len(over) - 1
        others = f"; so {'does' if more == 1 else 'do'} {more} other object{'s' * (more > 1)}" if more else ""
        yield Problem(place(over[0]), f"reaches over the edge of its image{others}")
    yield from _check_names(images)


def self_crossing(quads: Array) -> NDArray[np.bool_]:
    """Whether opposite sides of each of (n, 4, 2) quads cross."""
    a, b, c, d = np.moveaxis(quads, 1, 0)
    return _cross(a, b, c, d) | _cross(b, c, d, a)


def _cross(a: Array, b: Array, c: Array, d: Array) -> NDArray[np.bool_]:
    """Whether the inner parts of segments ab and cd, (n, 2) each, cross."""

    def side(p: Array, q: Array, r: Array) -> Array:
        turned: Array = (q[:, 0] - p[:, 0]) * (r[:, 1] - p[:, 1]) - (q[:, 1] - p[:, 1]) * (r[:, 0] - p[:, 0])
        return turned

    return (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)


def _check_names(images: Sequence[ImageLabels]) -> Iterator[Problem]:
    counts: dict[str, int] = {}
    places: dict[str, str] = {}
    for image in images:
        for i, name in enumerate(image.names):
            counts[name] = counts.get(name, 0) + 1
            if name not in places:
                places[name] = image.place(i)
    order = sorted(counts, key=lambda name: (counts[name], name))
    for i, name in enumerate(order):
        likely = (other for other in reversed(order[i + 1 :]) if _misspelt(name, other, counts[other] / counts[name]))
        if other := next(likely, None):
            few = f"{name!r} {counts[name]} times, {other!r} {counts[other]} times"
            yield Problem(places[name], f"class {name!r}: did you mean {other!r}? ({few})")


def _misspelt(name: str, other: str, times: float) -> bool:
    first, second = plain_name(name), plain_name(other)
    if first == second:
        return True
    digits = ["".join(letter for letter in text if letter.isdigit()) for text in (first, second)]
    return times >= _RARE and digits[0] == digits[1] and difflib.SequenceMatcher(None, first, second).ratio() >= _ALIKE
