"""Known changes between two dates, found exactly."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from blobs import HALF_METRE, draw
from dates import spread_boxes

from legnet_cli.engine.diff import DiffConfig, diff
from legnet_cli.engine.diff.config import Ground
from legnet_cli.geo.crs import CRS, WGS84

GROUND = shapely.box(-20, -20, 620, 620)
CORNER = shapely.box(-20, -20, 170, 170)


def known_changes():
    """Two dates of 90 objects, each with its name: what becomes of it and a number."""
    rng = np.random.default_rng(0)
    old = spread_boxes(90, rng=rng)
    kinds = rng.permutation(["new", "gone", "moved", "turned", "resized"] * 8 + ["same"] * 50)
    new = old.copy()
    new[kinds == "moved", :2] += (6, -8)
    new[kinds == "turned", 4] += np.radians(30)
    new[kinds == "resized", 2] *= 1.4
    names = np.array([f"{kind} {number}" for number, kind in enumerate(kinds)])
    corner = shapely.contains_xy(CORNER, *new[:, :2].T)
    before, after = kinds != "new", (kinds != "gone") & ~corner
    expected = {name: name.split()[0] for name in names}
    expected |= dict.fromkeys(names[corner & before], "unseen")
    for name in names[corner & ~before]:
        del expected[name]
    return (old[before], names[before]), (new[after], names[after]), expected


def told(rows):
    """What the output says of each object, by its name."""
    return dict(zip(rows.scene_new.where(rows.scene_new != "", rows.scene_old), rows.change, strict=True))


FORMATS = [
    (".gpkg", CRS.from_epsg(32631), ".gpkg", CRS.from_epsg(32631)),
    (".gpkg", CRS.from_epsg(32631), ".geojson", WGS84),
    (".fgb", CRS.from_epsg(3857), ".gpkg", CRS.from_epsg(2154)),
    (".parquet", CRS.from_epsg(4326), ".shp", CRS.from_epsg(32632)),
]


@pytest.mark.parametrize(("old_suffix", "old_crs", "new_suffix", "new_crs"), FORMATS)
def test_known_changes_are_found_in_any_format_and_system(
    write_date, compare, tmp_path, old_suffix, old_crs, new_suffix, new_crs
):
    (old, old_names), (new, new_names), expected = known_changes()
    first = write_date(f"old{old_suffix}", old, crs=old_crs, seen=GROUND, scene=old_names)
    second = write_date(
        f"new{new_suffix}", new, crs=new_crs, shift=(1.85, -1.1), seen=GROUND.difference(CORNER), scene=new_names
    )
    # a GeoPackage says itself what was searched
    seen = write_date("seen.gpkg", new[:0], shift=(1.85, -1.1), seen=GROUND.difference(CORNER))
    settings = {} if new_suffix == ".gpkg" else {"seen": (Ground(Path(seen), 2),)}
    result, rows = compare(first, second, **settings)
    assert told(rows) == expected
    shift = result.registration[0]
    assert (shift["east_m"], shift["north_m"]) == (pytest.approx(1.85, abs=0.02), pytest.approx(-1.1, abs=0.02))
    moved = rows[rows.change == "moved"]
    np.testing.assert_allclose(moved.moved_m, 10, atol=0.02)
    np.testing.assert_allclose(moved.bearing, np.degrees(np.arctan2(6, 8)), atol=0.2)  # 6 east, 8 north
    np.testing.assert_allclose(rows[rows.change == "turned"].turned_deg, 30, atol=0.1)
    resized = rows[rows.change == "resized"]
    np.testing.assert_allclose(resized.length_new / resized.length_old, 1.4, rtol=1e-3)
    counts = Counter(expected.values())
    assert {kind: count for kind, count in result.counts["ship"].items() if count} == counts


def test_what_is_outside_or_under_a_mask_is_unseen_and_not_gone(write_date, compare):
    boxes = spread_boxes(25)
    both = write_date("old.gpkg", boxes, seen=GROUND), write_date("new.gpkg", boxes[:0], seen=GROUND)
    cloud = write_date("cloud.gpkg", boxes[:0], crs=WGS84, seen=CORNER)
    clouded = shapely.contains_xy(CORNER, *boxes[:, :2].T)
    assert 0 < clouded.sum() < 25
    for number, (date, hidden) in enumerate([(None, clouded), (2, clouded), (1, clouded & False)]):
        _, rows = compare(*both, out=f"{number}.gpkg", mask=(Ground(Path(cloud), date),))
        assert sorted(rows.change) == sorted(np.where(hidden, "unseen", "gone"))


def write_scenes(write_scene):
    """Two scenes, the second shifted by 3.7 pixels and resampled, a corner of it without data; and what became."""
    rng = np.random.default_rng(4)
    old = spread_boxes(64, rng=rng, cell=44) / [0.5, 0.5, 1.2, 1.2, 1]  # pixels of half a metre
    kinds = rng.permutation(["gone", "new", "moved", "turned"] * 6 + ["same"] * 40)
    new = old.copy()
    new[kinds == "moved", 0] += 9
    new[kinds == "turned", 4] += 0.7
    size = (740, 740)
    before = draw(size, old[kinds != "new"], np.full((kinds != "new").sum(), 150)).astype(np.float32)
    after = draw(size, new[kinds != "gone"], np.full((kinds != "gone").sum(), 150)).astype(np.float32)
    way = np.array([[1, 0, 3.7], [0, 1, -1.6]])
    after = cv2.warpAffine(after, way, size, flags=cv2.INTER_LINEAR, borderValue=30)
    after[:200, :200] = 0
    corner = (new[:, 0] + 3.7 < 200) & (new[:, 1] - 1.6 < 200)
    expected = Counter(np.where(corner & (kinds != "new"), "unseen", kinds)[~(corner & (kinds == "new"))].tolist())
    paths = [
        write_scene(name, image.astype(np.uint8), nodata=0, transform=HALF_METRE)
        for name, image in (("old.tif", before), ("new.tif", after))
    ]
    return paths, expected


@pytest.mark.parametrize("place", ["{}", "{}?key=a.b/c"], ids=["disk", "network"])
def test_scenes_shifted_by_parts_of_pixels_with_a_corner_without_data(tmp_path, blobs, write_scene, web, place):
    paths, expected = write_scenes(write_scene)
    if "?" in place:
        paths = [place.format(f"{web.url}/{Path(path).name}") for path in paths]
    config = DiffConfig(dates=paths, weights="any", out=tmp_path / "out.gpkg", report=tmp_path / "out.html", tile=512)
    result = diff(config)
    assert result.dates == ("old", "new")
    assert Counter({kind: count for kind, count in result.counts["dim"].items() if count}) == expected
    shift = result.registration[0]
    assert (shift["east_m"], shift["north_m"]) == (pytest.approx(1.85, abs=0.1), pytest.approx(0.8, abs=0.1))
    assert not [*tmp_path.glob(".out*")]
    page = (tmp_path / "out.html").read_text()
    assert page.count("data:image/jpeg") >= 2 * 6 * 3


def test_a_search_that_was_interrupted_goes_on(tmp_path, blobs, write_scene, monkeypatch):
    paths, _ = write_scenes(write_scene)
    config = DiffConfig(dates=paths, weights="any", out=tmp_path / "out.gpkg", tile=1024)
    detect, calls = blobs.detect, []

    def stop(images):
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return detect(images)

    monkeypatch.setattr(blobs, "detect", stop)
    with pytest.raises(KeyboardInterrupt):
        diff(config)
    assert [path.name for path in tmp_path.glob(".out*/*.gpkg")] == ["1-old.gpkg"]
    diff(config)
    assert len(calls) == 3  # the first date is not searched again
    assert not [*tmp_path.glob(".out*")]
