"""Layers that cannot be compared, are unusual, or were edited."""

import json
from pathlib import Path

import numpy as np
import pyogrio
import pyogrio.raw
import pytest
import shapely
from dates import spread_boxes

from legnet_cli.engine.diff import DiffConfig
from legnet_cli.engine.diff.config import Ground, read_ground
from legnet_cli.errors import ConfigError, DataError, GeoError
from legnet_cli.geo.crs import WGS84

BOXES = spread_boxes(9)
GROUND = shapely.box(-20, -20, 200, 200)


def polygon(*points):
    return shapely.Polygon(np.array(points) * (1, -1) + (500_000, 5_000_000))


@pytest.fixture
def write_polygons(tmp_path):
    """Writer of a plain GeoJSON or GeoPackage of polygons and columns."""

    def write(name, geometries, crs="EPSG:32631", **columns):
        kinds = {geometry.geom_type + " Z" * geometry.has_z for geometry in geometries if geometry is not None}
        pyogrio.raw.write(
            tmp_path / name,
            shapely.to_wkb(np.array(geometries, object)),
            [np.array(values, object) for values in columns.values()],
            list(columns),
            crs=crs,
            geometry_type=kinds.pop() if len(kinds) == 1 else "Unknown",
        )
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize(
    ("second", "error", "words"),
    [
        ({"name": "new.gpkg", "crs": None}, GeoError, "is in pixels, .*old.gpkg in map coordinates"),
        ({"name": "new.gpkg", "shift": (30_000, 0)}, GeoError, r"share no ground \(2.* km apart\)"),
        ({"name": "new.gpkg", "kind": ["a"] * 9, "class": None}, DataError, "no column 'class'.*--class-field"),
    ],
)
def test_layers_that_do_not_fit(write_date, compare, tmp_path, second, error, words):
    first = write_date("old.gpkg", BOXES, seen=GROUND)
    with pytest.raises(error, match=words):
        compare(first, write_date(boxes=BOXES, seen=GROUND, **second))
    assert not (tmp_path / "out.gpkg").exists()


@pytest.mark.parametrize(
    ("dates", "settings", "words"),
    [
        (("a.gpkg",), {}, "one date is not a change"),
        (("a.gpkg", "b.gpkg"), {"names": ("x",)}, "--names has 1 names for 2 dates"),
        (("a.gpkg", "b.gpkg"), {"mask": (Ground(Path("c"), 3),)}, "no date of that number: 3:c"),
        (("a.gpkg", "b.gpkg"), {"tile": 512}, "--tile: settings of a search"),
        (("a.gpkg", "b.gpkg"), {"max_shift": -1}, "--max-shift"),
        (("a.gpkg", "b.gpkg", "c.gpkg"), {"min_probability": 0.5}, "tracks have none"),
    ],
)
def test_settings_that_do_not_fit(dates, settings, words):
    with pytest.raises(ConfigError, match=words):
        DiffConfig(dates=dates, out="o.gpkg", **settings)


@pytest.mark.parametrize(
    ("name", "settings", "error", "words"),
    [
        ("nowhere.gpkg", {}, DataError, "no such file"),
        ("s3://bucket/a.gpkg", {}, DataError, "copy it there"),
        ("text.gpkg", {}, DataError, "cannot be read"),
        ("text.doc", {}, ConfigError, "not a layer of objects"),
        ("old.gpkg", {"out": "old.gpkg", "overwrite": True}, ConfigError, "is an input of this run"),
        ("old.gpkg", {"out": "out.csv"}, ConfigError, "unknown output format"),
        ("old.gpkg", {"min_probability": 0.5}, ConfigError, "has no column 'probability'"),
        ("old.gpkg", {"classes": "shipp"}, ConfigError, "did you mean 'ship'"),
        ("old.gpkg", {"out": "o.geojson", "crs": "EPSG:3857"}, ConfigError, "GeoJSON is always WGS 84"),
        ("old.gpkg", {"mask": (Ground(Path("nowhere.gpkg")),)}, DataError, "nowhere.gpkg: no such file"),
    ],
)
def test_what_cannot_be_used_is_said(write_date, compare, tmp_path, name, settings, error, words):
    first = write_date("old.gpkg", BOXES, seen=GROUND)
    for text in ("text.gpkg", "text.doc"):
        (tmp_path / text).write_text("nothing")
    with pytest.raises(error, match=words):
        compare(first, name if "://" in name else str(tmp_path / name), **settings)


@pytest.mark.parametrize(("text", "ground"), [("a.gpkg", Ground(Path("a.gpkg"))), ("2:a b", Ground(Path("a b"), 2))])
def test_areas_of_one_date(text, ground):
    assert read_ground(text) == ground


RECTANGLE = [(0, 0), (30, 0), (30, 10), (0, 10)]
EDITED = {
    "as it was": [polygon(*RECTANGLE)],
    "three corners": [polygon((0, 0), (30, 0), (0, 10))],
    "five corners": [polygon((0, 0), (15, 0), *RECTANGLE[1:])],
    "crossing": [polygon((0, 0), (30, 10), (30, 0), (0, 10))],
    "heights": [shapely.force_3d(polygon(*RECTANGLE), 7)],
    "multipolygon": [shapely.MultiPolygon([polygon(*RECTANGLE)])],
}


@pytest.mark.parametrize("edited", EDITED.values(), ids=EDITED)
def test_edited_outlines_are_their_boxes(write_polygons, compare, edited):
    first = write_polygons("old.gpkg", EDITED["as it was"], kind=["ship"])
    second = write_polygons("new.gpkg", edited, kind=["ship"])
    _, rows = compare(first, second, class_field="kind")
    assert rows.change.tolist() == ["same"]
    assert rows.geometry.is_valid.all()
    np.testing.assert_allclose(rows[["length_new", "width_new"]], [[30, 10]], rtol=0.01)


def test_parts_are_objects_and_what_is_no_polygon_is_left_out(write_polygons, compare, caplog):
    parts = [shapely.MultiPolygon([polygon(*RECTANGLE), polygon((0, 50), (30, 50), (30, 60), (0, 60))])]
    odd = [*parts, shapely.Point(500_000, 5_000_000), None, polygon((0, 0), (9, 0), (3, 0))]
    first = write_polygons("old.gpkg", odd, **{"class": ["ship"] * 4})
    second = write_polygons("new.gpkg", parts, **{"class": ["ship"]})
    _, rows = compare(first, second)
    assert rows.change.tolist() == ["same", "same"]
    assert "3 objects without a polygon that has an area: left out" in caplog.text


def test_scores_as_text_missing_columns_and_missing_values(write_polygons, compare):
    first = write_polygons("old.gpkg", EDITED["as it was"], **{"class": ["ship"], "score": ["0.5"]})
    second = write_polygons("new.gpkg", EDITED["as it was"], **{"CLASS": ["ship"]})
    _, rows = compare(first, second)
    assert (rows.change[0], rows.score_old[0], np.isnan(rows.score_new[0])) == ("same", 0.5, True)


@pytest.mark.parametrize("empty", ["old", "new", "both"])
def test_empty_layers(write_date, compare, empty):
    old, new = (BOXES[: 0 if empty in (name, "both") else None] for name in ("old", "new"))
    first, second = write_date("old.gpkg", old, seen=GROUND), write_date("new.gpkg", new, seen=GROUND)
    _, rows = compare(first, second, report=Path(first).with_name("r.html"))
    assert rows.change.tolist() == {"old": ["new"] * 9, "new": ["gone"] * 9, "both": []}[empty]


def test_other_models_and_classes_are_said(write_date, compare, caplog):
    first = write_date("old.gpkg", BOXES, ["ship"] * 5 + ["plane"] * 4, seen=GROUND)
    record = {"weights": {"name": "other"}, "scenes": []}
    second = write_date("new.gpkg", BOXES, ["ship"] * 5 + ["car"] * 4, seen=GROUND, record=record)
    _, rows = compare(first, second)
    assert "different models (m, other)" in caplog.text
    assert "new.gpkg: has no objects of plane" in caplog.text
    assert sorted(rows.change) == ["gone"] * 4 + ["new"] * 4 + ["same"] * 5


def test_a_layer_that_does_not_say_what_was_searched_counts_as_seen(write_date, compare, caplog):
    first, second = write_date("old.gpkg", BOXES, record=None), write_date("new.gpkg", BOXES[1:], record=None)
    _, rows = compare(first, second)
    assert sorted(rows.change) == ["gone"] + ["same"] * 8
    assert "new.gpkg: does not say what ground was searched" in caplog.text
    assert "--seen 2:FILE" in caplog.text


def test_pictures_of_several_scenes_are_compared_by_name(write_date, compare):
    names = np.array(["a/x.png"] * 4 + ["a/y.png"] * 5)
    record = {
        "weights": {"name": "m"},
        "scenes": [{"name": name, "path": "nowhere.png"} for name in ("a/x.png", "a/y.png")],
    }
    first = write_date("old.gpkg", BOXES, crs=None, scene=names, record=record)
    moved = [name.replace("a/", "b/") for name in names]
    second = write_date("new.gpkg", BOXES[[0, 1, 2, 3, 0]], crs=None, scene=np.array(moved[:5]), record=record)
    _, rows = compare(first, second)
    # the last one lies as the first, but in the other picture
    assert sorted(rows.change) == ["gone"] * 5 + ["new"] + ["same"] * 4
    assert rows.crs is None


def test_masks_in_pixels_do_not_fit_maps(write_date, compare):
    first, second = write_date("old.gpkg", BOXES, seen=GROUND), write_date("new.gpkg", BOXES, seen=GROUND)
    mask = write_date("mask.gpkg", BOXES, crs=None)
    with pytest.raises(GeoError, match=r"mask\.gpkg: is in pixels, but the objects are in map coordinates"):
        compare(first, second, mask=(Ground(Path(mask)),))


def test_pictures_of_different_sizes_are_refused(write_date, compare, write_scene):
    dates = []
    for name, side in (("old", 200), ("new", 150)):
        path = write_scene(f"{name}.png", np.zeros((side, side), np.uint8), crs=None, transform=None)
        record = {"weights": {"name": "m"}, "scenes": [{"name": f"{name}.png", "path": path}]}
        scene = np.full(9, f"{name}.png")
        dates.append(write_date(f"{name}.gpkg", BOXES, crs=None, seen=GROUND, scene=scene, record=record))
    with pytest.raises(GeoError, match=r"old\.gpkg is of 200 × 200 pixels, .*new.gpkg of 150 × 150"):
        compare(*dates)


@pytest.mark.parametrize("here", [True, False])
def test_without_the_ground_searched_it_is_that_of_the_scenes(write_date, compare, write_scene, caplog, here):
    image = np.full((400, 400), 90, np.uint8)
    dates = []
    for name, columns in (("old", 400), ("new", 200)):  # of half a metre
        path = write_scene(f"{name}.tif", image[:, :columns])
        record = {"weights": {"name": "m"}, "scenes": [{"name": f"{name}.tif", "path": path if here else "nowhere"}]}
        seen_first = BOXES[BOXES[:, 0] < 90] if name == "new" else BOXES
        dates.append(write_date(f"{name}.geojson", seen_first[1:], crs=WGS84, record=None))
        Path(f"{dates[-1]}.json").write_text(json.dumps(record))
    _, rows = compare(*dates)
    beyond = int((BOXES[1:, 0] > 110).sum())
    assert beyond > 2
    assert (rows.change == "unseen").sum() == (beyond if here else 0)
    assert ("does not say what ground" in caplog.text) == (not here)
