"""What is read of a GeoPackage of ``legnet review`` that a user has worked on."""

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import Affine
from reviews import SIDE, box, new_row, row, write_review

from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.labels import IGNORED, LabelError
from legnet_cli.data.png import encode_png
from legnet_cli.data.review import uncovered
from legnet_cli.errors import DataError
from legnet_cli.geo.crs import CRS
from legnet_cli.geo.georef import read_georef


@pytest.fixture
def scenes(tmp_path):
    """A folder of two scenes of 200 × 120 pixels."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(encode_png(np.full((120, 200, 3), 9, np.uint8)))
    return folder


def read(scenes, path, **settings):
    """The labels of a review: for each scene names, quads and mask of what is ignored; and the warnings."""
    dataset = load_dataset(scenes, labels=str(path), **settings)
    found = {}
    for image in dataset.images:
        real = np.array([name != IGNORED for name in image.names], bool)
        mask = np.zeros((120, 200), int)
        for quad in image.quads[~real]:
            (left, top), (right, bottom) = quad.min(0).round().astype(int), quad.max(0).round().astype(int)
            mask[top:bottom, left:right] = 1
        found[image.file] = [name for name in image.names if name != IGNORED], image.quads[real], mask
    return found, [str(problem) for problem in dataset.problems]


def ground(*centres):
    """What the squares around ``centres`` leave of a scene."""
    mask = np.ones((120, 200), int)
    for x, y in centres:
        mask[max(0, y - SIDE // 2) : y + SIDE // 2, max(0, x - SIDE // 2) : x + SIDE // 2] = 0
    return mask


AWAY = shapely.Polygon(box(64, 42))


@pytest.mark.parametrize(
    ("status", "shape", "label", "seen"),
    [
        ("ok", None, True, True),
        (" OK ", None, True, True),
        ("edited", AWAY, True, True),
        ("edited", None, True, True),
        ("ok", AWAY, True, True),
        ("todo", AWAY, True, True),  # who moves a box has looked at it
        ("wrong", None, False, True),
        ("Wrong", AWAY, False, True),
        ("todo", None, False, False),
        (None, None, False, False),
    ],
)
def test_what_a_status_means(tmp_path, scenes, status, shape, label, seen):
    rows = [row("r1", status, (60, 40), shape=shape), row("r2", "ok", (150, 60))]
    found, problems = read(scenes, write_review(tmp_path / "review.gpkg", rows))
    names, quads, mask = found["a.png"]
    assert names == ["ship"] * (1 + label)
    if label:
        np.testing.assert_allclose(quads[0], box(64, 42) if shape else box(60, 40), atol=1e-6)
    np.testing.assert_array_equal(mask, ground((150, 60), *[(60, 40)] * seen))
    assert found["b.png"][0] == []
    assert found["b.png"][2].all()  # nobody looked at it
    moved = "edited" if shape and label else str(status or "todo").strip().lower()
    assert any(f"1 {moved}" in problem for problem in problems) or moved == "ok"


def test_deleted_rows_are_wrong_ones(tmp_path, scenes):
    rows = [row("r1", "ok", (60, 40))]
    places = [("r1", (60, 40), "a.png"), ("r2", (150, 60), "a.png")]
    found, problems = read(scenes, write_review(tmp_path / "review.gpkg", rows, places))
    names, _, mask = found["a.png"]
    assert names == ["ship"]
    np.testing.assert_array_equal(mask, ground((60, 40), (150, 60)))
    assert "1 ok, 1 deleted, which counts as wrong" in problems[0]


def test_a_square_with_something_left_to_do_is_not_reviewed(tmp_path, scenes):
    rows = [row("r1", "ok", (60, 40)), row("r2", "todo", (70, 50)), row("r3", "ok", (150, 60))]
    places = [("r1", (60, 40), "a.png"), ("r3", (150, 60), "a.png")]  # r2 lies in the square of r1
    found, _ = read(scenes, write_review(tmp_path / "review.gpkg", rows, places))
    names, _, mask = found["a.png"]
    assert names == ["ship", "ship"]
    np.testing.assert_array_equal(mask, ground((150, 60)))


@pytest.mark.parametrize("status", [None, "", "added", "todo", "ok"])
def test_rows_drawn_anew(tmp_path, scenes, status):
    """Their scene is told by where they lie; in pixels of several scenes it cannot be told."""
    rows = [row("r1", "ok", (60, 40)), new_row(status, shapely.Polygon(box(75, 50)), "boat")]
    path = write_review(tmp_path / "review.gpkg", rows)
    with pytest.raises(LabelError, match=r"feature 2: names no scene: fill in its column 'scene'"):
        read(scenes, path)
    (scenes / "b.png").unlink()
    found, _ = read(scenes, path)
    assert found["a.png"][0] == ["ship", "boat"]
    np.testing.assert_array_equal(found["a.png"][2], ground((60, 40)))


@pytest.mark.parametrize(
    "points",
    [
        [(50, 40), (66, 40), (66, 48)],  # a triangle's box is twice its area
        [(50, 40), (58, 40), (66, 40), (66, 48), (50, 48)],
        [(50, 40), (66, 48), (66, 40), (50, 48)],
    ],
)
@pytest.mark.parametrize("kind", ["polygon", "multi", "3d"])
def test_other_polygons_become_their_smallest_boxes(tmp_path, scenes, points, kind):
    shape = shapely.Polygon(points)
    if kind == "multi":
        shape = shapely.MultiPolygon([shape])
    if kind == "3d":
        shape = shapely.force_3d(shape, 7.0)
    rows = [row("r1", "edited", (58, 44), shape=shape), row("r2", "ok", (150, 60))]
    found, problems = read(scenes, write_review(tmp_path / "review.gpkg", rows))
    names, quads, _ = found["a.png"]
    assert names == ["ship", "ship"]
    sides = np.hypot(*(quads[0] - np.roll(quads[0], 1, 0)).T)
    assert sides.prod() ** 0.5 == pytest.approx(16 * 8)
    assert sides[0] == pytest.approx(sides[2])
    assert any("1 polygon without exactly four corners" in problem for problem in problems)


def test_labels_and_squares_of_other_scenes_stay_there(tmp_path, scenes):
    rows = [row("r1", "ok", (60, 40)), row("r2", "ok", (150, 60), "b.png"), row("r3", "wrong", (20, 90), "c.png")]
    found, problems = read(scenes, write_review(tmp_path / "review.gpkg", rows))
    for name, centre in (("a.png", (60, 40)), ("b.png", (150, 60))):
        names, quads, mask = found[name]
        assert names == ["ship"]
        np.testing.assert_allclose(quads[0], box(*centre), atol=1e-6)
        np.testing.assert_array_equal(mask, ground(centre))
    assert any("1 row of other scenes" in problem for problem in problems)


@pytest.mark.parametrize("crs", ["EPSG:32631", "EPSG:4326", "EPSG:3857"])
def test_layers_in_map_coordinates(tmp_path, crs):
    """In any system; a row that was drawn on a map finds its scene."""
    (tmp_path / "scenes").mkdir()
    options = {"driver": "GTiff", "width": 200, "height": 120, "count": 1, "dtype": "uint8", "crs": "EPSG:32631"}
    for i, name in enumerate(("a.tif", "b.tif")):
        place = Affine(0.5, 0, 5e5 + 300 * i, 0, -0.5, 5e6)
        with rasterio.open(tmp_path / "scenes" / name, "w", transform=place, **options) as file:
            file.write(np.full((120, 200), 9, np.uint8), 1)
    georef = read_georef(tmp_path / "scenes/b.tif")
    rows = [row("r1", "ok", (60, 40), "b.tif"), new_row("added", shapely.Polygon(box(65, 50)))]
    path = tmp_path / "review.gpkg"
    write_review(path, rows, to_map=lambda xy: georef.to_crs(xy, CRS.from_user_input(crs)), crs=crs)
    found, problems = read(tmp_path / "scenes", path)
    assert found["a.tif"][0] == []
    names, quads, mask = found["b.tif"]
    assert names == ["ship", "ship"]
    np.testing.assert_allclose(quads, [box(60, 40), box(65, 50)], atol=0.01)
    np.testing.assert_array_equal(mask, ground((60, 40)))
    assert not any("no row lies where it was" in problem for problem in problems)


def test_a_layer_in_another_system_is_not_moved(tmp_path, scenes):
    """All rows lie elsewhere than they say: that was nobody's hand."""
    rows = [row(f"r{i}", status, (60 + 40 * i, 40)) for i, status in enumerate(("ok", "todo"))]
    for one in rows:
        one["original"] = "POLYGON ((1 1, 2 1, 2 2, 1 2, 1 1))"
    found, problems = read(scenes, write_review(tmp_path / "review.gpkg", rows))
    assert found["a.png"][0] == ["ship"]
    assert any("no row lies where it was" in problem for problem in problems)


R1 = ("r1", "ok", (60, 40))


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([row(*R1), row("r2", "maybe", (150, 60))], {}, r"feature 2 \(id r2\): status 'maybe' is unknown: choose from"),
        ([row(*R1)], {"without": ("status",)}, r"its layer 'review' has no column 'status'"),
        ([row(*R1)], {"without": ("class",)}, r"its layer 'review' has no column 'class'"),
        ([row(*R1)], {"without": ("id",)}, r"its layer 'review' has no column 'id'"),
        ([row(*R1)], {"layers": ("review",)}, r"has no layer 'places'"),
        ([], {}, r"its layer 'review' is empty"),
        ([row("r1", "ok", (60, 40), "c.png")], {}, r"none of its rows lies on these images"),
        ([row(*R1, name=None)], {}, r"feature 1 \(id r1\): the class is missing"),
        ([row(*R1), {**new_row("added", None), "scene": "a.png"}], {}, r"feature 2: is not a polygon"),
    ],
)
def test_faults_are_told_in_a_line(tmp_path, scenes, rows, settings, message):
    path = write_review(tmp_path / "review.gpkg", [dict(one) for one in rows], **settings)
    with pytest.raises(DataError, match=message):
        read(scenes, path)


def test_rows_of_unknown_status_can_be_left_out(tmp_path, scenes):
    rows = [row(*R1), row("r2", "maybe", (150, 60))]
    found, _ = read(scenes, write_review(tmp_path / "review.gpkg", rows), skip_bad=True)
    np.testing.assert_array_equal(found["a.png"][2], ground((60, 40)))


def test_columns_that_need_not_be_there(tmp_path, scenes):
    (scenes / "b.png").unlink()
    path = write_review(tmp_path / "review.gpkg", [row(*R1)], without=("scene", "original", "score"))
    assert set(pyogrio.read_info(path, layer="review")["fields"]) == {"status", "class", "id"}
    assert read(scenes, path)[0]["a.png"][0] == ["ship"]


@pytest.mark.parametrize("seed", range(5))
def test_rectangles_cover_the_rest_exactly_and_are_few(seed):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 90, (seed * 3, 2))
    covered = np.concatenate([low, low + rng.integers(5, 40, (seed * 3, 2))], 1).clip(0, 100)
    count, expected = np.zeros((100, 100), int), np.ones((100, 100), int)
    rest = uncovered((100, 100), covered)
    for left, top, right, bottom in rest:
        count[top:bottom, left:right] += 1
    for left, top, right, bottom in covered:
        expected[top:bottom, left:right] = 0
    np.testing.assert_array_equal(count, expected)
    assert len(rest) <= 3 * len(covered) + 1
    assert len(uncovered((100, 100), np.array([[40, 40, 60, 60]]))) == 4
