import numpy as np
import pytest

from legnet_cli.errors import ConfigError
from legnet_cli.tiles import Tile, check_tiling, tile_grid, tile_starts


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
