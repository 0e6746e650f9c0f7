"""Outputs of predict: their names, styles and places, and what they never replace."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import obstore
import pyogrio
import pytest
import shapely
from blobs import CLASSES, draw
from searches import BOXES, FORMATS, SHAPE, VALUES, content, rows, run

from legnet_cli.engine.predict import PredictConfig, class_colour, predict
from legnet_cli.engine.predict.job import job_folder
from legnet_cli.engine.predict.outputs import file_stems
from legnet_cli.engine.predict.provenance import read_record
from legnet_cli.errors import ConfigError, DataError, GeoError
from legnet_cli.geo import stores

pytestmark = pytest.mark.usefixtures("a_day")


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


def test_several_reference_systems_are_told_once(tmp_path, blobs, write_scene, caplog):
    image = draw(SHAPE, BOXES, VALUES)
    scenes = [write_scene(f"{zone}.tif", image, crs=f"EPSG:{zone}") for zone in (32631, 32632, 32633)]
    result = run(tmp_path, scenes)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [
        "scenes have 3 reference systems (WGS 84 / UTM zone 31N, WGS 84 / UTM zone 32N, WGS 84 / UTM zone 33N): "
        "all objects are written in that of the first, WGS 84 / UTM zone 31N; --crs chooses another"
    ]
    assert result.crs == "WGS 84 / UTM zone 31N (EPSG:32631)"
    caplog.clear()
    for out in ("o.geojson", "o.csv", "o/{scene}.gpkg"):
        run(tmp_path, scenes, out)
    assert run(tmp_path, scenes, "b.gpkg", crs="EPSG:3857").crs == "WGS 84 / Pseudo-Mercator (EPSG:3857)"
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


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
