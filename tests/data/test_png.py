"""PNG files that any reader takes for the same pixels, whichever library compresses them."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from legnet_cli.data import png
from legnet_cli.tiles import Tile


@pytest.fixture(params=["isal where installed", "zlib"])
def packer(request, monkeypatch):
    if request.param == "zlib":
        monkeypatch.setattr(png, "_isal", None)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 70, 3), (61, 1, 3), (64, 50, 3)])
def test_pixels_come_back(packer, shape, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(png.encode_png(image))
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], image)
    with Image.open(path) as opened:
        opened.verify()
    with Image.open(path) as opened:
        assert opened.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(opened), image)


def test_part_of_a_larger_image_and_compression(packer):
    yy, xx = np.mgrid[:300, :300]
    image = np.stack([xx, yy, xx + yy], 2).astype(np.uint8)
    part = image[20:220, 31:231]
    data = png.encode_png(part)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], part)
    assert len(data) < part.size / 5


def test_tiles_that_share_rows(packer, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (100, 60, 3), dtype=np.uint8)
    tiles = sorted([Tile(r, c, 40, 30) for r in (0, 25, 50, 60) for c in (0, 30)])
    rows, real = 0, png._compress

    def compress(part):
        nonlocal rows
        rows += len(part)
        return real(part)

    monkeypatch.setattr(png, "_compress", compress)
    encoder = png.TileEncoder(tiles)
    for tile in tiles:
        part = image[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
        data = np.frombuffer(encoder.encode(tile, part), np.uint8)
        np.testing.assert_array_equal(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1], part)
        assert Image.open(io.BytesIO(data)).verify() is None
    assert rows == 2 * 100  # each row of both columns once
    assert len(encoder._held) <= 4
