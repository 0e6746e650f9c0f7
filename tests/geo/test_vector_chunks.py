"""Layers of many features, which are written by chunks, and GeoParquet's order by place."""

import numpy as np
import pyogrio
import pytest
import shapely
from layers import FORMATS, LONLAT, UTM, layer, read, square, wrapped

from legnet_cli.geo import geoparquet
from legnet_cli.geo.vector import (
    Layer,
    write_layer,
)


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
