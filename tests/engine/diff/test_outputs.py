import json
import sqlite3
from contextlib import closing

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from dates import RECORD, spread_boxes

from legnet_cli.engine.diff import DiffConfig, diff
from legnet_cli.engine.predict import read_record
from legnet_cli.errors import ConfigError

GROUND = shapely.box(-20, -20, 200, 200)
BOXES = spread_boxes(9)


@pytest.fixture
def dates(write_date):
    old, new = np.array([0.5, *[0.9] * 7]), np.array([0.8] * 8)
    return (
        write_date("old.gpkg", BOXES[:8], seen=GROUND, score=old),
        write_date("new.gpkg", BOXES[1:], seen=GROUND, score=new),
    )


def query(path, text):
    with closing(sqlite3.connect(path)) as file:
        return file.execute(text).fetchall()


def test_a_geopackage_has_style_ground_and_provenance(dates, compare, tmp_path):
    compare(*dates, max_move=3)
    out = tmp_path / "out.gpkg"
    ((style,),) = query(out, "SELECT styleQML FROM layer_styles")
    assert 'attr="change"' in style
    assert all(f'value="{kind}"' in style for kind in ("new", "gone", "moved", "same", "unseen"))
    ground = pyogrio.read_dataframe(out, layer="searched")
    assert ground.date.tolist() == ["old", "new"]
    assert ground.geometry.area.tolist() == pytest.approx([220**2] * 2, rel=1e-3)
    record = read_record(out)
    assert (record["verb"], record["settings"]["max_move"]) == ("diff", 3)
    assert [date["made"] for date in record["dates"]] == [RECORD] * 2
    assert [date["objects"] for date in record["dates"]] == [8, 8]
    assert record["registration"][0]["pairs"] == 7


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".fgb", ".shp", ".parquet"])
def test_every_format_has_the_same_rows_and_bytes(dates, compare, tmp_path, suffix):
    for name in ("a", "b"):
        diff(DiffConfig(dates=dates, out=tmp_path / name / f"out{suffix}", style=True))
    files = {file.name: file.read_bytes() for file in (tmp_path / "a").iterdir()}
    assert files == {file.name: file.read_bytes() for file in (tmp_path / "b").iterdir()}
    assert ("out.qml" in files) == (suffix != ".gpkg")
    assert (f"out{suffix}.json" in files) == (suffix in (".geojson", ".shp"))
    if suffix == ".parquet":
        rows = geopandas.read_parquet(tmp_path / "a" / "out.parquet")
    else:
        rows = pyogrio.read_dataframe(tmp_path / "a" / f"out{suffix}", layer="out")
    assert sorted(rows.change) == ["gone", "new"] + ["same"] * 7
    names = [*rows.columns]
    assert names[:2] == ["class", "change"]
    assert {"moved_m", "bearing", "turned_deg", "length_old", "score_new", "scene_new"} <= {*names}


def test_the_report_tells_of_both_dates(dates, compare, tmp_path):
    compare(*dates, report=tmp_path / "r.html", names=("2021", "<2022>"))
    page = (tmp_path / "r.html").read_text()
    for words in ("Changes from 2021 to &lt;2022&gt;", "map of the changes", "old.gpkg", "agree within"):
        assert words in page
    assert "<2022>" not in page.replace("&lt;2022&gt;", "")


def test_existing_outputs_stay_unless_told(dates, compare, tmp_path):
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(ConfigError, match=r"r.html: exists already"):
        compare(*dates, report=tmp_path / "r.html")
    assert not (tmp_path / "out.gpkg").exists()
    compare(*dates, report=tmp_path / "r.html", overwrite=True)
    assert "mine" not in (tmp_path / "r.html").read_text()


def test_objects_below_the_score_and_of_other_classes_are_left_out(dates, compare):
    _, rows = compare(*dates, score=0.6)
    assert sorted(rows.change) == ["new"] + ["same"] * 7


def test_the_record_is_plain_json(dates, compare, tmp_path):
    compare(*dates, out="out.geojson")
    assert json.loads((tmp_path / "out.geojson.json").read_text())["dates"][1]["name"] == "new"
