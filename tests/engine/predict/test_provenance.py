"""What outputs say of how they were made: provenance, replay and STAC items."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from blobs import draw
from searches import BOXES, FORMATS, SHAPE, VALUES, content, on_ground, rows, run

from legnet_cli import __version__
from legnet_cli.engine.predict.provenance import read_record
from legnet_cli.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("a_day")


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_output_says_how_it_was_made(tmp_path, blobs, scene, suffix):
    run(tmp_path, scene, f"out{suffix}", score=0.3, classes=("dim", "bright"), stretch="none")
    record = read_record(tmp_path / f"out{suffix}")
    status = Path(scene).stat()
    assert record["legnet"] == __version__
    assert record["date"] == "2024-10-04"
    assert record["weights"] == {"name": "blobs", "sha256": None}
    assert record["recipe"] == "oriented-rcnn/legnet-nano"
    expected = {"score": 0.3, "classes": ["dim", "bright"], "stretch": "none", "tile": 128, "overlap": 48}
    assert record["settings"].items() >= expected.items()
    assert record["computed"] == {"device": "cpu", "engine": "torch", "precision": "fp32"}
    assert record["scenes"] == [
        {"name": "a.tif", "path": scene, "size": status.st_size, "mtime_ns": str(status.st_mtime_ns)}
    ]
    beside = sorted(file.name for file in tmp_path.iterdir() if file.suffix == ".json")
    assert beside == ([] if suffix in (".gpkg", ".fgb", ".parquet") else [f"out{suffix}.json"])


def test_the_run_is_told_by_all_but_the_date(tmp_path, blobs, scene, monkeypatch):
    runs = []
    for number, (score, day) in enumerate([(0.3, 1), (0.3, 2), (0.4, 2)]):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(day * 86_400))
        run(tmp_path, scene, f"{number}.csv", score=score)
        runs.append(read_record(tmp_path / f"{number}.csv"))
    assert [one["date"] for one in runs] == ["1970-01-02", "1970-01-03", "1970-01-03"]
    assert runs[0]["run"] == runs[1]["run"] != runs[2]["run"]


def test_metadata_tables_of_a_geopackage(tmp_path, blobs, scene):
    run(tmp_path, scene)
    (record,) = rows(tmp_path / "out.gpkg", "gpkg_metadata")
    assert (record["md_scope"], record["mime_type"]) == ("dataset", "application/json")
    assert json.loads(record["metadata"]) == read_record(tmp_path / "out.gpkg")
    references = rows(tmp_path / "out.gpkg", "gpkg_metadata_reference")
    assert [(r["reference_scope"], r["table_name"], r["md_file_id"]) for r in references] == [
        ("table", "out", 1),
        ("table", "searched", 1),
    ]
    known = {row["table_name"]: row["extension_name"] for row in rows(tmp_path / "out.gpkg", "gpkg_extensions")}
    assert known["gpkg_metadata"] == known["gpkg_metadata_reference"] == "gpkg_metadata"
    assert "run" in pyogrio.read_info(tmp_path / "out.gpkg", layer="out")["layer_metadata"]["GPKG_METADATA_ITEM_1"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_replay_gives_the_same_bytes(tmp_path, blobs, write_scene, suffix):
    names = ("n/ortho", "s/ortho") if suffix else ("n/a", "s/b")  # DOTA's text has no folders
    scenes = [write_scene(f"in/{name}.tif", draw(SHAPE, BOXES, VALUES)) for name in names]
    area = tmp_path / "area.geojson"
    box = shapely.transform(
        shapely.box(500_000, 4_999_900, 500_100, 5_000_000),
        lambda xy: np.stack(pyproj.Transformer.from_crs(32631, 4326, always_xy=True).transform(*xy.T), 1),
    )
    area.write_text(shapely.to_geojson(box))
    crs = {"crs": "EPSG:3857"} if suffix in (".gpkg", ".fgb", ".shp", ".parquet") else {}
    run(tmp_path, scenes, f"one/out{suffix}", aoi=area, score=0.4, max_detections=3, bands=(1,), **crs)
    run(tmp_path, (), f"two/out{suffix}", replay=tmp_path / "one" / f"out{suffix}")
    assert content(tmp_path / "one") == content(tmp_path / "two")
    sizes = {name: len(raw) for name, raw in content(tmp_path / "one").items()}
    run(tmp_path, (), None, replay=tmp_path / "one" / f"out{suffix}", overwrite=True)
    assert {name: len(raw) for name, raw in content(tmp_path / "one").items()} == sizes
    assert content(tmp_path / "one") == content(tmp_path / "two")
    with pytest.raises(ConfigError, match="exists already"):
        run(tmp_path, (), None, replay=tmp_path / "one" / f"out{suffix}")


def test_replay_refuses_what_has_changed(tmp_path, blobs, scene, monkeypatch, caplog):
    run(tmp_path, scene)
    replay = tmp_path / "out.gpkg"
    with pytest.raises(ConfigError, match="--replay has settings of its own: leave out scenes, --score"):
        run(tmp_path, scene, "b.gpkg", replay=replay, score=0.1)
    with pytest.raises(DataError, match=r"none\.gpkg: does not say how it was made"):
        run(tmp_path, (), "b.gpkg", replay=tmp_path / "none.gpkg")
    shutil.copy(scene, tmp_path / "other.tif")
    with pytest.raises(DataError, match=r"other\.tif: does not say how it was made"):
        run(tmp_path, (), "b.gpkg", replay=tmp_path / "other.tif")
    blobs.precision = "bf16"
    run(tmp_path, (), "c.gpkg", replay=replay)
    assert "computed on cpu, torch, fp32, now on cpu, torch, bf16: digits may differ" in caplog.text
    how = {"device": "cpu", "engine": "torch", "precision": "fp32"}
    with monkeypatch.context() as patch:
        patch.setattr("legnet_cli.engine.predict.run._weights", lambda *_, **__: ("f" * 64, how))
        with pytest.raises(DataError, match="was made with other weights"):
            run(tmp_path, (), "d.gpkg", replay=replay)
    with open(scene, "ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match=r"a\.tif: has changed since"):
        run(tmp_path, (), "e.gpkg", replay=replay)
    assert not list(tmp_path.glob("[bde].gpkg"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_stac_item(tmp_path, blobs, scene, suffix):
    run(tmp_path, scene, f"out{suffix}", stac=True)
    item = json.loads((tmp_path / "out.stac.json").read_text())
    record = read_record(tmp_path / f"out{suffix}")
    assert (item["type"], item["stac_version"], item["id"]) == ("Feature", "1.1.0", "out")
    assert item["links"] == [{"rel": "derived_from", "href": scene, "title": "a.tif"}]
    assert item["assets"]["objects"]["href"] == f"./out{suffix}"
    assert item["properties"]["datetime"] == "2024-10-04T00:00:00Z"
    assert item["properties"]["processing:software"] == {"legnet": __version__}
    assert item["properties"]["legnet:run"] == record["run"]
    footprint = shapely.geometry.shape(item["geometry"])
    assert item["bbox"] == pytest.approx(footprint.bounds)
    back = pyproj.Transformer.from_crs(4326, 32631, always_xy=True)
    ground = shapely.transform(footprint, lambda xy: np.stack(back.transform(*xy.T), 1))
    assert ground.symmetric_difference(on_ground(0, 0, 300, 230)).area < 2
    assert all(
        extension.startswith("https://stac-extensions.github.io/processing/") for extension in item["stac_extensions"]
    )


def test_stac_item_without_a_place(tmp_path, blobs, write_scene):
    run(tmp_path, write_scene("a.png", draw(SHAPE, [], []), crs=None, transform=None), "out.csv", stac=True)
    item = json.loads((tmp_path / "out.stac.json").read_text())
    assert item["geometry"] is None
    assert "bbox" not in item
