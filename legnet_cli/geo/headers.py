"""Size and orientation of a picture from its file's header alone: PNG, JPEG, BMP, TIFF, JPEG 2000, WebP.

EXIF (CIPA DC-008, tag 274) says how the stored pixels are turned to be shown; 1 is "as they are".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from legnet_cli.errors import DataError, reading
from legnet_cli.untrusted import open_file

Size = tuple[int, int]  # width, height in pixels

_WIDTH, _HEIGHT, _ORIENTATION = 256, 257, 274  # tags of TIFF
_MOST_PARTS = 1 << 14  # segments, chunks or tags that a header is looked for in
_FORMS = {3: "H", 4: "I", 16: "Q"}


def read_header(path: Path) -> tuple[Size, int]:
    """Width and height of the stored pixels of an image file, and their EXIF orientation, 1 to 8.

    Raises:
        DataError: the file cannot be read or is of another kind.
    """
    with reading(path, "replace it", "cannot be read as an image"), open_file(path) as file:
        found = _read(file)
    if found is None or min(found[0]) < 1:
        raise DataError(f"{path}: is not a PNG, JPEG, BMP, TIFF, JPEG 2000 or WebP image: replace it")
    size, orientation = found
    return size, orientation if 1 <= orientation <= 8 else 1


def _read(file: BinaryIO) -> tuple[Size, int] | None:
    head = file.read(64)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return struct.unpack(">II", head[16:24]), _chunk_orientation(file, b"eXIf", b"IDAT")
    if head.startswith(b"BM"):
        width, height = struct.unpack("<ii", head[18:26])
        return (width, abs(height)), 1  # negative height: rows from top to bottom
    if head.startswith(b"\xff\xd8"):
        return _jpeg(file)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        tags = _tiff_tags(file, 0)
        return ((tags[_WIDTH], tags[_HEIGHT]), tags.get(_ORIENTATION, 1)) if {_WIDTH, _HEIGHT} <= {*tags} else None
    if head[4:8] == b"jP  " or head.startswith(b"\xff\x4f\xff\x51"):
        return _jpeg2000_size(head + file.read(4096)), 1
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        has_exif = head[12:16] == b"VP8X" and head[20] & 0x08
        return _webp_size(head), _chunk_orientation(file, b"EXIF", b"") if has_exif else 1
    return None


def _jpeg(file: BinaryIO) -> tuple[Size, int] | None:
    file.seek(2)
    size, orientation = None, 1
    for _ in range(_MOST_PARTS):
        marker = file.read(2)
        if len(marker) < 2 or marker[0] != 0xFF:
            break
        kind = marker[1]
        while kind == 0xFF:  # fill bytes
            (kind,) = file.read(1)
        if kind in (0xD9, 0xDA):  # the end, or the start of the pixels
            break
        (length,) = struct.unpack(">H", file.read(2))
        start = file.tell()
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # a frame header
            _, height, width = struct.unpack(">BHH", file.read(5))
            size = width, height
        elif kind == 0xE1 and file.read(6) == b"Exif\0\0":
            orientation = _exif_orientation(file, start + 6)
        file.seek(start + length - 2)
    return None if size is None else (size, orientation)


def _chunk_orientation(file: BinaryIO, wanted: bytes, last: bytes) -> int:
    """Orientation from the chunk ``wanted`` of a PNG file (before ``last``) or a WebP file."""
    png = wanted == b"eXIf"
    at = 8 if png else 12
    for _ in range(_MOST_PARTS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            break
        kind, length = (head[4:], head[:4]) if png else (head[:4], head[4:])
        if kind == wanted:
            start = at + 8
            return _exif_orientation(file, start + 6 if file.read(6) == b"Exif\0\0" else start)
        if kind == last:
            return 1
        size = int.from_bytes(length, "big" if png else "little")
        at += 8 + size + (4 if png else size % 2)  # a checksum, or padding to an even length
    return 1


def _exif_orientation(file: BinaryIO, start: int) -> int:
    """Orientation in the EXIF data, a TIFF header without pixels, from ``start`` on; 1 where it is damaged."""
    try:
        return _tiff_tags(file, start).get(_ORIENTATION, 1)
    except (struct.error, ValueError, OverflowError):
        return 1


def _tiff_tags(file: BinaryIO, start: int) -> dict[int, int]:
    """Whole numbers of the first directory of the TIFF structure from ``start`` on, by tag."""
    file.seek(start)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = b"+" in head[2:4]
    at = struct.unpack(order + "Q", head[8:16])[0] if big else struct.unpack(order + "I", head[4:8])[0]
    file.seek(start + at)
    (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
    return dict(_tiff_entries(file, order, big, min(count, _MOST_PARTS)))


def _tiff_entries(file: BinaryIO, order: str, big: bool, count: int) -> Iterator[tuple[int, int]]:
    for _ in range(count):
        entry = file.read(20 if big else 12)
        tag, kind = struct.unpack(order + "HH", entry[:4])
        if kind in _FORMS:
            yield tag, struct.unpack_from(order + _FORMS[kind], entry, 12 if big else 8)[0]


def _jpeg2000_size(head: bytes) -> Size:
    at = head.find(b"ihdr")
    if at >= 0:
        height, width = struct.unpack_from(">II", head, at + 4)
        return width, height
    at = head.find(b"\xff\x51")  # the bare code stream's SIZ segment
    right, bottom, left, top = struct.unpack_from(">IIII", head, at + 6)
    return right - left, bottom - top


def _webp_size(head: bytes) -> Size:
    kind = head[12:16]
    if kind == b"VP8X":
        return (1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little"))
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF
