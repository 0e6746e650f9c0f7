import numpy as np

from legnet_cli.engine.sample_tiles import read_tiles, synthetic_tile


def test_read_tiles_are_spread_over_rasters(write_scene):
    paths = [write_scene(f"{i}.tif", np.full((3, 100, 300), 40 * i, np.uint8)) for i in (1, 2)]
    tiles = read_tiles(paths, 96, 4)
    assert [(tile.shape, int(tile.mean())) for tile in tiles] == [((96, 96, 3), 40 * i) for i in (1, 1, 2, 2)]
    assert read_tiles(paths, 1024, 4)[0].shape == (100, 300, 3)


def test_a_drawn_tile_is_the_same_each_time_and_has_edges():
    tile = synthetic_tile(96, 128)
    assert tile.shape == (96, 128, 3)
    assert tile.dtype == np.uint8
    np.testing.assert_array_equal(tile, synthetic_tile(96, 128))
    assert (tile != synthetic_tile(96, 128, seed=1)).any()
    assert tile.std() > 20
