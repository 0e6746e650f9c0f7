import numpy as np
import pytest
import shapely
from dates import spread_boxes

GROUND = shapely.box(-20, -20, 620, 620)
CORNER = shapely.box(-20, -20, 170, 170)


def test_objects_are_followed_over_dates_that_miss_or_do_not_show_them(write_date, compare, tmp_path):
    boxes = spread_boxes(64)
    corner = shapely.contains_xy(CORNER, *boxes[:, :2].T)
    clear = np.flatnonzero(~corner)
    came, left, missed, moved = clear[:5], clear[5:9], clear[9:16], clear[16:19]
    there = np.ones((3, 64), bool)
    there[0, came] = there[2, left] = there[1, missed] = there[1, corner] = False
    last = boxes.copy()
    last[moved, 1] += 9
    names = np.arange(64).astype(str)
    dates = [
        write_date(
            f"{year}.gpkg",
            (last if number == 2 else boxes)[there[number]],
            shift=(number * 2.5, -number),
            seen=GROUND.difference(CORNER) if number == 1 else GROUND,
            scene=names[there[number]],
        )
        for number, year in enumerate((2021, 2022, 2023))
    ]
    result, rows = compare(*dates, out="tracks.gpkg", report=tmp_path / "tracks.html")
    assert (len(rows), result.tracks) == (64, 64)
    rows = rows.set_index("scene").loc[names]
    years = np.array(["2021", "2022", "2023"])
    first, final = np.argmax(there, 0), 2 - np.argmax(there[::-1], 0)
    assert rows.first_seen.tolist() == years[first].tolist()
    assert rows.last_seen.tolist() == years[final].tolist()
    assert rows.times_seen.tolist() == there.sum(0).tolist()
    assert rows.searched.tolist() == np.where(corner, 2, 3).tolist()
    np.testing.assert_allclose(rows.moved_m, np.where(np.isin(np.arange(64), moved), 9, 0), atol=0.02)
    assert [shift["east_m"] for shift in result.registration] == pytest.approx([2.5, 5], abs=0.01)
    assert result.table["ship"] == [
        {"found": 59, "new": 0, "gone": 0, "unseen": 0},
        {"found": 64 - 7 - corner.sum(), "new": 5, "gone": 0, "unseen": corner.sum()},
        {"found": 60, "new": 0, "gone": 4, "unseen": 0},
    ]
    page = (tmp_path / "tracks.html").read_text()
    assert page.count("data:image/png") == 2
    assert "2022: shift of +2.50 m east, -1.00 m north" in page


def test_an_object_that_moves_on_each_date_is_one_track(write_date, compare):
    boxes = spread_boxes(16)
    dates = []
    for number in range(4):
        now = boxes + [number * 8, 0, 0, 0, 0]
        now[1:] = boxes[1:]
        dates.append(write_date(f"{number}.gpkg", now, seen=GROUND))
    _, rows = compare(*dates, names=("a", "b", "c", "d"))
    assert set(rows.times_seen) == {4}
    assert sorted(rows.moved_m)[-1] == pytest.approx(24, abs=0.02)
    assert set(rows.first_seen) == {"a"}
