"""DOTA v1.0, v1.5 and v2.0 text: a line ``x1 y1 x2 y2 x3 y3 x4 y4 class difficult`` for each object.

Lines ``imagesource:…`` and ``gsd:…`` may come first. Xia et al., "DOTA", CVPR 2018; https://captain-whu.github.io/DOTA.
Tools split lines at blanks, so blanks in a class name are written as ``-``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from legnet_cli.data.builder import LabelBuilder
from legnet_cli.data.format import Format, text_lines
from legnet_cli.data.labels import ImageLabels
from legnet_cli.errors import DataError


def parse(data: bytes, labels: LabelBuilder) -> None:
    """Add the objects and header lines of one DOTA text file to ``labels``."""
    for number, line in enumerate(text_lines(data), 1):
        words = line.split()
        key, colon, value = line.partition(":")
        if colon and key.strip().replace(" ", "").isalpha():
            labels.meta[key.strip()] = value.strip()
        elif words:
            _parse_object(words, labels, f":{number}")


def _parse_object(words: list[str], labels: LabelBuilder, place: str) -> None:
    numbers = [_number(word) for word in words]
    leading = [
        number for number in itertools.takewhile(lambda number: number is not None, numbers) if number is not None
    ]
    if len(leading) < 8 and len(words) > 8:
        labels.bad(place, f"{words[len(leading)]!r} is not a number")
    elif len(leading) < 8 or (len(leading) > 9 and len(words) > 10):
        labels.bad(place, f"{len(leading)} coordinates where 4 points have 8")
    elif len(words) == 8:
        labels.bad(place, "the class is missing")
    elif len(words) == 9:
        labels.add(leading[:8], words[8], 0, place)
    elif not words[-1].isdecimal():
        labels.bad(place, f"'difficult' is {words[-1]!r}, not a whole number")
    else:
        labels.add(leading[:8], " ".join(words[8:-1]), words[-1], place)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def render(image: ImageLabels, codes: Mapping[str, str]) -> str:
    """The DOTA text of ``image``; coordinates keep all their digits."""
    lines = [f"{key}:{image.meta[key]}\n" for key in ("imagesource", "gsd") if key in image.meta]
    rows = zip(image.quads.reshape(-1, 8).tolist(), image.names, image.difficult.tolist(), strict=True)
    lines += [f"{' '.join(map(repr, corners))} {codes[name]} {difficult}\n" for corners, name, difficult in rows]
    return "".join(lines)


def codes(classes: Sequence[str]) -> dict[str, str]:
    """Class names with ``-`` for blanks.

    Raises:
        DataError: two names would become the same.
    """
    found = {name: "-".join(name.split()) for name in classes}
    for name, code in found.items():
        if code != name and code in classes:
            raise DataError(f"classes {name!r} and {code!r} are the same in DOTA text: rename one")
    return found


FORMAT = Format("dota", ".txt", "{split}/images", "{split}/labelTxt", parse, render, codes=codes)
