import numpy as np
import pyogrio.raw
import pytest
import shapely

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.errors import DataError
from legnet_cli.geo.crs import CRS, WGS84
from legnet_cli.geo.objects import read_areas, read_objects
from legnet_cli.geo.vector import SUFFIXES, About, Areas, Layer, write_layer

UTM = CRS.from_epsg(32631)
QUADS = boxes_to_polygons([(10, 10, 8, 3, 0.3), (30, 20, 6, 5, -1.0)]) * (1, -1) + (500_000, 5_000_000)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(tmp_path, suffix):
    crs = WGS84 if suffix == ".geojson" else UTM
    quads = QUADS / 1e6 + (2, 45) if suffix == ".geojson" else QUADS
    fields = {"class": np.array(["a", "b"]), "score": np.array([0.5, 0.25]), "other": np.array([1, 2])}
    write_layer(tmp_path / f"x{suffix}", Layer(quads, crs, fields))
    table = read_objects(tmp_path / f"x{suffix}", ("class", "score"))
    order = np.argsort(table.fields["class"].astype(str))
    assert {name: values[order].tolist() for name, values in table.fields.items()} == {
        "class": ["a", "b"],
        "score": [0.5, 0.25],
    }
    assert table.crs.equals(crs, ignore_axis_order=True)
    found = shapely.polygons(table.points.reshape(-1, 4, 2)[order])
    assert shapely.equals_exact(shapely.normalize(found), shapely.normalize(shapely.polygons(quads)), 1e-8).all()


def test_rings_of_any_size_points_and_nothing(tmp_path):
    square, triangle = shapely.box(0, 0, 9, 9), shapely.Polygon([(0, 0), (9, 0), (0, 9)])
    hole = shapely.difference(square, shapely.box(3, 3, 6, 6))
    shapes = [triangle, square, shapely.MultiPolygon([square, shapely.box(20, 0, 29, 9)]), None, hole]
    geometries = np.array([*shapes, shapely.Point(1, 1)], object)
    pyogrio.raw.write(
        tmp_path / "x.gpkg",
        shapely.to_wkb(geometries),
        [np.arange(6)],
        ["number"],
        crs="EPSG:32631",
        geometry_type="Unknown",
    )
    table = read_objects(tmp_path / "x.gpkg", ("number",))
    found = dict.fromkeys(range(6), ())
    for number, size in zip(table.fields["number"].tolist(), table.sizes.tolist(), strict=True):
        found[number] += (size,)
    assert found == {0: (3,), 1: (4,), 2: (4, 4), 3: (0,), 4: (4,), 5: (0,)}
    assert len(table.points) == table.sizes.sum()


def test_pixels_count_rows_down(tmp_path):
    quads = boxes_to_polygons([(10, 10, 8, 3, 0.3)])
    write_layer(tmp_path / "x.gpkg", Layer(quads * (1, -1), None, {"class": np.array(["a"])}))
    table = read_objects(tmp_path / "x.gpkg", ())
    assert table.crs is None
    np.testing.assert_allclose(sorted(table.points.tolist()), sorted(quads[0].tolist()))


def test_the_ground_searched_goes_before_the_objects(tmp_path):
    ground = Areas(np.array([shapely.box(0, 0, 99, 99)], object), {"scene": np.array(["a.tif"])})
    write_layer(tmp_path / "x.gpkg", Layer(QUADS, UTM, {}), About("{}", searched=ground))
    areas, crs = read_areas(tmp_path / "x.gpkg")
    assert (shapely.area(areas.geometries).tolist(), areas.fields["scene"].tolist()) == ([99**2], ["a.tif"])
    assert crs == UTM
    write_layer(tmp_path / "y.gpkg", Layer(QUADS, UTM, {}))
    assert read_areas(tmp_path / "y.gpkg", only_searched=True) is None
    assert len(read_areas(tmp_path / "y.gpkg")[0].geometries) == 2


def test_areas_must_be_polygons(tmp_path):
    line = shapely.LineString([(0, 0), (9, 9)])
    pyogrio.raw.write(tmp_path / "x.gpkg", shapely.to_wkb([line]), [], [], crs="EPSG:32631", geometry_type="LineString")
    with pytest.raises(DataError, match="has no polygons"):
        read_areas(tmp_path / "x.gpkg")
