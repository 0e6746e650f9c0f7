"""Oriented boxes drawn over a picture of their scene, with class and score, and the number of objects beneath."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from legnet_cli.boxes import Array
from legnet_cli.engine.predict.style import class_colour
from legnet_cli.files import PathLike, atomic_path

Picture = NDArray[np.uint8]

_SUBPIXEL_BITS = 4
ENLARGED_SIDE, MOST_ENLARGED = 1600, 4


def enlarge(image: Picture) -> tuple[Picture, int]:
    """A small picture a whole number of times as large, up to 4 and a side of 1600 pixels; and that number."""
    times = max(1, min(MOST_ENLARGED, ENLARGED_SIDE // max(image.shape[:2])))
    if times == 1:
        return image, 1
    large = cv2.resize(image, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.uint8), times


def draw_preview(
    image: Picture,
    polygons: Array,
    labels: NDArray[np.int64],
    classes: Sequence[str],
    scores: NDArray[np.float32] | None = None,
) -> Picture:
    """Draw boxes over ``image`` and a legend beneath it.

    Args:
        image: (height, width, 3) RGB; stays as it is.
        polygons: (n, 4, 2) corners in pixels of ``image``, counted from the outer corner of its first pixel.
        labels: (n,) class indices.
        classes: the class names they index.
        scores: (n,); class and score are written beside boxes, the best first, where that hides nothing.

    Returns:
        RGB picture as wide as ``image`` and higher by the legend, where there is anything to put into it.
    """
    picture = np.array(image, np.uint8, order="C")
    line = max(1, 2 * round(max(picture.shape[:2]) / 2500))  # OpenCV draws 1, 3, 5 … pixels for 1, 2, 4 …
    # OpenCV counts from pixel centres
    points = np.rint((polygons - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
    sides = np.linalg.norm(polygons[:, 1:3] - polygons[:, :2], axis=2)
    roomy = sides.min(1, initial=np.inf) > 8 * line
    for label in np.unique(labels).tolist():  # all edges first: no box's edge hides another box
        _outline(picture, points[roomy & (labels == label)], _edge_colour(label), line + 2 - line % 2)
    for label in np.unique(labels).tolist():
        _outline(picture, points[labels == label], class_colour(label), line)
    if scores is not None:
        picture = _captioned(picture, polygons, labels, classes, scores, max(12, 9 * line))
    legend = _legend(picture.shape[1], max(12, 14 * line), labels, classes)
    return np.concatenate([picture, legend])


def write_preview(
    path: PathLike,
    image: Picture,
    polygons: Array,
    labels: NDArray[np.int64],
    classes: Sequence[str],
    scores: NDArray[np.float32] | None = None,
    *,
    overwrite: bool = True,
) -> None:
    """Write what :func:`draw_preview` draws to a PNG file, replacing what is there if ``overwrite`` is set.

    Raises:
        DataError: the file cannot be written.
    """
    picture = Image.fromarray(draw_preview(image, polygons, labels, classes, scores))
    with atomic_path(path, overwrite=overwrite) as scratch:
        picture.save(scratch, format="PNG")


def _outline(picture: Picture, points: NDArray[np.int32], colour: tuple[int, int, int], width: int) -> None:
    cv2.polylines(picture, list(points), True, colour, width, cv2.LINE_AA, _SUBPIXEL_BITS)


def _edge_colour(label: int) -> tuple[int, int, int]:
    """Black beside a bright class colour, white beside a dark one: of the two, one differs from any background."""
    red, green, blue = class_colour(label)
    return (0, 0, 0) if 0.3 * red + 0.6 * green + 0.1 * blue > 128 else (255, 255, 255)


def _captioned(
    picture: Picture,
    polygons: Array,
    labels: NDArray[np.int64],
    classes: Sequence[str],
    scores: NDArray[np.float32],
    size: int,
) -> Picture:
    """``picture`` with class and score above, below or beside each box; without those that would hide something."""
    font, canvas = load_font(size), Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    taken = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(taken, list(np.rint(polygons).astype(np.int32)), 1)
    for index in np.argsort(-scores, kind="stable").tolist():
        label, text = int(labels[index]), f"{classes[labels[index]]} {scores[index]:.2f}"
        left, top, right, bottom = draw.textbbox((0, 0), text, font, stroke_width=2)
        width, height = math.ceil(right - left), math.ceil(bottom - top)
        (x0, y0), (x1, y1) = polygons[index].min(0), polygons[index].max(0)
        middle_x, middle_y = (x0 + x1 - width) / 2, (y0 + y1 - height) / 2
        places = (middle_x, y0 - height - 2), (middle_x, y1 + 3), (x1 + 3, middle_y), (x0 - width - 2, middle_y)
        for x, y in np.rint(places).astype(int).tolist():
            inside = x >= 0 and y >= 0 and x + width <= picture.shape[1] and y + height <= picture.shape[0]
            if inside and not taken[y : y + height, x : x + width].any():
                taken[y : y + height, x : x + width] = 1
                corner, edge = (x - left, y - top), _edge_colour(label)
                draw.text(corner, text, class_colour(label), font, stroke_width=2, stroke_fill=edge)
                break
    return np.array(canvas, np.uint8)


def load_font(size: int) -> ImageFont.FreeTypeFont:
    """The font of texts in pictures, of a height in pixels."""
    found = importlib.util.find_spec("matplotlib")  # half a second to import, for its font
    assert found is not None
    assert found.origin is not None
    return ImageFont.truetype(Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf", size)


def _legend(width: int, size: int, labels: NDArray[np.int64], classes: Sequence[str]) -> Picture:
    """A strip of ``width`` pixels: a swatch, the name and the count of each class, the most frequent first."""
    font = load_font(size)
    found, counts = np.unique(labels, return_counts=True)
    entries = [(found[i], f"{classes[found[i]]} {counts[i]:,}") for i in np.argsort(-counts, kind="stable")]
    gap, line_height = size // 2, round(size * 1.6)
    x, row, placed = gap, 0, []
    for label, text in entries:
        needed = round(size + gap + font.getlength(text))
        if x > gap and x + needed + gap > width:
            x, row = gap, row + 1
        placed.append((x, row, label, text))
        x += needed + 2 * gap
    height = (row + 1) * line_height + gap if placed else 0
    strip = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(strip)
    for x, row, label, text in placed:
        middle = row * line_height + (gap + line_height) // 2
        square = (x, middle - size // 2, x + size - 1, middle - size // 2 + size - 1)
        draw.rectangle(square, fill=class_colour(int(label)), outline="black")
        draw.text((x + size + gap, middle), text, fill="black", font=font, anchor="lm")
    return np.asarray(strip, np.uint8).reshape(height, width, 3)
