"""Ground truth put together from tiles."""

import numpy as np
import pytest

from legnet_cli.engine.eval import Source, load_truth


def box(left, right, difficult=0):
    """A label line of a box 10 pixels high."""
    return f"{left} 20 {right} 20 {right} 30 {left} 30 ship {difficult}\n"


def write(folder, **tiles):
    """Label files of tiles of P1 that start at the columns in their names."""
    (folder / "labelTxt").mkdir(parents=True, exist_ok=True)
    for name, text in tiles.items():
        (folder / "labelTxt" / f"P1__128__{name[1:]}___0.txt").write_text(text)
    return load_truth(Source(folder)).truths


@pytest.mark.parametrize(("seen", "count"), [(40, 1), (28, 1), (25, 1), (23, 2)])
def test_an_object_of_two_tiles_is_one_if_they_see_most_of_it(tmp_path, seen, count):
    # whole at 80..120 of the image in the second tile; the first one's label ends earlier
    truths = write(tmp_path, c0=box(80, 80 + seen), c64=box(16, 56))
    assert len(truths) == count
    assert np.ptp(truths.quads[:, :, 0], axis=1).max() == 40
    assert truths.quads[:, :, 0].min() == 80


def test_the_least_difficult_outline_is_kept(tmp_path):
    truths = write(tmp_path, c0=box(80, 120, difficult=2), c64=box(16, 52))
    assert truths.ignored.tolist() == [False]
    assert np.ptp(truths.quads[0, :, 0]) == 36


def test_objects_of_one_tile_stay(tmp_path):
    assert len(write(tmp_path, c0=box(80, 120) * 2, c64=box(90, 120))) == 3


@pytest.mark.parametrize("zoom", [1, 0.5])
def test_lengths_in_tiles_of_a_resized_image(tmp_path, write_scene, zoom):
    name = f"P1__{zoom}__0___0"
    write_scene(f"images/{name}.tif", np.zeros((64, 64), np.uint8))  # pixels of half a metre
    (tmp_path / "labelTxt").mkdir()
    (tmp_path / "labelTxt" / f"{name}.txt").write_text(box(10, 50))
    truths = load_truth(Source(tmp_path)).truths
    assert np.ptp(truths.quads[0, :, 0]) == 40 / zoom
    assert truths.metres == pytest.approx([20], rel=1e-3)
