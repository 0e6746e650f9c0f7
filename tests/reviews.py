"""GeoPackages as ``legnet review`` writes them and as users leave them."""

from __future__ import annotations

import numpy as np
import pyogrio.raw
import shapely

SIDE = 40  # of the square around a row
FIELDS = ("status", "class", "score", "scene", "id", "original")


def box(x, y, w=16.0, h=8.0):
    """Corners (4, 2) of an upright box around a point."""
    return np.array([(x - w / 2, y - h / 2), (x + w / 2, y - h / 2), (x + w / 2, y + h / 2), (x - w / 2, y + h / 2)])


def row(id, status, centre, scene="a.png", name="ship", shape=None, original=None):
    """A row; its shape may be another than the box around ``centre`` that ``legnet review`` wrote."""
    first = shapely.Polygon(box(*centre))
    return {
        "status": status,
        "class": name,
        "score": 0.5,
        "scene": scene,
        "id": id,
        "original": first.wkt if original is None else original,
        "geometry": first if shape is None else shape,
        "centre": centre,
    }


def new_row(status, shape, name="ship", scene=None):
    """A row that a user drew."""
    values = {"status": status, "class": name, "score": None, "scene": scene, "id": None, "original": None}
    return {**values, "geometry": shape, "centre": None}


def write_review(path, rows, places=None, to_map=None, crs=None, without=(), layers=("review", "places")):
    """Write ``rows``, and squares around those that have an id unless ``places`` gives (id, centre, scene).

    ``to_map`` turns pixels (n, 2) into coordinates; without it y is minus the row, as in layers without a system.
    """
    to_map = to_map or (lambda xy: xy * (1, -1))
    if places is None:
        places = [(r["id"], r["centre"], r["scene"]) for r in rows if r["id"] is not None]
    for r in rows:
        if isinstance(r["original"], str) and r["original"]:
            r["original"] = shapely.transform(shapely.from_wkt(r["original"]), to_map).wkt
    shapes = [None if r["geometry"] is None else shapely.transform(r["geometry"], to_map) for r in rows]
    columns = {key: np.array([r[key] for r in rows], object) for key in FIELDS if key not in without}
    if "score" in columns:
        columns["score"] = np.array([np.nan if r["score"] is None else r["score"] for r in rows], np.float64)
    if "review" in layers:
        _write(path, "review", shapes, columns, crs)
    squares = [shapely.transform(shapely.Polygon(box(*centre, SIDE, SIDE)), to_map) for _, centre, _ in places]
    texts = {"id": [one for one, _, _ in places], "scene": [scene for _, _, scene in places]}
    if "places" in layers:
        _write(path, "places", squares, {key: np.array(column, object) for key, column in texts.items()}, crs)
    return path


def _write(path, layer, shapes, columns, crs):
    pyogrio.raw.write(
        str(path),
        np.array([None if shape is None else shapely.to_wkb(shape) for shape in shapes], object),
        [*columns.values()],
        [*columns],
        layer=layer,
        driver="GPKG",
        geometry_type="Unknown",
        crs=crs or 'ENGCRS["pixels",EDATUM["image"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["m",1]]',
        append=path.exists(),
    )
