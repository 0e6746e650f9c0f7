"""Polygons over the antimeridian."""

import numpy as np
import pytest
import shapely
from layers import FORMATS, LONLAT, UTM, geojson_features, layer, read, square, wrapped

from legnet_cli.geo.rings import to_geometries
from legnet_cli.geo.vector import (
    write_layer,
)


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
