"""Outputs of predict: names, provenance, replay, the searched ground, styles and STAC items."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import obstore
import pyogrio
import pyproj
import pytest
import shapely
from blobs import CLASSES, draw
from rasterio.transform import Affine

from legnet_cli import __version__
from legnet_cli.engine.predict import PredictConfig, class_colour, predict
from legnet_cli.engine.predict.job import job_folder
from legnet_cli.engine.predict.outputs import file_stems
from legnet_cli.engine.predict.provenance import read_record
from legnet_cli.errors import ConfigError, DataError, GeoError
from legnet_cli.geo import stores

BOXES = [(60, 50, 40, 12, 0.4), (128, 100, 44, 16, -0.7), (220, 180, 30, 14, 1.2), (250, 40, 24, 10, 0.0)]
VALUES = [160, 250, 250, 160]
SHAPE = (230, 300)
FORMATS = [".geojson", ".gpkg", ".fgb", ".shp", ".parquet", ".csv", ""]


@pytest.fixture(autouse=True)
def _a_day(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(20_000 * 86_400 + 12_345))


@pytest.fixture
def scene(write_scene):
    return write_scene("a.tif", draw(SHAPE, BOXES, VALUES))


def run(tmp_path, scenes=(), out="out.gpkg", **values):
    scenes = (scenes,) if isinstance(scenes, str) else tuple(scenes)
    weights = {} if "replay" in values else {"weights": "any"}
    return predict(PredictConfig(scenes=scenes, out=out and tmp_path / out, **weights, **values))


def rows(path, table):
    with closing(sqlite3.connect(path)) as file:
        file.row_factory = sqlite3.Row
        return [dict(row) for row in file.execute(f"SELECT * FROM {table}")]


def content(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# ---- one output a scene


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["a.tif", "b.TIFF", "c.v2.dat"], ["a", "b", "c.v2.dat"]),
        (["n/o.tif", "s/o.tif"], ["n_o", "s_o"]),
        (["a.tif", "a.png", "A.jp2", "a_2.tif"], ["a", "a_2", "A_3", "a_2_2"]),
        (['x.nc":v'], ["x.nc__v"]),
    ],
)
def test_stems_of_scenes(names, stems):
    assert file_stems(names) == stems


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_template_makes_one_output_a_scene(tmp_path, blobs, write_scene, suffix):
    image = draw(SHAPE, BOXES, VALUES)
    scenes = [write_scene(f"in/{name}.tif", image) for name in ("n/ortho", "s/ortho", "v1.2")]
    result = run(tmp_path, scenes, f"out/{{scene}}{suffix}", preview=tmp_path / "out" / "{scene}.png")
    stems = ["n_ortho", "s_ortho", "v1_2" if suffix == "" else "v1.2"]
    assert result.outputs == tuple(tmp_path / "out" / f"{stem}{suffix}" for stem in stems)
    assert all(path.exists() for path in (*result.outputs, *result.previews))
    assert [path.name for path in result.previews] == ["n_ortho.png", "s_ortho.png", "v1.2.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in", "out"]
    assert [read_record(path)["scenes"][0]["name"] for path in result.outputs] == [s.name for s in result.scenes]


@pytest.mark.parametrize(
    ("out", "folder"),
    [
        ("o/a.gpkg", "o/.a.gpkg.legnet-job"),
        ("o/{scene}.gpkg", "o/._scene_.gpkg.legnet-job"),
        ("o/x-{scene}/y/{scene}.gpkg", "o/.x-_scene_.legnet-job"),
    ],
)
def test_the_job_folder_of_a_template_has_no_scene_in_its_name(out, folder):
    assert job_folder(out, None) == Path(folder)


def test_each_scene_keeps_its_reference_system_but_in_a_data_set(tmp_path, blobs, write_scene):
    image = draw(SHAPE, BOXES, VALUES)
    scenes = [write_scene(f"in/{zone}.tif", image, crs=f"EPSG:{zone}") for zone in (32631, 32632)]
    scenes.append(write_scene("in/bare.png", image, crs=None, transform=None))
    run(tmp_path, scenes, "out/{scene}.gpkg")
    systems = {path.stem: pyogrio.read_info(path, layer=path.stem)["crs"] for path in (tmp_path / "out").iterdir()}
    assert (systems["32631"], systems["32632"]) == ("EPSG:32631", "EPSG:32632")
    assert pyogrio.raw.read(tmp_path / "out" / "bare.gpkg", layer="bare")[0]["fields"][2] == "length_px"
    with pytest.raises(GeoError, match=r"bare\.png: has no reference system as other scenes have"):
        run(tmp_path, scenes, "set/{scene}.parquet")

    pq, dataset = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow.dataset")
    run(tmp_path, scenes[:2], "set/{scene}.parquet")
    table = dataset.dataset(tmp_path / "set").to_table()
    assert table["scene"].to_pylist() == ["32631.tif"] * 4 + ["32632.tif"] * 4
    geo = [json.loads(pq.read_schema(file).metadata[b"geo"]) for file in (tmp_path / "set").iterdir()]
    assert [one["columns"]["geometry"]["crs"]["id"]["code"] for one in geo] == [32631, 32631]
    # a file of the set is repeated in the set's reference system
    before = content(tmp_path / "set")
    run(tmp_path, (), None, replay=tmp_path / "set" / "32632.parquet", overwrite=True)
    assert content(tmp_path / "set") == before


def test_outputs_written_before_a_stop_are_replaced_and_no_others(tmp_path, blobs, write_scene, monkeypatch):
    scenes = [write_scene(f"in/{name}.tif", draw(SHAPE, BOXES, VALUES)) for name in "abc"]
    run(tmp_path, scenes, "whole/{scene}.geojson")
    real = shapely.to_geojson

    def stop(*args):
        if (tmp_path / "out" / "b.geojson").exists():
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(shapely, "to_geojson", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, scenes, "out/{scene}.geojson")
    shapes = sorted(path.name for path in (tmp_path / "out").glob("*.geojson"))
    assert shapes == ["a.geojson", "b.geojson"]
    blobs.batches.clear()
    (tmp_path / "out" / "c.geojson").write_text("mine")
    with pytest.raises(ConfigError, match=r"c\.geojson: exists already"):
        run(tmp_path, scenes, "out/{scene}.geojson")
    (tmp_path / "out" / "c.geojson").unlink()
    run(tmp_path, scenes, "out/{scene}.geojson")
    assert blobs.batches == []
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_stopped_search_ends_in_the_same_bytes(tmp_path, blobs, write_scene, suffix, monkeypatch):
    monkeypatch.setattr("legnet_cli.engine.predict.plan.BLOCK", 3)
    scenes = [write_scene(f"in/{name}.tif", draw(SHAPE, BOXES, VALUES)) for name in "abc"]
    run(tmp_path, scenes, f"whole/out{suffix}", preview=tmp_path / "whole" / "{scene}.png", stac=True)
    real, left = blobs.detect, iter(range(20, -1000, -1))

    def detect(images):
        if next(left) == 0:
            raise KeyboardInterrupt
        return real(images)

    monkeypatch.setattr(blobs, "detect", detect)
    values = {"out": f"out/out{suffix}", "preview": tmp_path / "out" / "{scene}.png", "stac": True}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, scenes, **values)
    run(tmp_path, scenes, **values)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


# ---- provenance


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


# ---- the ground that was searched


def searched(path):
    meta, _, wkb, values = pyogrio.raw.read(path, layer="searched")
    return meta, shapely.from_wkb(wkb), dict(zip(meta["fields"], values, strict=True))


def on_ground(x0, y0, x1, y1):
    return shapely.box(500_000 + x0 / 2, 5_000_000 - y1 / 2, 500_000 + x1 / 2, 5_000_000 - y0 / 2)


def test_ground_searched_is_that_with_data(tmp_path, blobs, write_scene):
    image = draw((128, 384), BOXES[:1], VALUES[:1])
    image[0, :128], image[:, 256:] = 40, 255  # data, nodata
    image[:, 128:256] = 30  # of one colour: skipped
    run(tmp_path, write_scene("a.tif", image, nodata=255), overlap=0)
    meta, (area,), fields = searched(tmp_path / "out.gpkg")
    assert meta["crs"] == "EPSG:32631"
    assert area.symmetric_difference(on_ground(0, 0, 128, 128)).area < 1e-6
    assert (fields["scene"].tolist(), fields["objects"].tolist()) == (["a.tif"], [1])


def test_ground_searched_is_inside_the_area_of_interest(tmp_path, blobs, scene):
    area = on_ground(10, 20, 200, 100).difference(on_ground(50, 50, 60, 60))
    aoi = tmp_path / "aoi.gpkg"
    pyogrio.raw.write(aoi, shapely.to_wkb([area]), [], [], driver="GPKG", geometry_type="Polygon", crs="EPSG:32631")
    run(tmp_path, scene, aoi=aoi, crs="EPSG:32632")
    meta, (found,), _ = searched(tmp_path / "out.gpkg")
    assert meta["crs"] == "EPSG:32632"
    back = pyproj.Transformer.from_crs(32632, 32631, always_xy=True)
    found = shapely.transform(found, lambda xy: np.stack(back.transform(*xy.T), 1))
    assert found.symmetric_difference(area).area < 1e-3 * area.area


def test_ground_searched_over_the_antimeridian(tmp_path, blobs, write_scene):
    image = draw((100, 200), [(60, 50, 40, 12, 0)], [160])
    run(tmp_path, write_scene("a.tif", image, crs="EPSG:4326", transform=Affine(0.01, 0, 179, 0, -0.01, 10)), stac=True)
    _, (area,), _ = searched(tmp_path / "out.gpkg")
    assert sorted(part.bounds for part in area.geoms) == [(-180, 9, -179, 10), (179, 9, 180, 10)]


def test_ground_searched_of_a_plain_picture(tmp_path, blobs, write_scene):
    run(tmp_path, write_scene("a.png", draw(SHAPE, BOXES, VALUES), crs=None, transform=None))
    _, (area,), _ = searched(tmp_path / "out.gpkg")
    assert area.bounds == (0, -SHAPE[0], SHAPE[1], 0)


def test_a_layer_may_be_called_searched(tmp_path, blobs, scene):
    run(tmp_path, scene, "searched.gpkg")
    layers = [str(name) for name in pyogrio.list_layers(tmp_path / "searched.gpkg")[:, 0]]
    assert layers == ["searched", "searched_ground", "layer_styles"]


# ---- styles


def colours(qml):
    root = ElementTree.fromstring(qml)
    assert root.find("renderer-v2").attrib["attr"] == "class"
    categories = {c.attrib["value"]: c.attrib["symbol"] for c in root.iter("category")}
    symbols = {s.attrib["name"]: s for s in root.iter("symbol")}
    values = {
        name: {o.attrib["name"]: o.attrib["value"] for o in symbols[symbol].iter("Option") if "name" in o.attrib}
        for name, symbol in categories.items()
    }
    return {name: tuple(map(int, found["outline_color"].split(",")))[:3] for name, found in values.items()}


EXPECTED = {name: class_colour(label) for label, name in enumerate(CLASSES)}


def test_a_geopackage_has_a_style(tmp_path, blobs, scene):
    run(tmp_path, scene)
    (style,) = rows(tmp_path / "out.gpkg", "layer_styles")
    assert (style["f_table_name"], style["f_geometry_column"], style["useAsDefault"]) == ("out", "geom", 1)
    assert colours(style["styleQML"]) == EXPECTED


@pytest.mark.parametrize("suffix", [".geojson", ".fgb", ".shp", ".parquet"])
def test_other_layers_have_one_beside_them_if_asked(tmp_path, blobs, scene, suffix):
    run(tmp_path, scene, f"out{suffix}", style=True)
    assert colours((tmp_path / "out.qml").read_text()) == EXPECTED
    with pytest.raises(ConfigError, match="is not a layer"):
        run(tmp_path, scene, "out.csv", style=True)


# ---- STAC


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


# ---- what stays


def test_nothing_that_is_read_is_replaced(tmp_path, blobs, scene):
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps({"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 90], [0, 0]]]}))
    before = content(tmp_path)
    for values in ({"out": "area.geojson", "aoi": area}, {"preview": tmp_path / "p.png"}):
        source = scene
        if "preview" in values:
            shutil.copy(scene, tmp_path / "p.png")
            source, before = str(tmp_path / "p.png"), before | {"p.png": Path(scene).read_bytes()}
        with pytest.raises(ConfigError, match="is an input of this run"):
            run(tmp_path, source, **values, overwrite=True)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["out.geojson", "out.geojson.json", "out.qml", "out.stac.json", "p.png"])
def test_what_stands_or_appears_is_not_replaced(tmp_path, blobs, scene, name, monkeypatch):
    values = {"out": "out.geojson", "style": True, "stac": True, "preview": tmp_path / "p.png"}
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        run(tmp_path, scene, **values)
    assert blobs.batches == []
    (tmp_path / name).unlink()
    real = blobs.detect

    def detect(images):
        (tmp_path / name).write_text("mine")
        return real(images)

    monkeypatch.setattr(blobs, "detect", detect)
    with pytest.raises(DataError, match="has appeared meanwhile: move it away and repeat the command"):
        run(tmp_path, scene, **values)
    assert (tmp_path / name).read_text() == "mine"
    monkeypatch.undo()
    monkeypatch.setattr("legnet_cli.engine.predict.run.load_ensemble", lambda *_, **__: blobs)
    (tmp_path / name).unlink()
    blobs.batches.clear()
    run(tmp_path, scene, **values)
    assert blobs.batches == []  # nothing was lost
    assert (tmp_path / name).exists()


# ---- scenes of several reference systems


def test_several_reference_systems_are_told_once(tmp_path, blobs, write_scene, caplog):
    image = draw(SHAPE, BOXES, VALUES)
    scenes = [write_scene(f"{zone}.tif", image, crs=f"EPSG:{zone}") for zone in (32631, 32632, 32633)]
    result = run(tmp_path, scenes)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [
        "scenes have 3 reference systems (WGS 84 / UTM zone 31N, WGS 84 / UTM zone 32N, WGS 84 / UTM zone 33N): "
        "all objects go into that of the first, WGS 84 / UTM zone 31N; --crs chooses another"
    ]
    assert result.crs == "WGS 84 / UTM zone 31N (EPSG:32631)"
    caplog.clear()
    for out in ("o.geojson", "o.csv", "o/{scene}.gpkg"):
        run(tmp_path, scenes, out)
    assert run(tmp_path, scenes, "b.gpkg", crs="EPSG:3857").crs == "WGS 84 / Pseudo-Mercator (EPSG:3857)"
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


# ---- object stores


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".fgb", ".parquet", ".csv"])
def test_outputs_go_to_an_object_store(tmp_path, blobs, scene, bucket, suffix, monkeypatch):
    monkeypatch.chdir(tmp_path)
    local, remote = tmp_path / "local" / f"out{suffix}", f"s3://scenes/runs/out{suffix}"
    predict(PredictConfig((scene,), local, "any", stac=True))
    result = predict(PredictConfig((scene,), Path(remote), "any", stac=True))
    assert len(result.scenes) == 1
    names = [file.name for file in local.parent.iterdir()]
    assert len(names) == (2 if suffix in (".gpkg", ".fgb", ".parquet") else 3)
    assert sorted(one.url for one in stores.list_objects("s3://scenes/runs")) == [
        f"s3://scenes/runs/{name}" for name in sorted(names)
    ]
    for name in names:
        stored = obstore.get(stores.open_store("s3://scenes"), f"runs/{name}").bytes()
        assert bytes(stored) == (local.parent / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "local"]  # no job folder, no "s3:"
    with pytest.raises(ConfigError, match=f"{remote}: exists already"):
        predict(PredictConfig((scene,), Path(remote), "any", stac=True))
    predict(PredictConfig((scene,), Path(remote), "any", overwrite=True))


def test_a_failed_upload_loses_nothing(tmp_path, blobs, scene, bucket, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = PredictConfig((scene,), Path("s3://scenes/out.gpkg"), "any")
    with monkeypatch.context() as patch, pytest.raises(DataError, match="no network"):  # noqa: PT012
        patch.setattr("legnet_cli.engine.predict.write.upload", fail_to_upload)
        predict(config)
    assert list(stores.list_objects("s3://scenes")) == []
    blobs.batches.clear()
    predict(config)
    assert blobs.batches == []
    assert [one.url for one in stores.list_objects("s3://scenes")] == ["s3://scenes/out.gpkg"]


def fail_to_upload(path, url):
    raise DataError(f"{url}: no network")


@pytest.mark.parametrize("out", ["s3://scenes/out.shp", "s3://scenes/folder", "https://x/out.gpkg", "ftp://x/o.gpkg"])
def test_what_cannot_be_written_elsewhere_is_refused_before_work(tmp_path, blobs, scene, out, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="choose"):
        predict(PredictConfig((scene,), Path(out), "any"))
    assert blobs.batches == []
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
