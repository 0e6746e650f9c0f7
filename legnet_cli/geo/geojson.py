"""Features as GeoJSON text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from legnet_cli.geo.crs import within_180
from legnet_cli.geo.features import Features, chunks
from legnet_cli.geo.rings import to_geometries

_PIXELS = 'ENGCRS["Image pixels",EDATUM["Image"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["pixel",1]]'


def write(path: Path, features: Features) -> int:
    """Write a file of ``features``, which are in WGS 84 or in pixels, y up; returns how many have no geometry."""
    head: dict[str, Any] = {"type": "FeatureCollection", "name": path.stem}
    head |= {} if features.crs is not None else {"crs": {"type": "name", "properties": {"name": _PIXELS}}}
    astray, comma = 0, ""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "features": [')
        for rows in chunks(features):
            shapes = _shapes(features, rows)
            columns = features.columns(rows)
            values = zip(*map(_json_values, columns.values()), strict=True) if columns else [()] * len(shapes)
            for shape, row in zip(shapes, values, strict=True):
                properties = json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False)
                geometry = shape or "null"
                file.write(f'{comma}\n{{"type": "Feature", "properties": {properties}, "geometry": {geometry}}}')
                comma = ","
            astray += sum(shape is None for shape in shapes)
        file.write("\n]}\n")
    return astray


def _shapes(features: Features, rows: slice) -> list[str | None]:
    """Geometries as text, None where there is none."""
    polygons = features.corners(rows).round(4 if features.crs is None else 9)
    if features.crs is not None:
        polygons[..., 0] = within_180(polygons[..., 0]).round(9)
    return list(shapely.to_geojson(to_geometries(polygons, features.crs)))


def _json_values(values: NDArray[Any]) -> list[Any]:
    """Plain values: float32 to the digits it has, None for what JSON cannot say."""
    if values.dtype.kind != "f":
        return list(values.tolist())
    plain = values.astype(str).astype(float) if values.dtype.itemsize < 8 else values
    return [value if np.isfinite(value) else None for value in plain.tolist()]
