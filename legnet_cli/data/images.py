"""Image files of a dataset: finding them, and their size."""

from __future__ import annotations

from pathlib import Path

from legnet_cli.data.labels import IMAGE_SUFFIXES, Size
from legnet_cli.geo.georef import shown_orientation
from legnet_cli.geo.headers import read_header
from legnet_cli.geo.orientation import is_transposed
from legnet_cli.untrusted import walk


def find_images(folder: Path) -> list[str]:
    """Image files in ``folder`` and below, as sorted paths from there with ``/``; hidden ones are passed over."""
    found: list[str] = []
    for place, folders, files in walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        base = place.relative_to(folder)
        images = (name for name in files if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."))
        found += [(base / name).as_posix() for name in images]
    return sorted(found)


def holds_images(folder: Path) -> bool:
    """Whether there is an image in ``folder`` or below."""
    files = (name for _, _, names in walk(folder) for name in names)
    return any(name.lower().endswith(IMAGE_SUFFIXES) for name in files)


def image_size(path: Path) -> Size:
    """Width and height in pixels of a PNG, JPEG, BMP, TIFF, BigTIFF, JPEG 2000 or WebP file, as its picture is shown.

    Its header alone is read. EXIF orientation counts, unless the file says where on the ground its pixels lie.

    Raises:
        DataError: the file cannot be read or is of another kind.
    """
    (width, height), orientation = read_header(path)
    if is_transposed(orientation) and is_transposed(shown_orientation(path)):
        return height, width
    return width, height
