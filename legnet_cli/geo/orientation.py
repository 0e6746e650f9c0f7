"""EXIF orientation: how the stored pixels of a picture are turned to be shown.

The numbers are EXIF's: 2 to 4 mirror or half-turn the picture, 5 to 8 make its rows columns. Pictures are shown as
OpenCV, Pillow's ``exif_transpose`` and every viewer do.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Window = tuple[float, float, float, float]  # column, row, width, height

_MIRRORED_COLUMNS, _MIRRORED_ROWS = (2, 3, 6, 7), (3, 4, 7, 8)


def is_transposed(orientation: int) -> bool:
    """Whether stored rows are shown as columns."""
    return orientation >= 5


def stored_window(window: Window, size: tuple[int, int], orientation: int) -> Window:
    """The window of the stored pixels that is shown as ``window`` of a picture of ``size`` (width, height)."""
    col, row, width, height = window
    if orientation in _MIRRORED_COLUMNS:
        col = size[0] - col - width
    if orientation in _MIRRORED_ROWS:
        row = size[1] - row - height
    return (row, col, height, width) if is_transposed(orientation) else (col, row, width, height)


def as_shown(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Stored ``pixels`` (..., rows, columns) the way they are shown; a view."""
    if is_transposed(orientation):
        pixels = pixels.swapaxes(-1, -2)
    if orientation in _MIRRORED_COLUMNS:
        pixels = pixels[..., ::-1]
    return pixels[..., ::-1, :] if orientation in _MIRRORED_ROWS else pixels
