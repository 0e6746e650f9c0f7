"""Readers of vector files, lists of scenes, and tables of predictions."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import shapely
from reader import SQUARE, Reader, as_bytes, geotiff

from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.sniff import VECTOR_SUFFIXES
from legnet_cli.data.tables import read_csv, read_task1
from legnet_cli.engine.eval.predictions import read_predictions
from legnet_cli.errors import LegnetError
from legnet_cli.geo.aoi import read_aoi
from legnet_cli.geo.inputs.lists import read_list
from legnet_cli.geo.polygons import read_polygons


def feature_collection(**more: Any) -> bytes:
    geometry = {"type": "Polygon", "coordinates": SQUARE}
    properties = {"class": "ship", "score": 0.5, "image": "a.png", "difficult": 0, **more}
    features = [{"type": "Feature", "properties": properties, "geometry": geometry}] * 2
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}
    return json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}).encode()


def layer(folder: Path, suffix: str) -> bytes:
    path = folder / f"seed{suffix}"
    driver = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".shp": "ESRI Shapefile", ".kml": "KML"}[suffix]
    values = [np.array(["ship", "ship"], object), np.array([0.5, 0.25]), np.array(["a.png", "a.png"], object)]
    shapes = shapely.to_wkb(shapely.box([1, 2], [1, 2], [5, 6], [5, 6]))
    crs = None if suffix == ".kml" else "EPSG:32631"
    names = ["class", "score", "image"]
    pyogrio.raw.write(path, shapes, values, names, driver=driver, geometry_type="Polygon", crs=crs or "EPSG:4326")
    return path.read_bytes()


STAC = {
    "type": "Feature",
    "id": "a",
    "assets": {"data": {"href": "a.tif", "type": "image/tiff", "roles": ["data"]}},
    "links": [{"rel": "next", "href": "b.json"}],
}


def all_of(path: Path, reads: list[Callable[[Path], object]]) -> None:
    """Call each, and let the last fault out."""
    for read in reads:
        with suppress(LegnetError):
            read(path)


def vector_readers(folder: Path, truth: Any) -> dict[str, Reader]:
    found = {}
    for suffix in (*VECTOR_SUFFIXES, ".kml"):
        seeds = [feature_collection()] if suffix == ".geojson" else [layer(folder, suffix)]
        beside = {}
        if suffix == ".shp":
            beside = {f"a{s}": (folder / f"seed{s}").read_bytes() for s in (".shx", ".dbf", ".prj")}

        def read(place: Path, name: str = f"a{suffix}") -> None:
            reads = [
                read_aoi,
                read_polygons,
                lambda path: read_predictions(path, truth),
                lambda path: read_list(str(path), ""),
            ]
            all_of(place / name, reads)

        found[f"vector: {suffix}"] = Reader(f"a{suffix}", seeds, read, beside)
    dbf = (folder / "seed.dbf").read_bytes()
    beside = {f"a{s}": (folder / f"seed{s}").read_bytes() for s in (".shp", ".shx", ".prj")}
    found["vector: .dbf"] = Reader("a.dbf", [dbf], lambda place: read_polygons(place / "a.shp"), beside)
    found["labels: vector"] = Reader(
        "a.geojson",
        [feature_collection()],
        lambda place: load_dataset(place, skip_bad=True),
        {"a.tif": geotiff()},
    )
    found["list: STAC"] = Reader("a.json", [as_bytes(STAC)], lambda place: read_list(str(place / "a.json"), ""))
    index = feature_collection(location="a.tif")
    found["list: index"] = Reader("a.geojson", [index], lambda place: read_list(str(place / "a.geojson"), ""))
    found["list: text"] = Reader(
        "a.txt", [b"# scenes\na.tif\nb/c.tif\n"], lambda place: read_list(str(place / "a.txt"), "")
    )
    return found


TASK1 = b"a 0.9 4 5 20 5 20 15 4 15\na 0.5 30 30 40 32 39 37 29 35\n"
CSV = b"image,class,score,cx,cy,w,h,angle,x1,y1,x2,y2,x3,y3,x4,y4\na,ship,0.9,12,10,16,10,0,4,5,20,5,20,15,4,15\n"


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Task1_ship.txt", TASK1)
        archive.writestr("Task1_plane.txt", b"")
    return content.getvalue()


def table_readers(truth: Any) -> dict[str, Reader]:
    return {
        "table: Task1": Reader("Task1_ship.txt", [TASK1], read_task1),
        "table: csv": Reader("a.csv", [CSV], lambda folder: read_csv(folder / "a.csv")),
        "table: zip": Reader("a.zip", [zipped()], lambda folder: read_predictions(folder / "a.zip", truth)),
    }
