"""Vector files of every format: geometries, reference systems, fields and provenance."""

import importlib.util
import json
import re

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from layers import FORMATS, LONLAT, ODD, UTM, geojson_features, layer, read, square

from legnet_cli.errors import DataError, DependencyError
from legnet_cli.geo.vector import (
    SAYS_PROVENANCE,
    About,
    Layer,
    check_format,
    read_provenance,
    write_layer,
)
from legnet_cli.installation import install_line


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("crs", [LONLAT, UTM, ODD, None])
def test_round_trip(tmp_path, suffix, crs):
    if suffix == ".geojson" and crs not in (LONLAT, None):
        pytest.skip("GeoJSON is in WGS 84")
    path = tmp_path / f"out{suffix}"
    expected = layer(square(10, 50, 0.01), square(11, 51, 0.02)[::-1], crs=crs)
    write_layer(path, expected)
    geometries, found_crs, columns = read(path)
    np.testing.assert_allclose(shapely.bounds(geometries)[:, 0], expected.polygons[..., 0].min(1))
    assert shapely.area(geometries) == pytest.approx(shapely.area(shapely.polygons(expected.polygons)))
    if crs is not None:
        assert pyproj.CRS(found_crs).equals(crs, ignore_axis_order=True)
    else:
        assert found_crs is None or found_crs.is_engineering
    azimuth = "azimuth" if suffix == ".shp" else "azimuth_deg"
    assert list(columns) == ["class", "score", azimuth, "scene"]
    assert columns["class"] == ["ship é, 0", "ship é, 1"]
    assert columns["score"] == pytest.approx([0.1, 0.9])
    assert columns[azimuth] == [0, 10]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("crs", [LONLAT, None])
def test_empty_layer(tmp_path, suffix, crs):
    path = tmp_path / f"out{suffix}"
    write_layer(path, layer(crs=crs))
    geometries, found_crs, columns = read(path)
    assert len(geometries) == 0
    assert (found_crs is not None and found_crs.is_geographic) is (crs is not None)
    if suffix == ".geojson":  # it has no place for a schema
        assert json.loads(path.read_text()) | {"crs": 0} == {
            "type": "FeatureCollection",
            "name": "out",
            "features": [],
            "crs": 0,
        }
    else:
        assert len(columns) == 4


@pytest.mark.parametrize("suffix", FORMATS)
def test_same_layer_same_bytes(tmp_path, suffix, monkeypatch):
    contents = []
    for folder in ("one", "two"):
        write_layer(tmp_path / folder / f"out{suffix}", layer(square(1, 2, 0.1)))
        contents.append({file.name: file.read_bytes() for file in (tmp_path / folder).iterdir()})
    assert contents[0] == contents[1]
    names = {f"out{end}" for end in (".shp", ".shx", ".dbf", ".prj", ".cpg")} if suffix == ".shp" else {f"out{suffix}"}
    assert set(contents[0]) == names
    text = b"".join(contents[0].values())
    assert suffix != ".gpkg" or b"1970-01-01T00:00:00.000Z" in text
    assert suffix != ".shp" or contents[0]["out.dbf"][1:4] == bytes([70, 1, 1])


def test_geojson_text(tmp_path):
    path = tmp_path / "out.geojson"
    write_layer(path, layer(square(10, 50, 1e-8), crs=pyproj.CRS.from_user_input("OGC:CRS84")))
    assert path.read_text() == (
        '{"type": "FeatureCollection", "name": "out", "features": [\n'
        '{"type": "Feature", "properties": {"class": "ship é, 0", "score": 0.1, "azimuth_deg": 0.0, "scene": "a.tif"}, '
        '"geometry": {"type":"Polygon","coordinates":[[[9.99999999,49.99999999],[10.00000001,49.99999999],'
        "[10.00000001,50.00000001],[9.99999999,50.00000001],[9.99999999,49.99999999]]]}}\n"
        "]}\n"
    )


def test_geojson_of_pixels_is_no_place_on_earth(tmp_path):
    path = tmp_path / "out.geojson"
    write_layer(path, layer(square(100, 50, 10.00001), crs=None))
    collection = json.loads(path.read_text())
    assert "Image pixels" in collection["crs"]["properties"]["name"]
    assert collection["features"][0]["geometry"]["coordinates"][0][0] == [90, 40]
    assert pyproj.CRS.from_wkt(pyogrio.read_info(path)["crs"]).is_engineering


def test_geojson_refuses_other_systems(tmp_path):
    with pytest.raises(ValueError, match="WGS 84"):
        write_layer(tmp_path / "out.geojson", layer(square(0, 0, 1), crs=UTM))


def test_geojson_has_no_nan(tmp_path):
    path = tmp_path / "out.geojson"
    fields = {"length_m": np.array([np.nan, 1.5]), "n": np.array([1, 2])}
    write_layer(path, Layer(np.array([square(0, 0, 1)] * 2), LONLAT, fields))
    assert [f["properties"] for f in geojson_features(path)] == [{"length_m": None, "n": 1}, {"length_m": 1.5, "n": 2}]


@pytest.mark.parametrize("suffix", FORMATS)
def test_corners_without_a_place(tmp_path, suffix, caplog):
    path = tmp_path / f"out{suffix}"
    write_layer(path, layer(square(1, 2, 0.1), square(np.nan, 2, 0.1), square(np.inf, 2, 0.1)))
    geometries, _, columns = read(path)
    assert [g is None for g in geometries] == [False, True, True]
    assert len(columns["class"]) == 3
    assert "2 objects have no place on the map" in caplog.text


PROVENANCE = '{"run": "é"}'


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("count", [0, 2, 5])
def test_provenance_goes_where_there_is_a_place(tmp_path, suffix, count, small_chunks):
    polygons = [square(10 + i, 50, 0.01) for i in range(count)]
    write_layer(tmp_path / f"out{suffix}", layer(*polygons), About(PROVENANCE, "<qgis/>"))
    if suffix in SAYS_PROVENANCE:
        assert read_provenance(tmp_path / f"out{suffix}") == PROVENANCE
        write_layer(tmp_path / f"out{suffix}", layer(*polygons))
        assert read_provenance(tmp_path / f"out{suffix}") is None


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", pytest.param(".parquet", marks=FORMATS[-1].marks)])
def test_provenance_of_a_damaged_file(tmp_path, suffix):
    (tmp_path / f"out{suffix}").write_text("no such thing")
    if suffix == ".gpkg":
        assert read_provenance(tmp_path / "out.gpkg") is None
    else:
        with pytest.raises(DataError, match=rf"out\{suffix}: cannot be read"):
            read_provenance(tmp_path / f"out{suffix}")


def test_file_names_with_quotes(tmp_path):
    for suffix in (".gpkg", ".fgb", ".shp"):
        write_layer(tmp_path / f"a\"b'c{suffix}", layer(square(1, 2, 0.1)))


def test_geoparquet_metadata(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    write_layer(tmp_path / "out.parquet", layer(square(10, 10, 1), crs=UTM))
    geo = json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    assert geo["version"] == "1.1.0"
    assert column.pop("crs")["id"] == {"authority": "EPSG", "code": 32633}
    assert column == {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "orientation": "counterclockwise",
        "covering": {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}},
        "bbox": [9, 9, 11, 11],
    }


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=re.escape(f"run `{install_line('geoparquet')}`")):
        check_format(tmp_path / "out.parquet")
    check_format(tmp_path / "out.gpkg")


def test_fields_of_another_length():
    with pytest.raises(ValueError, match="must be"):
        Layer(np.zeros((2, 4, 2)), None, {"score": np.zeros(3)})


def test_gdal_settings_stay(tmp_path):
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    write_layer(tmp_path / "out.gpkg", layer(square(1, 1, 1)))
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") == before
