"""Write a review: the GeoPackage, its contact sheet and crops, all or nothing."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from legnet_cli import __version__
from legnet_cli.boxes import Array
from legnet_cli.data.review_layers import PLACES, REVIEW, TODO
from legnet_cli.engine.layers.placed import PlacedObjects
from legnet_cli.engine.predict import dashed_style, today
from legnet_cli.engine.review.config import ReviewConfig
from legnet_cli.engine.review.form import review_style
from legnet_cli.engine.review.scenes import ReviewScene, SceneObjects
from legnet_cli.engine.review.selection import Choice
from legnet_cli.errors import ConfigError, counted
from legnet_cli.files import check_not_input, check_output
from legnet_cli.geo.crs import CRS
from legnet_cli.geo.footprint import area_on_map
from legnet_cli.geo.inputs import local_stamp
from legnet_cli.geo.rings import rows_as_y, to_geometries
from legnet_cli.geo.vector import About, Areas, Layer, write_layer

CROPS = "[0-9]*_*.png"  # names of the crops
_PLACE_COLOUR = (240, 228, 66)


def crops_folder(out: Path) -> Path:
    """The folder of the crops of a review."""
    return out.with_suffix("")


def sheet_path(out: Path, page: int = 1) -> Path:
    """A page of the contact sheet of a review."""
    return out.with_suffix(".png") if page == 1 else out.with_name(f"{out.stem}-{page}.png")


def check_outputs(config: ReviewConfig) -> None:
    """Refuse, before any work, outputs that could not be written, above all a review that its user has begun.

    Raises:
        ConfigError: existing files without ``config.overwrite``, or inputs.
        DataError: a place that cannot be written.
    """
    out = config.out
    if not config.overwrite and (done := _reviewed(out)):
        raise ConfigError(
            f"{out}: {counted(done, 'object')} in it {'is' if done == 1 else 'are'} reviewed already: choose another "
            "name, or add --overwrite to lose that work"
        )
    check_output(out, overwrite=config.overwrite, suffixes=(".gpkg",))
    check_output(sheet_path(out), overwrite=config.overwrite, suffixes=(".png",))
    check_output(crops_folder(out), overwrite=config.overwrite, folder_files=CROPS)
    check_not_input([out], config.boxes)


def _reviewed(path: Path) -> int:
    """Rows of a review whose status has changed; 0 where there is no review."""
    if not path.is_file():
        return 0
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
        query = f"SELECT COUNT(*) FROM {REVIEW} WHERE status IS NULL OR lower(trim(status)) <> ?"
        return int(file.execute(query, (TODO,)).fetchone()[0])
    return 0


def describe(config: ReviewConfig, layers: Sequence[PlacedObjects], scenes: Sequence[ReviewScene]) -> dict[str, Any]:
    """How a review was made, as JSON values."""
    record = {
        "legnet": __version__,
        "verb": "review",
        "settings": {"most": config.most, "classes": config.classes},
        "layers": [
            {"path": str(layer.source.path), "objects": len(layer), "made": layer.source.record or None}
            for layer in layers
        ],
        "scenes": [{"name": scene.name, "path": scene.path, **_stamp(scene.path)} for scene in scenes],
    }
    run = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
    return {"run": run, "date": today().date().isoformat(), **record}


def _stamp(path: str) -> dict[str, Any]:
    size, _, version = local_stamp(path).partition(" ")
    return {"size": int(size), "mtime_ns": version} if size else {}


def write_layers(
    path: Path, objects: SceneObjects, choice: Choice, classes: Sequence[str], known: Sequence[str], record: str
) -> None:
    """Write the layers of a review (:mod:`legnet_cli.data.review_layers`) to a GeoPackage.

    Args:
        path: of the file.
        objects: to choose from.
        choice: of them.
        classes: names of the labels.
        known: all classes of the model, for the drop-down.
        record: how it was made, as JSON.

    Raises:
        DataError: it cannot be written.
    """
    rows, count = choice.rows, len(choice)
    outlines = objects.outlines[rows]
    ids = np.arange(1, count + 1).astype(np.str_)
    names = np.array([scene.name for scene in objects.scenes], np.str_)
    fields = {
        "status": np.full(count, TODO),
        "class": np.array(classes, np.str_)[objects.labels[rows]],
        "score": objects.scores[rows].round(4),
        "probability": objects.probabilities[rows].round(4),
        "reason": np.array(choice.reasons, np.str_),
        "priority": np.arange(1, count + 1),
        "scene": names[objects.numbers[rows]],
        "id": ids,
        # all digits: what QGIS has not moved is the same to the last bit
        "original": np.array(shapely.to_wkt(to_geometries(outlines, objects.crs), rounding_precision=-1), np.str_),
    }
    leads = np.flatnonzero(np.isfinite(choice.squares).all(1))
    squares = [
        _on_map(choice.squares[lead], objects.scenes[objects.numbers[rows[lead]]], objects.crs)
        for lead in leads.tolist()
    ]
    places = Areas(np.array(squares, object), {"id": ids[leads], "scene": fields["scene"][leads]})
    about = About(
        record, review_style(known), places, layer=REVIEW, areas_layer=PLACES, areas_style=dashed_style(_PLACE_COLOUR)
    )
    write_layer(path, Layer(outlines, objects.crs, fields), about)


def _on_map(square: Array, scene: ReviewScene, crs: CRS | None) -> shapely.Geometry | None:
    """A square (4,) in pixels of a scene in ``crs``; without one in pixels, y up."""
    area = shapely.box(*square)
    return shapely.transform(area, rows_as_y) if crs is None else area_on_map(area, scene.georef, crs)
