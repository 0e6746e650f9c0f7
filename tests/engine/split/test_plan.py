"""Validation data that share no ground with training data, and a plan that depends on nothing but the seed."""

from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import Affine

from legnet_cli.data.labels import ImageLabels
from legnet_cli.engine.split.plan import make_plan
from legnet_cli.errors import ConfigError, DataError


def image(file, size, split="", path=None, boxes=()):
    quads = np.array([[(x, y), (x + 9, y), (x + 9, y + 9), (x, y + 9)] for x, y in boxes], float).reshape(-1, 4, 2)
    n = len(quads)
    return ImageLabels(
        file=file, path=path or Path(file), size=size, split=split, source=Path("a.txt"), quads=quads,
        names=("ship",) * n, difficult=np.zeros(n, np.int64), attributes=({},) * n, places=("",) * n,
    )  # fmt: skip


def spans(plan, split):
    """(image, first and last column and row) of the tiles of a split, as far as they lie in their image."""
    return [
        (part.image.file, c.tile.col, c.tile.row, min(c.tile.col + c.tile.width, part.size[0]),
         min(c.tile.row + c.tile.height, part.size[1]))
        for part in plan.images for c in part.cuts if c.split == split
    ]  # fmt: skip


def overlap(a, b):
    return a[0] == b[0] and a[1] < b[3] and b[1] < a[3] and a[2] < b[4] and b[2] < a[4]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("sizes", [[(64, 16)], [(64, 16), (128, 32), (42, 10)]], ids=["one scale", "three scales"])
@pytest.mark.parametrize(
    ("images", "fraction"),
    [
        ([("a.png", (1000, 900))], 0.2),
        ([("a.png", (300, 250)), ("b.png", (64, 64)), ("c.png", (700, 50))], 0.3),
        ([(f"{i}.png", (80, 60)) for i in range(20)], 0.1),
    ],
    ids=["one large", "mixed", "many small"],
)
def test_no_tile_of_train_overlaps_one_of_val(images, sizes, fraction, seed):
    plan = make_plan([image(*about) for about in images], sizes, val_fraction=fraction, seed=seed)
    train, val = spans(plan, "train"), spans(plan, "val")
    assert train
    assert val
    assert not spans(plan, "")
    assert not [(a, b) for a in train for b in val if overlap(a, b)]
    share = len(val) / (len(val) + len(train) + plan.between)
    assert fraction / 4 < share < fraction * 2
    assert plan.between < (len(val) + len(train)) * 0.7
    if len(images) == 20:
        assert len({span[0] for span in val}) == 2
        assert plan.between == 0


def test_seeds_choose_and_other_splits_stay():
    images = [image(f"{i}.png", (64, 64), "train") for i in range(8)] + [image("t.png", (64, 64), "test")]
    chosen = {tuple(spans(make_plan(images, [(64, 16)], val_fraction=0.25, seed=s), "val")) for s in range(6)}
    assert {len(val) for val in chosen} == {2}
    assert len(chosen) > 2
    assert len(spans(make_plan(images, [(64, 16)], val_fraction=0.25), "test")) == 1


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([image("a.png", (64, 64))], "too few and too small"),
        ([image("a.png", (64, 64), "train"), image("b.png", (64, 64), "val")], "validation data of its own"),
    ],
)
def test_validation_data_that_cannot_be_set_apart(images, message):
    with pytest.raises(ConfigError, match=message):
        make_plan(images, [(64, 16)], val_fraction=0.2)


def test_scenes_that_overlap_on_the_ground(write_scene):
    pixels = np.zeros((64, 64), np.uint8)
    paths = [
        write_scene(f"{i}.tif", pixels, transform=Affine(1, 0, 500_000 + 48 * i, 0, -1, 5_000_000)) for i in range(6)
    ]
    images = [image(Path(path).name, (64, 64), path=Path(path)) for path in paths]
    plan = make_plan(images, [(64, 16)], val_fraction=0.17)
    (held,) = (int(span[0][0]) for span in spans(plan, "val"))
    trained = {int(span[0][0]) for span in spans(plan, "train")}
    assert trained == set(range(6)) - {held - 1, held, held + 1}


def test_sheets_that_only_share_an_edge_stay(write_scene):
    pixels = np.zeros((64, 64), np.uint8)
    paths = [
        write_scene(f"{i}.tif", pixels, transform=Affine(0.3, 0, 500_000 + 19.2 * i, 0, -0.3, 5_000_000))
        for i in range(6)
    ]
    plan = make_plan([image(Path(p).name, (64, 64), path=Path(p)) for p in paths], [(64, 16)], val_fraction=0.17)
    assert plan.between == 0


def test_objects_that_no_tile_holds_are_counted():
    plan = make_plan([image("a.png", (200, 64), boxes=[(5, 5), (90, 20), (195, 60)])], [(64, 16)])
    assert (plan.objects, plan.homeless) == (3, 1)


def test_two_images_with_the_same_tiles_are_refused():
    with pytest.raises(DataError, match=r"tile a__64__0___0 has the name of one of other/a\.png: rename one"):
        make_plan([image("a.png", (64, 64), path=Path("other/a.png")), image("a.png", (64, 64))], [(64, 16)])
