"""Windows and their objects: equal to mmrotate's splitter to the last digit; cut objects as asked."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import shapely

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.data.labels import ImageLabels
from legnet_cli.engine.split.cutting import Objects, label_text, windows
from legnet_cli.tiles import Tile


def labels(quads, names=None, difficult=None):
    n = len(quads)
    return ImageLabels(
        file="a.png",
        quads=np.array(quads, float).reshape(-1, 4, 2),
        names=tuple(names or ["ship"] * n),
        difficult=np.zeros(n, np.int64) if difficult is None else np.array(difficult, np.int64),
        attributes=({},) * n,
        places=("",) * n,
    )


@pytest.fixture(scope="module")
def img_split(mmrotate):
    """mmrotate's splitter, which is a script beside its package."""
    path = mmrotate / ".mim" / "tools" / "data" / "dota" / "split" / "img_split.py"
    spec = importlib.util.spec_from_file_location("img_split", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((1024, 1024), [(1024, 200)]),
        ((1025, 1024), [(1024, 200)]),
        ((1848, 2672), [(1024, 200)]),
        ((1849, 2671), [(1024, 200)]),
        ((300, 200), [(1024, 200)]),
        ((1500, 600), [(1024, 200)]),
        ((1500, 620), [(1024, 200)]),
        ((4000, 3000), [(1024, 200), (2048, 400), (682, 133)]),
        ((500, 700), [(1024, 500), (512, 0)]),
        ((1000, 90), [(100, 99), (128, 1)]),
    ],
)
def test_windows_are_mmrotates(img_split, size, sizes):
    found = windows(*size, sizes)
    expected = img_split.get_sliding_window(
        {"width": size[0], "height": size[1]}, [s for s, _ in sizes], [o for _, o in sizes], 0.6
    )
    as_rows = [(t.col, t.row, t.col + t.width, t.row + t.height) for t in found]
    assert sorted(as_rows) == sorted(map(tuple, expected.tolist()))
    assert found == sorted(found)


@pytest.mark.parametrize("digits", [0, 1, 4])
def test_objects_are_mmrotates(img_split, digits):
    rng = np.random.default_rng(digits)
    n = 300
    boxes = np.stack(
        [*rng.uniform(-20, 820, (2, n)), *rng.uniform(2, 150, (2, n)), rng.uniform(-np.pi / 2, np.pi / 2, n)], 1
    )
    quads = boxes_to_polygons(boxes).round(digits)
    bent = quads + rng.uniform(-2, 2, quads.shape).round(digits)
    usable = shapely.is_valid(shapely.polygons(bent))  # mmrotate fails on crossing sides
    quads = np.where(usable[:, None, None], bent, boxes_to_polygons(boxes + (0, 0, 9, 9, 0)).round(digits))
    image = labels(quads, [f"c{i % 3}" for i in range(n)], rng.integers(0, 2, n))
    tiles = windows(800, 700, [(256, 100), (512, 200)])
    bounds = np.array([(t.col, t.row, t.col + t.width, t.row + t.height) for t in tiles])
    ann = {"bboxes": quads.reshape(n, 8).astype(np.float32), "labels": list(image.names), "diffs": image.difficult}
    alike, exact = Objects(image, "keep", like_mmrotate=True), Objects(image, "keep")
    codes = {name: name for name in image.names}
    differing = 0
    for tile, found in zip(tiles, img_split.get_window_obj({"ann": ann}, bounds, 0.7), strict=True):
        moved = img_split.translate(found["bboxes"], -tile.col, -tile.row)
        rows = zip(moved, found["labels"], found["diffs"], found["trunc"], strict=True)
        expected = "".join(f"{' '.join(map(str, q))} {name} {2 if cut else d}\n" for q, name, d, cut in rows)
        assert label_text(alike.within(tile), image.names, codes) == expected
        # exact areas: the same but for objects inside that mmrotate takes for cut
        ours, corners = exact.within(tile), found["bboxes"].reshape(-1, 4, 2)
        inside = ((corners >= (tile.col, tile.row)) & (corners <= (tile.col + tile.width, tile.row + tile.height))).all(
            (1, 2)
        )
        right = "".join(
            line.rpartition(" ")[0] + f" {found['diffs'][i]}\n" if inside[i] else line + "\n"
            for i, line in enumerate(expected.splitlines())
        )
        assert label_text(ours, image.names, codes) == right
        differing += right != expected
    assert (differing > 0) == (digits > 0)  # areas of whole and half pixels are not rounded


TILE = Tile(100, 50, 100, 100)  # rows 100 to 200, columns 50 to 150
INSIDE = [(60, 110), (80, 110), (80, 120), (60, 120)]
OVER_EDGE = [(110, 140), (160, 140), (160, 160), (110, 160)]  # 0.8 of it inside
TOUCHING = [(130, 110), (150, 110), (150, 130), (130, 130)]
MOSTLY_OUT = [(130, 170), (170, 170), (170, 180), (130, 180)]


@pytest.mark.parametrize(
    ("truncated", "index", "difficult", "right"),
    [("keep", [0, 1, 2], [1, 2, 0], 110), ("drop", [0, 2], [1, 0], 100), ("recut", [0, 1, 2], [1, 2, 0], 100)],
)
def test_truncated(truncated, index, difficult, right):
    image = labels([INSIDE, OVER_EDGE, TOUCHING, MOSTLY_OUT], difficult=[1, 0, 0, 0])
    found = Objects(image, truncated).within(TILE)
    assert found.index.tolist() == index
    assert found.difficult.tolist() == difficult
    assert found.quads[..., 0].max() == right
    np.testing.assert_array_equal(found.quads[0], np.array(INSIDE) - (50, 100))


@pytest.mark.parametrize(
    ("quad", "difficult", "expected"),
    [
        pytest.param([(-5, 40), (40, 40), (40, 60), (-5, 60)], 0, (2, 0), id="over the edge of the image alone"),
        pytest.param([(-5, 40), (40, 40), (40, 60), (-5, 60)], 1, (2, 1), id="and difficult"),
        pytest.param([(70, 40), (105, 40), (105, 60), (70, 60)], 0, (2, 2), id="cut by the tile"),
        pytest.param([(70, 40), (105, 40), (105, 60), (70, 60)], 1, (2, 1), id="cut and difficult"),
        pytest.param([(70, -5), (105, -5), (105, 60), (70, 60)], 0, (2, 2), id="cut by both"),
        pytest.param([(70, 40), (90, 40), (90, 60), (70, 60)], 1, (1, 1), id="whole and difficult"),
    ],
)
def test_difficulty_in_labels_and_in_the_source(quad, difficult, expected):
    image = replace(labels([quad], difficult=[difficult]), size=(300, 100))
    found = Objects(image, "keep").within(Tile(0, 0, 100, 100))
    assert (*found.difficult, *found.in_source) == expected


def test_recut_is_the_smallest_box_of_the_visible_part_from_the_same_first_corner():
    quad = np.roll(boxes_to_polygons(np.array([[130, 150, 60, 12, 0.5]]))[0], 2, axis=0)
    found = Objects(labels([quad]), "recut").within(TILE)
    visible = shapely.intersection(shapely.Polygon(quad), shapely.box(50, 100, 150, 200))
    box = shapely.Polygon(found.quads[0] + (50, 100))
    assert box.buffer(0.02).contains(visible)
    assert box.area < visible.minimum_rotated_rectangle.area * 1.001
    first = found.quads[0, 0] + (50, 100)
    assert np.linalg.norm(quad - first, axis=1).argmin() == 0


def test_crossing_sides_count_by_their_hull_and_stay_as_they_are():
    crossed = [(60, 110), (80, 120), (80, 110), (60, 120)]
    found = Objects(labels([crossed]), "keep").within(TILE)
    np.testing.assert_array_equal(found.quads[0], np.array(crossed) - (50, 100))
    assert found.difficult.tolist() == [0]


def test_image_without_objects():
    assert len(Objects(labels([]), "recut").within(TILE).index) == 0


def test_text():
    found = Objects(labels([INSIDE], ["Cargo Truck"]), "keep").within(TILE)
    text = label_text(found, ["Cargo Truck"], {"Cargo Truck": "Cargo-Truck"})
    assert text == "10.0 10.0 30.0 10.0 30.0 20.0 10.0 20.0 Cargo-Truck 0\n"


@pytest.mark.parametrize(
    ("truncated", "like_mmrotate", "difficult"),
    [("keep", True, 2), ("keep", False, 0), ("drop", False, 0), ("recut", False, 0)],
)
def test_an_area_that_single_precision_rounds_up(truncated, like_mmrotate, difficult):
    quad = np.array([(60.1, 110), (80.1, 110.3), (80, 120.2), (60, 120)])
    steps = (quad + (0.1 * i, 0) for i in range(200))
    image = labels([q for q in steps if q.max() < 150])
    areas = shapely.area(shapely.polygons(image.quads.astype(np.float32).astype(float)))
    found = Objects(image, truncated, like_mmrotate=like_mmrotate).within(TILE)
    assert len(found.index) == len(image)
    assert (found.in_source == 0).all()
    assert not found.cut.any()
    rounded_up = areas.astype(np.float32) > areas * (1 + 1e-9)
    assert rounded_up.any()
    assert (found.difficult[rounded_up] == difficult).all()
