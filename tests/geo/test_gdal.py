"""Whatever GDAL makes of a damaged header is one line that names the file."""

import struct
from pathlib import Path

import numpy as np
import pytest
from rasterio.control import GroundControlPoint

from legnet_cli.errors import DataError
from legnet_cli.geo.georef import read_georef
from legnet_cli.geo.raster import Scene

GCPS = [GroundControlPoint(row, col, 5e5 + col, 5e6 - row) for row in (0, 32) for col in (0, 32)]
LAMBERT = "+proj=lcc +lat_1=33 +lat_2=45 +lat_0=39 +lon_0=-96 +datum=WGS84"  # without a number: its name is stored
IMAGE = np.full((1, 32, 32), 9, np.uint8)


def without_the_text_of_its_keys(data):
    """GeoAsciiParams (34737) becomes a tag that nobody knows."""
    return data.replace(struct.pack("<HH", 34737, 2), struct.pack("<HH", 65000, 2), 1)


def with_a_letter_that_is_not_utf8(data):
    at = data.index(b"unknown")
    return data[:at] + b"\xc4" + data[at + 1 :]


@pytest.mark.parametrize(
    ("place", "damage", "message"),
    [
        ({"gcps": GCPS, "transform": None}, without_the_text_of_its_keys, "has a header that cannot be read .+GeoKey"),
        ({"gcps": GCPS, "transform": None}, with_a_letter_that_is_not_utf8, "has a header that cannot be read .+utf-8"),
        ({}, with_a_letter_that_is_not_utf8, "not a raster GDAL can read .+utf-8"),
    ],
)
def test_damaged_headers(write_scene, place, damage, message):
    path = Path(write_scene("a.tif", IMAGE, crs=LAMBERT, **place))
    damaged = damage(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    for read in (lambda: Scene.open(str(path)), lambda: read_georef(path)):
        with pytest.raises(DataError, match=rf"a\.tif: {message}") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_errors_of_our_own_show_as_such(write_scene, monkeypatch):
    path = write_scene("a.tif", IMAGE)

    def broken(*_):
        raise TypeError("a bug")

    monkeypatch.setattr("legnet_cli.geo.raster.Bands.choose", broken)
    with pytest.raises(TypeError, match="a bug"):
        Scene.open(path)


@pytest.mark.parametrize(("width", "height", "tile"), [((1 << 31) - 1, 1, None), (1 << 20, 1 << 20, 1 << 20)])
@pytest.mark.parametrize("compression", [1, 8])
def test_blocks_that_no_file_of_that_size_has(tmp_path, width, height, tile, compression):
    """Their decoding would take all memory."""
    place = {322: tile, 323: tile, 324: 0, 325: 0} if tile else {273: 8, 278: height, 279: 100}
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 277: 1, **place}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(200))
    for read in (lambda: Scene.open(str(tmp_path / "a.tif")), lambda: read_georef(tmp_path / "a.tif")):
        with pytest.raises(DataError, match=r"a\.tif: (its header says blocks of|not a raster GDAL can read)"):
            read()
