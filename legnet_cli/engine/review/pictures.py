"""Pictures of what is to be reviewed: a crop of each object, and all of them on sheets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from legnet_cli.engine.layers.crops import Picture, draw_crop, read_window
from legnet_cli.engine.predict import class_colour, load_font
from legnet_cli.engine.review.config import ReviewConfig
from legnet_cli.engine.review.scenes import SceneObjects
from legnet_cli.engine.review.selection import PLACE, Choice
from legnet_cli.geo.raster import Scene

_SIDE, _GAP = 200, 12  # pixels of a crop's side, and between two
_ACROSS, _DOWN = 8, 5  # crops on a sheet
_SIZE, _LINES = 13, 3  # pixels of the captions' letters, and their lines
_CAPTION = _LINES * (_SIZE + 4)
_MARGIN = 2  # pixels of the scene beyond a crop, for its edges to be interpolated
_LEAST = 32  # pixels of the scene that a crop is wide at least
_BESIDE = (255, 255, 255)  # outlines of other rows in a crop
_UNSAFE = re.compile(r"[^\w.-]+")


def write_crops(
    folder: Path, objects: SceneObjects, choice: Choice, classes: Sequence[str], config: ReviewConfig
) -> list[Path]:
    """Write a crop of each row, ``NNN_class.png``, into a new folder; returns them.

    What no pixels can be read of, damaged files, is left white.

    Raises:
        DataError: a scene cannot be opened.
    """
    folder.mkdir()
    digits = max(3, len(str(len(choice))))
    paths = [
        folder / f"{place:0{digits}d}_{_UNSAFE.sub('_', classes[label])}.png"
        for place, label in enumerate(objects.labels[choice.rows].tolist(), 1)
    ]
    for place, crop in _crops(objects, choice, config):
        Image.fromarray(crop).save(paths[place])
    return paths


def _crops(objects: SceneObjects, choice: Choice, config: ReviewConfig) -> Iterator[tuple[int, Picture]]:
    """The place of each row in the choice with its crop, scene by scene."""
    numbers = objects.numbers[choice.rows]
    for number in np.unique(numbers).tolist():
        places = np.flatnonzero(numbers == number)
        quads = objects.quads[choice.rows[places]]
        with Scene.open(objects.scenes[number].path, bands=config.bands, stretch=config.stretch) as scene:
            for index, place in enumerate(places.tolist()):
                row = choice.rows[place]
                centre = objects.boxes[row, :2]
                span = max(PLACE * objects.boxes[row, 2], _LEAST)
                half = span / 2 + _MARGIN
                window = read_window(scene, centre - half, centre + half)
                outlines = [(quad, _BESIDE) for other, quad in enumerate(quads) if other != index]
                outlines.append((quads[index], class_colour(int(objects.labels[row]))))
                blank = np.full((_SIDE, _SIDE, 3), 255, np.uint8)
                yield place, blank if window is None else draw_crop(window, centre, span, _SIDE, outlines)


def write_sheets(paths: Sequence[Path], crops: Sequence[Path], captions: Sequence[tuple[str, str]]) -> None:
    """Write the crops with their captions in rows of eight, forty on a sheet.

    Args:
        paths: of the sheets, see :func:`sheets`.
        crops: the pictures.
        captions: of each, a line and more words, which are wrapped.
    """
    font = load_font(_SIZE)
    for page, path in enumerate(paths):
        some = range(page * _ACROSS * _DOWN, min((page + 1) * _ACROSS * _DOWN, len(crops)))
        columns, rows = min(_ACROSS, len(some)), -(-len(some) // _ACROSS)
        size = columns * (_SIDE + _GAP) + _GAP, rows * (_SIDE + _CAPTION + _GAP) + _GAP
        sheet = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(sheet)
        for cell, number in enumerate(some):
            x = _GAP + cell % _ACROSS * (_SIDE + _GAP)
            y = _GAP + cell // _ACROSS * (_SIDE + _CAPTION + _GAP)
            with Image.open(crops[number]) as crop:
                sheet.paste(crop, (x, y))
            title, words = captions[number]
            lines = [title, *_wrapped(words, font)][:_LINES]
            draw.multiline_text((x, y + _SIDE + 2), "\n".join(lines), fill="black", font=font, spacing=2)
        sheet.save(path)


def sheets(count: int) -> int:
    """How many sheets that many crops fill."""
    return -(-count // (_ACROSS * _DOWN))


def _wrapped(words: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """Words in lines as wide as a crop."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= _SIDE:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
