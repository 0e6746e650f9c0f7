"""COCO's run-length masks.

Lin et al., "Microsoft COCO", ECCV 2014. Runs of absent and present pixels take turns, down the columns from the left.
They are numbers, or text that holds five bits of a number in each letter (the COCO API's ``rleToString``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from legnet_cli.boxes import Array
from legnet_cli.data.labels import Size


def mask_points(mask: Mapping[str, Any], size: Size | None) -> Array:
    """Points (k, 2) in pixels whose convex hull is that of the pixels of ``mask``.

    Args:
        mask: COCO's dict of ``size`` (height, width) and ``counts``.
        size: width and height of its image, None if unknown.

    Raises:
        ValueError: it is damaged, empty, or of another size.
    """
    height, width = _two(mask.get("size"))
    if size is not None and (width, height) != size:
        raise ValueError(f"the mask has {width} × {height} pixels, its image {size[0]} × {size[1]}")
    counts = mask.get("counts")
    listed = _unpacked(counts) if isinstance(counts, str) else _listed(counts)
    if min(listed, default=0) < 0 or sum(listed) > height * width:
        raise ValueError("the runs of the mask do not fit its size")
    runs = np.array(listed, np.int64)
    ends = np.cumsum(runs)
    first, last = (ends - runs)[1::2], ends[1::2] - 1
    first, last = first[first <= last], last[first <= last]
    if len(first) == 0:
        raise ValueError("the mask is empty")
    (left, top), (right, bottom) = np.divmod(first, height), np.divmod(last, height)
    # a run over several columns reaches the bottom of the first and begins at the top of the last
    many = right > left
    top_of_last, bottom_of_first = np.where(many, 0, top), np.where(many, height - 1, bottom)
    inner = right > left + 1
    parts = [
        _corners(left, top, left, bottom_of_first),
        _corners(right, top_of_last, right, bottom),
        _corners(left[inner] + 1, 0 * top[inner], right[inner] - 1, 0 * top[inner] + height - 1),
    ]
    return np.concatenate(parts).astype(np.float64)


def _corners(left: Array, top: Array, right: Array, bottom: Array) -> Array:
    """Outer corners (4n, 2) of pixels from ``left``, ``top`` to ``right``, ``bottom``, (n,) each."""
    x, y = (left, right + 1, right + 1, left), (top, top, bottom + 1, bottom + 1)
    return np.stack([np.concatenate(x), np.concatenate(y)], 1)


def _two(size: object) -> tuple[int, int]:
    if isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and 0 < side < 1 << 31 for side in size):
        return size[0], size[1]
    raise ValueError("the mask has no size of two whole numbers")


def _listed(counts: object) -> Sequence[int]:
    if isinstance(counts, list) and all(isinstance(count, int) for count in counts):
        return counts
    raise ValueError("the runs of the mask are not whole numbers")


def _unpacked(text: str) -> list[int]:
    """The runs in ``text``; from the fourth on each is stored as its difference to the one before the last."""
    counts: list[int] = []
    value = bits = 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or bits > 55:
            raise ValueError("the text of the mask is damaged")
        value |= (code & 0x1F) << bits
        bits += 5
        if not code & 0x20:  # the last letter of this number
            if code & 0x10:
                value -= 1 << bits
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = bits = 0
    if bits:
        raise ValueError("the text of the mask is cut short")
    return counts
