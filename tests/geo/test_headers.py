"""Sizes of images in every format, by headers alone; their orientation is tested with its use."""

import struct

import cv2
import numpy as np
import pytest

from legnet_cli.errors import DataError
from legnet_cli.geo.headers import read_header


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp", "jp2", "JPG", "TIF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_from_headers(tmp_path, suffix, channels):
    path = tmp_path / f"a.{suffix}"
    written, data = cv2.imencode(f".{suffix.lower()}", np.full((37, 123, channels), 7, np.uint8))
    if not written:
        pytest.skip(f"OpenCV cannot write {suffix} here")
    path.write_bytes(data.tobytes())
    assert read_header(path) == ((123, 37), 1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sizes_of_classic_and_big_tiff(tmp_path, order):
    mark = b"II" if order == "<" else b"MM"
    classic = mark + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", 2)
    classic += struct.pack(order + "HHIHH", 256, 3, 1, 123, 0) + struct.pack(order + "HHII", 257, 4, 1, 70000)
    big = mark + struct.pack(order + "HHHQ", 43, 8, 0, 16) + struct.pack(order + "Q", 2)
    big += struct.pack(order + "HHQI4x", 256, 4, 1, 123) + struct.pack(order + "HHQQ", 257, 16, 1, 70000)
    for data in (classic, big):
        (tmp_path / "a.tif").write_bytes(data)
        assert read_header(tmp_path / "a.tif") == ((123, 70000), 1)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0\xff\xff\xff\xff", b"BM"]
)
def test_damaged_images_are_refused(tmp_path, data):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.png: "):
        read_header(path)


def test_missing_image(tmp_path):
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_header(tmp_path / "a.png")
