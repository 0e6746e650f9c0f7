import numpy as np
import pytest

from legnet_cli.errors import ConfigError
from legnet_cli.tiles import (
    Tile,
    TileName,
    check_tiling,
    choose_tiling,
    parse_tile_name,
    tile_grid,
    tile_name,
    tile_starts,
)


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "starts"),
    [
        (1024, 1024, 200, [0]),
        (1000, 1024, 200, [0]),  # shorter than a tile
        (1025, 1024, 200, [0, 1]),  # the last tile is moved back inside
        (1848, 1024, 200, [0, 824]),  # two tiles fit exactly
        (1849, 1024, 200, [0, 824, 825]),
        (4000, 1024, 200, [0, 824, 1648, 2472, 2976]),
        (4000, 1024, 0, [0, 1024, 2048, 2976]),
        (1, 32, 0, [0]),
    ],
)
def test_tile_starts(length, tile, overlap, starts):
    assert tile_starts(length, tile, overlap) == starts


@pytest.mark.parametrize(
    ("height", "width", "tile", "overlap"), [(700, 500, 128, 40), (90, 300, 128, 0), (20, 10, 32, 8)]
)
def test_grid_covers_every_pixel_and_nothing_else(height, width, tile, overlap):
    covered = np.zeros((height, width), int)
    for t in tile_grid(height, width, tile, overlap):
        assert t.row + t.height <= height
        assert t.col + t.width <= width
        covered[t.row : t.row + t.height, t.col : t.col + t.width] += 1
    assert covered.min() >= 1


def test_any_object_up_to_the_overlap_lies_whole_in_a_tile():
    starts = tile_starts(5000, 512, 100)
    for left in np.arange(0, 4900.5, 0.5):
        assert any(start <= left and left + 100 <= start + 512 for start in starts)


def test_small_grid_gives_one_small_tile():
    assert tile_grid(40, 50, 64, 8) == [Tile(0, 0, 40, 50)]


@pytest.mark.parametrize(("tile", "overlap"), [(16, 0), (64, 64), (64, 100), (64, -1), (0, 0)])
def test_impossible_tiling_is_refused(tile, overlap):
    with pytest.raises(ConfigError, match=r"--tile|--overlap"):
        check_tiling(tile, overlap)


@pytest.mark.parametrize("image", ["P1000", "a__b c", "a__64__1___2", "Ж/x.1"])
@pytest.mark.parametrize("tile", [Tile(0, 0, 32, 32), Tile(7, 824, 1024, 1024), Tile(10**6, 3, 16384, 16384)])
def test_names_say_what_was_named(image, tile):
    name = parse_tile_name(tile_name(image, tile))
    assert (name.image, name.window, name.zoom) == (image, tile, 1)


def test_a_name():
    assert tile_name("P1", Tile(7, 824, 1024, 1024)) == "P1__1024__824___7"


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("P1__0.5__64___32", TileName("P1", 64, 32, zoom=0.5)),  # DOTA's own: a rate in place of a size
        ("P1__1__64___32", TileName("P1", 64, 32)),
        ("P1__31__64___32", TileName("P1", 64, 32, zoom=31)),
        ("P1__32__64___32", TileName("P1", 64, 32, size=32)),
        ("P1__0__64___32", TileName("P1__0__64___32")),
        ("P1__64__64__32", TileName("P1__64__64__32")),
        ("P1__64__-1___32", TileName("P1__64__-1___32")),
        ("__64__1___32", TileName("__64__1___32")),
        ("P1", TileName("P1")),
    ],
)
def test_names_made_elsewhere(name, meaning):
    assert parse_tile_name(name) == meaning


def test_pixels_of_a_tile_of_an_enlarged_image():
    tile = TileName("P1", col=64, row=32, zoom=2.0, size=128)
    assert tile.window == Tile(16, 32, 64, 64)
    np.testing.assert_array_equal(tile.boxes_to_image(np.array([[6, 8, 4, 2, 0.5]])), [[35, 20, 2, 1, 0.5]])
    assert TileName("P1", zoom=0.5).window.width > 10**9


@pytest.mark.parametrize(
    ("tile", "overlap", "expected"),
    [
        (None, None, (1024, 200)),
        (512, None, (512, 100)),  # in proportion
        (800, None, (800, 156)),
        (None, 64, (1024, 64)),
        (512, 0, (512, 0)),
    ],
)
def test_choose_tiling(tile, overlap, expected):
    assert choose_tiling(tile, overlap, (1024, 200)) == expected


@pytest.mark.parametrize(("tile", "overlap"), [(16, None), (None, 1024), (128, 128)])
def test_choose_tiling_refuses(tile, overlap):
    with pytest.raises(ConfigError):
        choose_tiling(tile, overlap, (1024, 200))
