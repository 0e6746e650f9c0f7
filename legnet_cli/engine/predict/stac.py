"""A STAC item that describes what was found: where, how and from which scenes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import shapely

from legnet_cli.engine.predict.provenance import today
from legnet_cli.engine.predict.results import SceneResult, searched_areas
from legnet_cli.geo.crs import WGS84
from legnet_cli.geo.inputs import url_of

SUFFIX = ".stac.json"
_EXTENSIONS = ("https://stac-extensions.github.io/processing/v1.2.0/schema.json",)
_MEDIA = {
    ".geojson": "application/geo+json",
    ".gpkg": "application/geopackage+sqlite3",
    ".fgb": "application/vnd.flatgeobuf",
    ".parquet": "application/vnd.apache.parquet",
    ".csv": "text/csv",
    ".shp": "application/vnd.shp",
}


def stac_path(out: Path) -> Path:
    """Where the item of an output goes."""
    return out.with_name(out.stem + SUFFIX)


def stac_item(out: Path, scenes: Sequence[SceneResult], record: Mapping[str, Any]) -> str:
    """The item of an output as JSON.

    Args:
        out: the output.
        scenes: those searched; the footprint is that of the ones with a place on the Earth.
        record: how it was made, see :func:`legnet_cli.engine.predict.provenance.describe`.
    """
    placed = [scene for scene in scenes if scene.georef.has_lonlat]
    areas = [area for area in searched_areas(placed, WGS84).geometries if area is not None]
    footprint = shapely.set_precision(shapely.union_all(areas), 1e-7)
    place = {} if footprint.is_empty else {"bbox": list(footprint.bounds)}
    weights, day = record["weights"], today().strftime("%Y-%m-%dT%H:%M:%SZ")
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": out.stem,
        "geometry": None if footprint.is_empty else json.loads(shapely.to_geojson(footprint)),
        **place,
        "properties": {
            "datetime": day,
            "created": day,
            "processing:datetime": day,
            "processing:software": {"legnet": record["legnet"]},
            "processing:lineage": f"Oriented objects found by {weights['name']} ({record['recipe']})",
            "legnet:run": record["run"],
            "legnet:weights_sha256": weights["sha256"],
            "legnet:settings": record["settings"],
        },
        "links": [
            {"rel": "derived_from", "href": url_of(scene["path"]), "title": scene["name"]} for scene in record["scenes"]
        ],
        "assets": {
            "objects": {
                "href": f"./{out.name}",
                "type": _MEDIA.get(out.suffix.lower(), "text/plain"),
                "title": f"{sum(len(scene.detections) for scene in scenes)} oriented objects",
                "roles": ["data"],
            }
        },
    }
    return json.dumps(item, indent=2, ensure_ascii=False) + "\n"
