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
from legnet_cli.geo import features, gdal_vector, geoparquet
from legnet_cli.geo.rings import to_geometries
from legnet_cli.geo.vector import (
    SAYS_PROVENANCE,
    SUFFIXES,
    About,
    Layer,
    check_format,
    read_provenance,
    write_layer,
)
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
        boxes = columns.pop("bbox")
        for geometry, box in zip(shapely.from_wkb(wkb), boxes, strict=True):
            assert (None if box is None else tuple(box.values())) == (None if geometry is None else geometry.bounds)
    else:
        meta, _, wkb, values = pyogrio.raw.read(path)
        columns = {str(name): value.tolist() for name, value in zip(meta["fields"], values, strict=True)}
        crs = meta["crs"]
    order = np.argsort([value or "" for value in columns["class"]]) if columns else []
    columns = {name: [values[i] for i in order] for name, values in columns.items()}
    return shapely.from_wkb(wkb[order] if len(wkb) else wkb), crs and pyproj.CRS.from_user_input(crs), columns


def geojson_features(path):
    return json.loads(path.read_text())["features"]


@pytest.fixture
def small_chunks(monkeypatch):
    for module in (features, gdal_vector, geoparquet):
        monkeypatch.setattr(module, "CHUNK", 3)


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


# ---- what it says besides

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


# ---- by chunks


def many(n, crs=UTM):
    """Squares along a line, in an order that is not that of the line; every fourth one has no class."""
    order = np.random.default_rng(0).permutation(n)
    made = layer(*(square(10 * i, 10 * (i % 3), 2) for i in order), crs=crs)
    names = np.array(["" if i % 4 == 0 else f"object {i:03}" for i in order])
    return Layer(made.polygons, crs, {"class": names, "number": order, "x": order * 10.0})


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("count", [3, 4, 11])
def test_many_features_go_by_chunks(tmp_path, suffix, count, small_chunks):
    expected = many(count, None if suffix == ".geojson" else UTM)
    write_layer(tmp_path / f"out{suffix}", expected)
    assert [file.stem for file in tmp_path.iterdir()] == ["out"] * len(list(tmp_path.iterdir()))
    geometries, _, columns = read(tmp_path / f"out{suffix}")
    assert sorted(columns["number"]) == list(range(count))
    by_number = np.argsort(columns["number"])
    np.testing.assert_allclose([columns["x"][i] for i in by_number], np.arange(count) * 10)
    assert [columns["class"][i] or "" for i in by_number] == [
        "" if i % 4 == 0 else f"object {i:03}" for i in range(count)
    ]
    centres = shapely.get_coordinates(shapely.centroid(geometries))[by_number]
    np.testing.assert_allclose(centres, [(10 * i, 10 * (i % 3)) for i in range(count)], atol=1e-6)
    if suffix in (".geojson", ".gpkg", ".shp"):  # the other two sort
        _, _, _, raw = pyogrio.raw.read(tmp_path / f"out{suffix}")
        assert raw[1].tolist() == expected.fields["number"].tolist()


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_a_later_chunk_needs_is_known_at_the_first(tmp_path, suffix, small_chunks, caplog):
    polygons = [square(10 + i, 10, 0.1) for i in range(7)] + [wrapped(square(180, 10, 1)), square(np.nan, 1, 1)]
    write_layer(tmp_path / f"out{suffix}", layer(*polygons))
    geometries, _, columns = read(tmp_path / f"out{suffix}")
    assert columns["class"] == [f"ship é, {i}" for i in range(9)]
    assert shapely.bounds(geometries)[7].tolist() == [-180, 9, 180, 11]
    assert geometries[8] is None
    assert [record.getMessage() for record in caplog.records] == [
        "1 objects have no place on the map: written without geometry"
    ]


@pytest.mark.parametrize("suffix", FORMATS)
def test_same_bytes_by_chunks(tmp_path, suffix, small_chunks):
    if suffix == ".geojson":
        pytest.skip("text")
    contents = []
    for folder in ("one", "two"):
        write_layer(tmp_path / folder / f"out{suffix}", many(50))
        contents.append({file.name: file.read_bytes() for file in (tmp_path / folder).iterdir()})
    assert contents[0] == contents[1]


def test_file_names_with_quotes(tmp_path):
    for suffix in (".gpkg", ".fgb", ".shp"):
        write_layer(tmp_path / f"a\"b'c{suffix}", layer(square(1, 2, 0.1)))


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_hilbert_curve_goes_through_all_cells_from_neighbour_to_neighbour(bits):
    y, x = (axis.ravel() for axis in np.mgrid[: 2**bits, : 2**bits])
    position = geoparquet.hilbert(x.astype(np.uint64), y.astype(np.uint64), bits)
    assert sorted(position.tolist()) == list(range(4**bits))
    order = np.argsort(position)
    assert set(np.abs(np.diff(x[order])) + np.abs(np.diff(y[order]))) == {1}


def test_parquet_is_sorted_by_place(tmp_path, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(geoparquet, "CHUNK", 25)
    places = np.random.default_rng(0).random((400, 2)) * 1000
    names = np.arange(400)
    write_layer(tmp_path / "out.parquet", Layer(places[:, None] + square(0, 0, 1), UTM, {"number": names}))
    file = pq.ParquetFile(tmp_path / "out.parquet")
    assert file.num_row_groups == 16
    areas = []
    for group in range(16):
        box = [column.values() for column in file.read_row_group(group)["bbox"].to_pylist()]
        x0, y0, x1, y1 = np.array([list(side) for side in box]).T
        areas.append(np.ptp([x0.min(), x1.max()]) * np.ptp([y0.min(), y1.max()]))
        found = file.metadata.row_group(group)
        stats = {found.column(i).path_in_schema: found.column(i).statistics for i in range(found.num_columns)}
        assert stats["bbox.xmin"].min == x0.min()
        assert stats["bbox.ymax"].max == y1.max()
    assert sum(areas) < 2.5 * 1000**2  # 16 row groups of any order would cover 16 times the ground


@pytest.mark.parametrize("crs", [UTM, LONLAT])
def test_a_window_of_parquet_is_read_without_the_rest(tmp_path, monkeypatch, crs):
    dataset, geopandas = pytest.importorskip("pyarrow.dataset"), pytest.importorskip("geopandas")
    monkeypatch.setattr(geoparquet, "CHUNK", 25)
    places = np.random.default_rng(0).random((400, 2)) * 80
    write_layer(tmp_path / "out.parquet", Layer(places[:, None] + square(0, 0, 1), crs, {"number": np.arange(400)}))
    x0, y0, x1, y1 = window = (30, 40, 35, 45)
    inside = set(np.flatnonzero(((places > (x0 - 1, y0 - 1)) & (places < (x1 + 1, y1 + 1))).all(1)).tolist())
    assert 0 < len(inside) < 20

    found = geopandas.read_parquet(tmp_path / "out.parquet", bbox=window)
    assert set(found["number"]) == inside
    assert found.crs == crs

    box = [dataset.field("bbox", side) for side in ("xmin", "ymin", "xmax", "ymax")]
    chosen = (box[0] <= x1) & (box[1] <= y1) & (box[2] >= x0) & (box[3] >= y0)
    whole = dataset.dataset(tmp_path / "out.parquet")
    assert set(whole.to_table(filter=chosen)["number"].to_pylist()) == inside
    (file,) = whole.get_fragments()
    assert len(file.split_by_row_group(chosen)) <= 4 < len(file.split_by_row_group()) == 16


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
        "covering": {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}},
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
from legnet_cli.geo import features, gdal_vector, geoparquet
from legnet_cli.geo.vector import Layer, write_layer
for module in (features, gdal_vector, geoparquet):
    module.CHUNK = int(sys.argv[1])
n = 300
corners = np.random.default_rng(0).random((n, 1, 2)) + np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
layer = Layer(corners, pyproj.CRS.from_epsg(4326), {"class": np.array(["x" * 200] * n)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
for path in sys.argv[2:]:
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
@pytest.mark.parametrize("chunk", ["1000", "100"])
def test_full_disk(tmp_path, chunk):
    """The system refuses to let a file grow: at once, in the middle, or only when it is closed."""
    paths = [str(tmp_path / f"out{suffix}") for suffix in (SUFFIXES if HAS_PYARROW else GDAL_SUFFIXES)]
    code = [sys.executable, "-c", FULL_DISK, chunk, *paths]
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
