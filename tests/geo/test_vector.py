import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely

from legnet_cli.errors import DataError, DependencyError
from legnet_cli.geo.vector import SUFFIXES, Layer, check_format, to_geometries, write_layer
from legnet_cli.installation import install_line

UTM = pyproj.CRS.from_epsg(32633)
LONLAT = pyproj.CRS.from_epsg(4326)
# no EPSG code, and none for its parts
ODD = pyproj.CRS.from_proj4("+proj=laea +lat_0=12.3 +lon_0=45.6 +a=6371000 +b=6371000 +units=m +no_defs")
HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None
GDAL_SUFFIXES = [suffix for suffix in SUFFIXES if suffix != ".parquet"]
FORMATS = [
    *GDAL_SUFFIXES,
    pytest.param(".parquet", marks=pytest.mark.skipif(not HAS_PYARROW, reason="needs pyarrow")),
]


def square(x, y, half):
    return np.array([[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half]], float)


def layer(*polygons, crs=LONLAT):
    n = len(polygons)
    fields = {
        "class": np.array([f"ship é, {i}" for i in range(n)], dtype=str),
        "score": np.linspace(0.1, 0.9, n, dtype=np.float32),
        "azimuth_deg": np.arange(n) * 10.0,
        "scene": np.array(["a.tif"] * n, dtype=str),
    }
    return Layer(np.array(polygons, float).reshape(-1, 4, 2), crs, fields)


def read(path):
    """Geometries, reference system and columns of a file, in the order of the class column."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        geo = json.loads(table.schema.metadata[b"geo"])["columns"]["geometry"]
        columns = {name: table[name].to_pylist() for name in table.column_names}
        wkb, crs = np.array(columns.pop("geometry"), object), geo["crs"]
    else:
        meta, _, wkb, values = pyogrio.raw.read(path)
        columns = {str(name): value.tolist() for name, value in zip(meta["fields"], values, strict=True)}
        crs = meta["crs"]
    order = np.argsort(columns["class"]) if columns else []
    columns = {name: [values[i] for i in order] for name, values in columns.items()}
    return shapely.from_wkb(wkb[order] if len(wkb) else wkb), crs and pyproj.CRS.from_user_input(crs), columns


def geojson_features(path):
    return json.loads(path.read_text())["features"]


# ---- what is written


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


# ---- rings and the antimeridian


def wrapped(polygon):
    return np.stack([(polygon[:, 0] + 180) % 360 - 180, polygon[:, 1]], 1)


@pytest.mark.parametrize(
    ("polygon", "parts", "area", "west", "east"),
    [
        (square(10, 10, 1), 1, 4, 9, 11),
        (wrapped(square(180, 10, 1)), 2, 4, -180, 180),
        (wrapped(square(180, 10, 1))[::-1], 2, 4, -180, 180),
        (wrapped(square(-179.5, 10, 1)), 2, 4, -180, 180),
        (np.array([[179, 0], [-179.5, 1], [-179, 2], [178.5, 1]]), 2, 2, -180, 180),  # askew
        (np.array([[179, 0], [-180, 0], [-180, 1], [179, 1]]), 1, 1, 179, 180),  # ends on the line
        (np.array([[-179, 0], [180, 0], [180, 1], [-179, 1]]), 1, 1, -180, -179),
        (np.array([[0, 80], [90, 80], [180, 80], [-90, 80]]), 1, 3600, -180, 180),  # around a pole
        (np.array([[10, -80], [-80, -80], [-170, -80], [100, -80]]), 1, 3600, -180, 180),
    ],
)
def test_rings(polygon, parts, area, west, east):
    (geometry,) = to_geometries(np.array([polygon], float), LONLAT)
    assert geometry.is_valid
    assert geometry.area == pytest.approx(area)
    assert (geometry.bounds[0], geometry.bounds[2]) == (west, east)
    pieces = shapely.get_parts(geometry)
    assert shapely.is_ccw(shapely.get_exterior_ring(pieces)).all()
    assert len(pieces) == parts
    assert geometry.geom_type == ("Polygon" if len(pieces) == 1 else "MultiPolygon")


@pytest.mark.parametrize("crs", [UTM, None])
def test_only_degrees_wrap(crs):
    (geometry,) = to_geometries(np.array([square(0, 0, 200)]), crs)
    assert geometry.bounds == (-200, -200, 200, 200)


@pytest.mark.parametrize("suffix", FORMATS)
def test_antimeridian_in_every_format(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    write_layer(path, layer(square(10, 10, 1), wrapped(square(180, 10, 1))))
    geometries, _, _ = read(path)
    assert shapely.area(geometries) == pytest.approx([4, 4])
    assert shapely.bounds(geometries)[1].tolist() == [-180, 9, 180, 11]
    if suffix == ".geojson":
        kinds = [feature["geometry"]["type"] for feature in geojson_features(path)]
        assert kinds == ["Polygon", "MultiPolygon"]


@pytest.mark.parametrize(
    ("lon", "expected"),
    [
        (190, [[[-171, 9], [-169, 9], [-169, 11], [-171, 11], [-171, 9]]]),
        (-190, [[[169, 9], [171, 9], [171, 11], [169, 11], [169, 9]]]),
        (181, [[[-180, 9], [-178, 9], [-178, 11], [-180, 11], [-180, 9]]]),
    ],
)
def test_geojson_counts_longitudes_to_180(tmp_path, lon, expected):
    path = tmp_path / "out.geojson"
    write_layer(path, layer(square(lon, 10, 1)))
    (feature,) = geojson_features(path)
    assert feature["geometry"]["type"] == "Polygon"
    found, wanted = (shapely.Polygon(rings[0]).normalize() for rings in (feature["geometry"]["coordinates"], expected))
    assert found.equals(wanted)


def test_geojson_over_the_antimeridian_from_0_to_360(tmp_path):
    path = tmp_path / "out.geojson"
    write_layer(path, layer(square(180.5, 10, 1)))
    (geometry,), _, _ = read(path)
    assert geometry.geom_type == "MultiPolygon"
    assert sorted(part.bounds for part in geometry.geoms) == [(-180, 9, -178.5, 11), (179.5, 9, 180, 11)]
    write_layer(tmp_path / "out.gpkg", layer(square(180.5, 10, 1)))  # lies on its scene, as in the scene's own system
    (geometry,), _, _ = read(tmp_path / "out.gpkg")
    assert geometry.bounds == (179.5, 9, 181.5, 11)


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
        "bbox": [9, 9, 11, 11],
    }


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=re.escape(f"run `{install_line('geoparquet')}`")):
        check_format(tmp_path / "out.parquet")
    check_format(tmp_path / "out.gpkg")


# ---- whole or not at all


@pytest.mark.parametrize("suffix", FORMATS)
def test_replaces_what_is_there(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    write_layer(path, layer(square(1, 1, 1), square(2, 2, 1)))
    write_layer(path, layer(square(5, 5, 1), crs=None))
    geometries, crs, _ = read(path)
    assert [geometry.centroid.x for geometry in geometries] == [5]
    assert crs is None or crs.is_engineering  # no .prj file of the older one
    assert all(file.stem == "out" for file in tmp_path.iterdir())


def test_stale_sidecars_go(tmp_path):
    for name in ("out.qix", "out.sbn", "out.shp.xml", "out.gpkg-wal", "out.txt"):
        (tmp_path / name).touch()
    write_layer(tmp_path / "out.shp", layer(square(1, 1, 1)))
    write_layer(tmp_path / "out.gpkg", layer(square(1, 1, 1)))
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"out.txt", "out.gpkg", *(f"out{end}" for end in (".shp", ".shx", ".dbf", ".prj", ".cpg"))}


@pytest.mark.parametrize("error", [KeyboardInterrupt, pyogrio.errors.DataSourceError("no\nway"), OSError(28, "full")])
@pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
def test_failure_leaves_the_old_file(tmp_path, suffix, error, monkeypatch):
    path = tmp_path / f"out{suffix}"
    write_layer(path, layer(square(1, 1, 1)))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(target, *args, **kwargs):
        Path(target).write_text("half")
        raise error

    monkeypatch.setattr(pyogrio.raw, "write", fail)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else DataError) as caught:
        write_layer(path, layer(square(2, 2, 1)))
    assert "\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


FULL_DISK = """
import resource, signal, sys
import numpy as np, pyproj
from legnet_cli.errors import DataError
from legnet_cli.geo.vector import Layer, write_layer
n = 300
corners = np.random.default_rng(0).random((n, 1, 2)) + np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
layer = Layer(corners, pyproj.CRS.from_epsg(4326), {"class": np.array(["x" * 200] * n)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
for path in sys.argv[1:]:
    write_layer(path, layer)
    with open(path.replace(".shp", ".dbf"), "rb") as file:
        size = file.seek(0, 2)
    for limit in (100, size // 2, size - 300):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
        try:
            write_layer(path, layer)
        except DataError:
            pass
        else:
            sys.exit(f"{path}: no error at {limit} of {size} bytes")
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits file sizes")
def test_full_disk(tmp_path):
    """The system refuses to let a file grow: at once, in the middle, or only when it is closed."""
    paths = [str(tmp_path / f"out{suffix}") for suffix in (SUFFIXES if HAS_PYARROW else GDAL_SUFFIXES)]
    code = [sys.executable, "-c", FULL_DISK, *paths]
    done = subprocess.run(code, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_fields_of_another_length():
    with pytest.raises(ValueError, match="must be"):
        Layer(np.zeros((2, 4, 2)), None, {"score": np.zeros(3)})


def test_gdal_settings_stay(tmp_path):
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    write_layer(tmp_path / "out.gpkg", layer(square(1, 1, 1)))
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") == before
