"""Pictures are read as OpenCV and Pillow show them, by every reader and in every format."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from legnet_cli.data.images import image_size
from legnet_cli.geo.cuts import RawImage
from legnet_cli.geo.georef import read_georef, shown_orientation
from legnet_cli.geo.headers import read_header
from legnet_cli.geo.orientation import as_shown, stored_window
from legnet_cli.geo.raster import Scene
from legnet_cli.tiles import Tile, tile_grid

# coarse, so that JPEG keeps it, and different in every corner
STORED = np.kron(np.arange(15, dtype=np.uint8).reshape(3, 5, 1) * [16, 8, 4], np.ones((16, 16, 1))).astype(np.uint8)


def save(path, orientation, pixels=STORED):
    exif = Image.Exif()
    exif[274] = orientation
    options = {"tiffinfo": {274: orientation}} if path.suffix == ".tif" else {"exif": exif.tobytes()}
    sharp = {".webp": {"lossless": True}, ".jpg": {"quality": 98, "subsampling": 0}}.get(path.suffix, {})
    Image.fromarray(pixels).save(path, **options, **sharp)
    return path


def shown(path):
    picture = Image.open(path)
    picture.load()  # Pillow turns TIFF by itself
    return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_reader_shows_the_picture(tmp_path, suffix, orientation):
    path = save(tmp_path / f"a{suffix}", orientation)
    expected = shown(path)
    if suffix != ".tif":  # OpenCV cannot read turned TIFF files
        np.testing.assert_allclose(cv2.imread(str(path))[..., ::-1], expected, atol=2)
    height, width = expected.shape[:2]
    assert read_header(path) == ((80, 48), orientation)
    assert shown_orientation(path) == orientation
    assert image_size(path) == (width, height)
    georef = read_georef(path)
    assert (georef.kind, georef.width, georef.height) == ("none", width, height)
    with Scene.open(str(path)) as scene, RawImage(path) as raw:
        assert (scene.width, scene.height) == (width, height)
        for tile in tile_grid(height, width, 32, 8):
            part = expected[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
            np.testing.assert_allclose(scene.read(tile)[0], part, atol=2)
            np.testing.assert_allclose(raw.read(tile), part, atol=2)
        np.testing.assert_allclose(scene.preview(1000)[0], expected, atol=2)


def test_16_bits_and_masks_are_turned_too(tmp_path):
    path = tmp_path / "a.tif"
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 100
    Image.fromarray(pixels).save(path, tiffinfo={274: 6, 42113: "0"})  # GDAL's nodata tag
    with Scene.open(str(path), stretch="0,1100") as scene:
        rgb, valid = scene.read(Tile(0, 0, 4, 3))
    assert (valid == (np.rot90(pixels, -1) != 0)).all()
    assert rgb[0, :, 0].tolist() == [round(value / 1100 * 255) for value in (800, 400)] + [124]


def test_pixels_with_a_place_on_the_ground_stay(tmp_path):
    path = save(tmp_path / "a.jpg", 6)
    path.with_suffix(".jgw").write_text("0.5\n0\n0\n-0.5\n500000\n5000000\n")
    assert image_size(path) == (80, 48)
    assert shown_orientation(path) == 1
    with Scene.open(str(path)) as scene:
        assert (scene.width, scene.height, scene.georef.kind) == (80, 48, "affine")
        np.testing.assert_allclose(scene.read(Tile(0, 0, 48, 80))[0], STORED, atol=3)


@pytest.mark.parametrize(
    ("change", "orientation"),
    [
        (lambda data: data.replace(b"Exif\0\0", b"Exit\0\0"), 1),
        (lambda data: data.replace(struct.pack(">HHIH", 274, 3, 1, 6), struct.pack(">HHIH", 274, 3, 1, 9)), 1),
        (lambda data: data.replace(b"MM\0*\0\0\0\x08", b"MM\0*\xff\xff\xff\xff"), 1),
        (lambda data: data[:2] + b"\xff\xe1\0\x0chttp://ns\0" + data[2:], 6),  # XMP goes before EXIF
        (lambda data: data[:2] + b"\xff\xff" + data[2:], 6),  # fill bytes
    ],
)
def test_odd_exif(tmp_path, change, orientation):
    path = save(tmp_path / "a.jpg", 6)
    path.write_bytes(change(path.read_bytes()))
    assert read_header(path) == ((80, 48), orientation)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_windows_lead_to_the_pixels(orientation):
    stored = np.arange(35).reshape(5, 7)
    picture = as_shown(stored, orientation)
    size = picture.shape[::-1]
    col, row, width, height = map(int, stored_window((1, 2, 3, 2), size, orientation))
    part = as_shown(stored[row : row + height, col : col + width], orientation)
    assert part.tolist() == picture[2:4, 1:4].tolist()
