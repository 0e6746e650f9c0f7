"""Features as GeoParquet 1.1: https://geoparquet.org/releases/v1.1.0."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.geo.crs import CRS, WGS84
from legnet_cli.geo.features import CHUNK, Features, chunks
from legnet_cli.geo.rings import jumping, to_geometries

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_HILBERT_BITS = 16  # cells of the curve along each side: 2**16


def write(path: Path, features: Features, about: dict[str, str]) -> int:
    """Write a file of ``features``, in the order of a Hilbert curve; returns how many have no geometry.

    Args:
        path: of the file.
        features: what to write.
        about: metadata of the file.
    """
    import pyarrow.parquet

    found = _Survey(features)
    schema = _schema(features).with_metadata({**about, "geo": json.dumps(_geo(features, found))})
    order, astray = _order(found.centres), 0
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, len(order), CHUNK):
            rows = order[start : start + CHUNK]
            geometries = to_geometries(features.corners(rows), features.crs)
            astray += int(shapely.is_missing(geometries).sum())
            writer.write_table(_table(features.columns(rows), geometries, schema), row_group_size=CHUNK)
    return astray


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a file, all as text."""
    import pyarrow.parquet

    return {key.decode(): text.decode() for key, text in (pyarrow.parquet.read_schema(path).metadata or {}).items()}


def read(path: Path, fields: Sequence[str]) -> tuple[NDArray[np.object_], dict[str, NDArray[Any]], CRS | None]:
    """Geometries as WKB (n,), those columns (n,) whose names in lower case are in ``fields``, and the system.

    Raises:
        ValueError: it is not GeoParquet with geometries as WKB.
    """
    import pyarrow.parquet

    about = json.loads(read_metadata(path).get("geo", "{}"))
    place = about.get("primary_column")
    if place is None or about["columns"][place].get("encoding") != "WKB":
        raise ValueError("not GeoParquet with geometries as WKB")
    names = [name for name in pyarrow.parquet.read_schema(path).names if name.lower() in fields]
    table = pyarrow.parquet.read_table(path, columns=[*names, place])
    crs = about["columns"][place].get("crs", WGS84.to_json_dict())
    columns = {name: table[name].to_numpy() for name in names}
    return table[place].to_numpy(), columns, None if crs is None else CRS.from_json_dict(crs)


class _Survey:
    """What must be known of all polygons before the first is written.

    Attributes:
        centres: (n, 2), not finite for those without a place.
        kinds: types of the geometries.
        bounds: least and greatest x and y of all.
    """

    def __init__(self, features: Features) -> None:
        centres, self.kinds = [], set[str]()
        self.bounds: Array = np.array([np.inf, np.inf, -np.inf, -np.inf])
        for rows in chunks(features):
            corners = features.corners(rows)
            centres.append(corners.mean(1))
            cut = jumping(corners, features.crs)
            whole = corners[~cut & np.isfinite(corners).all((1, 2))]
            parted = to_geometries(corners[cut], features.crs)
            self.kinds |= {geometry.geom_type for geometry in parted} | ({"Polygon"} if len(whole) else set())
            self._widen(whole.reshape(-1, 2))
            self._widen(shapely.get_coordinates(parted))
        self.centres = np.concatenate(centres)

    def _widen(self, points: Array) -> None:
        if len(points):
            low, high = np.minimum(self.bounds[:2], points.min(0)), np.maximum(self.bounds[2:], points.max(0))
            self.bounds = np.concatenate([low, high])


def _geo(features: Features, found: _Survey) -> dict[str, Any]:
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted(found.kinds),
        "crs": None if features.crs is None else features.crs.to_json_dict(),
        "orientation": "counterclockwise",
        "covering": {"bbox": {side: ["bbox", side] for side in _SIDES}},
    }
    if found.kinds:
        column["bbox"] = found.bounds.tolist()
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _schema(features: Features) -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow

    fields = [(name, pyarrow.array(values).type) for name, values in features.columns(slice(0, 0)).items()]
    sides = pyarrow.struct([(side, pyarrow.float64()) for side in _SIDES])
    return pyarrow.schema([*fields, ("geometry", pyarrow.binary()), ("bbox", sides)])


def _table(columns: dict[str, NDArray[Any]], geometries: NDArray[np.object_], schema: Any) -> Any:  # noqa: ANN401
    import pyarrow

    missing, bounds = shapely.is_missing(geometries), shapely.bounds(geometries).T
    sides = [pyarrow.array(side, mask=missing) for side in bounds]
    boxes = pyarrow.StructArray.from_arrays(sides, list(_SIDES), mask=pyarrow.array(missing))
    arrays = [pyarrow.array(values) for values in columns.values()]
    wkb = pyarrow.array(shapely.to_wkb(geometries), pyarrow.binary())
    return pyarrow.Table.from_arrays([*arrays, wkb, boxes], schema=schema)


def _order(centres: Array) -> NDArray[np.int64]:
    """The order (n,) of points (n, 2) along a Hilbert curve; those without a place come last."""
    finite = np.asarray(np.isfinite(centres).all(1))
    where = finite[:, None]
    lowest = centres.min(axis=0, where=where, initial=np.inf)
    side = np.maximum(centres.max(axis=0, where=where, initial=-np.inf) - lowest, 1e-300)
    position = np.full(len(centres), np.iinfo(np.uint64).max, np.uint64)
    for start in range(0, len(centres), CHUNK):
        rows = start + np.flatnonzero(finite[start : start + CHUNK])
        cells = (centres[rows] - lowest) / side * (2**_HILBERT_BITS - 1)
        col, row = cells.astype(np.uint64).T
        position[rows] = hilbert(col, row, _HILBERT_BITS)
    return np.argsort(position, kind="stable")


def hilbert(x: NDArray[np.uint64], y: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """Positions (n,) along the Hilbert curve through a grid of 2**bits by 2**bits cells, of cells x, y (n,)."""
    position = np.zeros(len(x), np.uint64)
    for bit in reversed(range(bits)):
        side = np.uint64(1 << bit)
        right, upper = (x & side) > 0, (y & side) > 0
        position += side * side * ((np.uint64(3) * right) ^ upper)
        # turn the lower quadrants, so that the curve in them begins and ends where its neighbours' do
        x, y = (np.where(right & ~upper, ~axis, axis) for axis in (x, y))
        x, y = np.where(upper, x, y), np.where(upper, y, x)
    return position
