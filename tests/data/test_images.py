import struct

import cv2
import numpy as np
import pytest

from legnet_cli.data.images import find_images, image_size
from legnet_cli.data.labels import strip_image_suffix
from legnet_cli.errors import DataError


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp", "jp2", "JPG", "TIF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_from_headers(tmp_path, suffix, channels):
    path = tmp_path / f"a.{suffix}"
    written, data = cv2.imencode(f".{suffix.lower()}", np.full((37, 123, channels), 7, np.uint8))
    if not written:
        pytest.skip(f"OpenCV cannot write {suffix} here")
    path.write_bytes(data.tobytes())
    assert image_size(path) == (123, 37)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sizes_of_classic_and_big_tiff(tmp_path, order):
    mark = b"II" if order == "<" else b"MM"
    classic = mark + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", 2)
    classic += struct.pack(order + "HHIHH", 256, 3, 1, 123, 0) + struct.pack(order + "HHII", 257, 4, 1, 70000)
    big = mark + struct.pack(order + "HHHQ", 43, 8, 0, 16) + struct.pack(order + "Q", 2)
    big += struct.pack(order + "HHQI4x", 256, 4, 1, 123) + struct.pack(order + "HHQQ", 257, 16, 1, 70000)
    for data in (classic, big):
        (tmp_path / "a.tif").write_bytes(data)
        assert image_size(tmp_path / "a.tif") == (123, 70000)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0\xff\xff\xff\xff", b"BM"]
)
def test_damaged_images_are_refused(tmp_path, data):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.png: "):
        image_size(path)


def test_missing_image(tmp_path):
    with pytest.raises(DataError, match="cannot be read as an image"):
        image_size(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("file", "stem"),
    [("a.PNG", "a"), ("d/a.b.tif", "d/a.b"), ("scene.v2", "scene.v2"), ("a__b", "a__b"), (".png", ".png")],
)
def test_stems(file, stem):
    assert strip_image_suffix(file) == stem


def test_images_are_found_in_any_case_and_sorted(tmp_path):
    for name in ("b.PNG", "a.jpg", "c/d.TIFF", "c/notes.txt", ".hidden.png", ".d/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path) == ["a.jpg", "b.PNG", "c/d.TIFF"]
