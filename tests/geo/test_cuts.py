"""Rows of an image are read once; GeoTIFF tiles keep bands, values and place."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from legnet_cli.errors import DataError
from legnet_cli.geo.cuts import RawImage, Rolling, reading_order
from legnet_cli.tiles import Tile


@pytest.mark.parametrize(
    "tiles",
    [
        [Tile(0, 10, 20, 20), Tile(0, 30, 20, 20), Tile(15, 10, 20, 20), Tile(30, 10, 20, 20)],
        [Tile(0, 10, 50, 50), Tile(5, 12, 8, 8), Tile(40, 20, 30, 30)],
        [Tile(0, 10, 5, 5), Tile(33, 11, 5, 5), Tile(33, 10, 90, 90)],
    ],
)
def test_rolling_reads_each_row_once(tiles, monkeypatch):
    monkeypatch.setattr("legnet_cli.geo.cuts._ROWS", 9)
    image = np.random.default_rng(0).integers(0, 99, (60, 70, 2))
    read: list[int] = []

    def source(tile):
        assert (tile.col, tile.width) == (10, 45)
        read.extend(range(tile.row, tile.row + tile.height))
        return image[tile.row : tile.row + tile.height, 10:55]

    rolling = Rolling(source, 10, 55, 60, max(t.height for t in tiles))
    for t in tiles:
        expected = image[t.row : t.row + t.height, t.col : min(t.col + t.width, 55)]
        np.testing.assert_array_equal(rolling.window(t), expected)
    assert len(read) == len(set(read))


@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("a.png", {}, "whole"),
        ("a.jpg", {}, "whole"),
        ("a.tif", {}, "rows"),
        ("a.tif", {"tiled": True, "blockxsize": 64, "blockysize": 64}, "columns"),
    ],
)
def test_reading_order(write_scene, name, options, order):
    path = write_scene(name, np.zeros((3, 100, 200), np.uint8), transform=None, crs=None, **options)
    assert reading_order(Path(path)) == order


def cut(path, tmp_path, tile):
    """The tile written from a raster, opened; with what was read and the fill."""
    with RawImage(path) as image:
        inside = Tile(tile.row, tile.col, min(tile.height, 90 - tile.row), min(tile.width, 120 - tile.col))
        pixels = image.read(inside)
        fill = image.fill
        padded = np.empty((tile.height, tile.width, pixels.shape[2]), pixels.dtype)
        padded[...] = fill
        padded[: pixels.shape[0], : pixels.shape[1]] = pixels
        image.write(tmp_path / "tile.tif", padded, tile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(tmp_path / "tile.tif"), pixels, fill


TILE = Tile(40, 70, 64, 64)  # reaches out of 120 × 90 by 14 both ways


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_bands_values_and_place(tmp_path, write_scene, dtype, bands):
    values = np.random.default_rng(0).normal(0, 50, (bands, 90, 120)).astype(dtype)
    path = write_scene("a.tif", values, nodata=None if dtype == "uint8" else 7)
    out, pixels, _ = cut(path, tmp_path, TILE)
    with out, rasterio.open(path) as source:
        found = out.read()
        np.testing.assert_array_equal(found[:, :50, :50], values[:, 40:, 70:])
        np.testing.assert_array_equal(np.moveaxis(pixels, 2, 0), values[:, 40:, 70:])
        assert (out.dtypes, out.count, out.nodata, out.crs) == (source.dtypes, bands, source.nodata, source.crs)
        assert out.colorinterp == source.colorinterp
        assert out.transform == Affine(0.5, 0, 500_035, 0, -0.5, 4_999_980)
        neutral = [124, 116, 104] if bands == 3 and dtype == "uint8" else [0 if dtype == "uint8" else 7] * bands
        assert found[:, -1, -1].tolist() == neutral


def test_control_points_palette_names_and_mask(tmp_path, write_scene):
    points = [GroundControlPoint(row, col, col * 2.0, -row * 2.0) for row in (0, 90) for col in (0, 120)]
    path = write_scene("a.tif", np.full((90, 120), 3, np.uint8), transform=None, photometric="palette")
    with (
        warnings.catch_warnings(),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
    ):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        ds = rasterio.open(path, "r+")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), ds:
        ds.gcps = points, ds.crs
        ds.write_colormap(1, {i: (i, 2 * i, 3 * i, 255) for i in range(256 // 3)})
        ds.set_band_description(1, "kinds")
        mask = np.full((90, 120), 255, np.uint8)
        mask[45:, 80:] = 0
        ds.write_mask(mask)
    out, _, _ = cut(path, tmp_path, TILE)
    with out:
        assert [(p.row, p.col, p.x) for p in out.gcps[0]] == [(p.row - 40, p.col - 70, p.x) for p in points]
        assert out.gcps[1].to_epsg() == 32631
        assert out.colorinterp == (ColorInterp.palette,)
        assert out.colormap(1)[5] == (5, 10, 15, 255)
        assert out.descriptions == ("kinds",)
        found = out.read_masks(1)
        np.testing.assert_array_equal(found[:50, :50], mask[40:, 70:])
        assert not found[50:].any()
        assert not found[:, 50:].any()


@pytest.mark.parametrize("content", [b"", b"II*\0 no raster"])
def test_what_is_no_raster(tmp_path, content):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tif: not a raster GDAL can read .*replace the file"):
        reading_order(path)


def test_damaged_raster(tmp_path, write_scene):
    path = write_scene("a.tif", np.random.default_rng(0).integers(0, 255, (3, 90, 120), dtype=np.uint8), compress="lzw")
    data = Path(path).read_bytes()
    middle = len(data) // 2
    Path(path).write_bytes(data[:middle] + b"\xff" * 2000 + data[middle + 2000 :])
    with RawImage(path) as image, pytest.raises(DataError, match=r"a\.tif: cannot read rows"):
        image.read(Tile(0, 0, 90, 120))
