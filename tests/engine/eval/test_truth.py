"""Ground truth put together from tiles."""

import cv2
import numpy as np
import pytest

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.engine.eval import Source, load_truth
from legnet_cli.engine.split import SplitConfig, split


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


def test_skewed_quads_of_two_tiles_are_one_object(tmp_path):
    """Their boxes fill twice their area."""
    truths = write(
        tmp_path,
        c0="70 20 90 20 120 50 100 50 ship 0\n",
        c64="6 20 26 20 56 50 36 50 ship 0\n",
    )
    assert len(truths) == 1


def objects_of(source):
    """Whether an object is ignored, whether for a cut, and its corners: by class, of which there is one an object."""
    found = load_truth(Source(source))
    truths = found.truths
    columns = truths.ignored.tolist(), truths.cut.tolist(), truths.quads.round(3).tolist()
    rows = list(zip([found.classes[label] for label in truths.labels], zip(*columns, strict=True), strict=True))
    assert len(dict(rows)) == len(rows)
    return dict(rows)


@pytest.mark.parametrize("like_mmrotate", [False, True])
@pytest.mark.parametrize("split_name", ["", "val"])
def test_split_tiles_hold_the_objects_of_whole_images(tmp_path, like_mmrotate, split_name):
    """Difficult ones, skewed ones and those over the edge of the image too; but what every tile cuts is ignored."""
    rng = np.random.default_rng(1)
    n = 60
    boxes = [rng.uniform(-6, 306, (1, n)), rng.uniform(-6, 206, (1, n)), rng.uniform(8, 20, (2, n))]
    quads = boxes_to_polygons(np.concatenate([*boxes, rng.uniform(-1.5, 1.5, (1, n))]).T).round(1)
    quads[::4, :2, 0] += 7.3
    root = tmp_path / "data" / split_name
    for folder in ("images", "labelTxt"):
        (root / folder).mkdir(parents=True)
    cv2.imwrite(str(root / "images" / "P1.png"), rng.integers(0, 256, (200, 300, 3), dtype=np.uint8))
    lines = [f"{' '.join(map(str, quad))} c{i} {i % 3 == 0:d}" for i, quad in enumerate(quads.reshape(-1, 8).tolist())]
    long = "10 90 180 90 180 110 10 110 long 0"  # longer than a tile, but most of it in one
    (root / "labelTxt" / "P1.txt").write_text("\n".join([*lines, long]))
    split(SplitConfig(tmp_path / "data", tmp_path / "tiles", tile=150, overlap=40, like_mmrotate=like_mmrotate))
    whole, found = objects_of(tmp_path / "data"), objects_of(tmp_path / "tiles" / split_name)
    assert len(whole) == n + 1
    assert whole.pop("long")[:2] == (False, False)
    assert found.pop("long")[:2] == (True, True)
    assert len(found) > n - 10  # the others are mostly out of the image
    assert found == {name: whole[name] for name in found}
