"""Small layers, and what is read of vector files."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely

from legnet_cli.geo.vector import SUFFIXES, Layer

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
    """Corners (4, 2) of a square around a point."""
    return np.array([[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half]], float)


def layer(*polygons, crs=LONLAT):
    """A layer of ``polygons`` (4, 2) with fields of several types."""
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
    """Features of a GeoJSON file."""
    return json.loads(path.read_text())["features"]


def wrapped(polygon):
    """``polygon`` with longitudes from -180 to 180."""
    return np.stack([(polygon[:, 0] + 180) % 360 - 180, polygon[:, 1]], 1)
