"""Image files of a dataset: finding them, and their size from the file's header alone."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from legnet_cli.data.labels import IMAGE_SUFFIXES, Size
from legnet_cli.errors import DataError


def find_images(folder: Path) -> list[str]:
    """Image files in ``folder`` and below, as sorted paths from there with ``/``; hidden ones are passed over."""
    found: list[str] = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        base = Path(place).relative_to(folder)
        images = (name for name in files if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."))
        found += [(base / name).as_posix() for name in images]
    return sorted(found)


def holds_images(folder: Path) -> bool:
    """Whether there is an image in ``folder`` or below."""
    files = (name for _, _, names in os.walk(folder, followlinks=True) for name in names)
    return any(name.lower().endswith(IMAGE_SUFFIXES) for name in files)


def image_size(path: Path) -> Size:
    """Width and height in pixels of a PNG, JPEG, BMP, TIFF, BigTIFF, JPEG 2000 or WebP file, read from its header.

    Raises:
        DataError: the file cannot be read or is of another kind.
    """
    try:
        with path.open("rb") as file:
            size = _size(file)
    except (OSError, struct.error, ValueError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error}): replace it") from error
    if size is None or min(size) < 1:
        raise DataError(f"{path}: is not a PNG, JPEG, BMP, TIFF, JPEG 2000 or WebP image: replace it")
    return size


def _size(file: BinaryIO) -> Size | None:
    head = file.read(64)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return struct.unpack(">II", head[16:24])
    if head.startswith(b"BM"):
        width, height = struct.unpack("<ii", head[18:26])
        return width, abs(height)  # negative height: rows from top to bottom
    if head.startswith(b"\xff\xd8"):
        return _jpeg_size(file)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff_size(file, head)
    if head[4:8] == b"jP  " or head.startswith(b"\xff\x4f\xff\x51"):
        return _jpeg2000_size(head + file.read(4096))
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp_size(head)
    return None


def _jpeg_size(file: BinaryIO) -> Size | None:
    file.seek(2)
    while True:
        marker, kind = struct.unpack(">BB", file.read(2))
        while kind == 0xFF:  # fill bytes
            (kind,) = struct.unpack(">B", file.read(1))
        if marker != 0xFF:
            return None
        (length,) = struct.unpack(">H", file.read(2))
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # a frame header
            _, height, width = struct.unpack(">BHH", file.read(5))
            return width, height
        file.seek(length - 2, os.SEEK_CUR)


def _tiff_size(file: BinaryIO, head: bytes) -> Size | None:
    order = "<" if head[:2] == b"II" else ">"
    big = b"+" in head[2:4]
    file.seek(struct.unpack(order + "Q", head[8:16])[0] if big else struct.unpack(order + "I", head[4:8])[0])
    (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
    found: dict[int, int] = {}
    for tag, kind, value in _tiff_entries(file, order, big, min(count, 4096)):
        if tag in (256, 257):  # ImageWidth, ImageLength
            form = {3: "H", 4: "I", 16: "Q"}[kind] if kind in (3, 4, 16) else "I"
            found[tag] = struct.unpack_from(order + form, value)[0]
    return (found[256], found[257]) if len(found) == 2 else None


def _tiff_entries(file: BinaryIO, order: str, big: bool, count: int) -> Iterator[tuple[int, int, bytes]]:
    for _ in range(count):
        entry = file.read(20 if big else 12)
        tag, kind = struct.unpack(order + "HH", entry[:4])
        yield tag, kind, entry[12:20] if big else entry[8:12]


def _jpeg2000_size(head: bytes) -> Size | None:
    at = head.find(b"ihdr")
    if at >= 0:
        height, width = struct.unpack_from(">II", head, at + 4)
        return width, height
    at = head.find(b"\xff\x51")  # the bare code stream's SIZ segment
    right, bottom, left, top = struct.unpack_from(">IIII", head, at + 6)
    return right - left, bottom - top


def _webp_size(head: bytes) -> Size | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return (1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little"))
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF
