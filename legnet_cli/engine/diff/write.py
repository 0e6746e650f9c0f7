"""Write changes or tracks as a layer, with how they were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from legnet_cli import __version__
from legnet_cli.engine.diff.config import DiffConfig
from legnet_cli.engine.diff.ground import SeenGround
from legnet_cli.engine.diff.kinds import COLOURS
from legnet_cli.engine.diff.register import Registration
from legnet_cli.engine.layers.placed import PlacedObjects
from legnet_cli.engine.predict import as_text, category_style, class_style, sidecar, today
from legnet_cli.errors import ConfigError, GeoError
from legnet_cli.files import atomic_path, check_not_input, check_output
from legnet_cli.geo.crs import CRS, WGS84, parse_crs
from legnet_cli.geo.features import Features
from legnet_cli.geo.inputs import local_stamp
from legnet_cli.geo.vector import (
    HAS_STYLE,
    SAYS_PROVENANCE,
    SUFFIXES,
    About,
    Areas,
    check_format,
    sidecars,
    write_layer,
)

_SETTINGS = (
    *("classes", "score", "no_register", "max_shift", "max_move", "min_iou", "length_ratio", "moved", "turned"),
    *("resized", "min_probability", "recall", "crs"),
)
_SOURCE = "source"


def check_outputs(config: DiffConfig) -> None:
    """Refuse, before any work, outputs that could not be written.

    Raises:
        ConfigError: an unknown format or reference system, existing files without ``config.overwrite``, or inputs.
        DataError: a place that cannot be written.
        DependencyError: a format whose package is missing.
    """
    check_output(config.out, overwrite=config.overwrite, suffixes=SUFFIXES)
    beside = files_beside(config.out, style=config.style)
    for path in beside:
        check_output(path, overwrite=config.overwrite, suffixes=(path.suffix,))
    if config.report is not None:
        check_output(config.report, overwrite=config.overwrite, suffixes=(".html",))
    areas = [ground.path for ground in (*config.seen, *config.mask)]
    outputs = [config.out, *beside, *([] if config.report is None else [config.report])]
    check_not_input(outputs, [*config.dates, *areas])
    check_format(config.out)
    if config.crs != _SOURCE:
        parse_crs(config.crs)
        if config.out.suffix.lower() == ".geojson":
            raise ConfigError(f"--crs {config.crs}: GeoJSON is always WGS 84: leave --crs out, or write .gpkg")


def files_beside(out: Path, *, style: bool) -> list[Path]:
    """What goes beside a layer: a style where asked for, and its provenance where the format has no place for it."""
    suffix = out.suffix.lower()
    return [
        *([out.with_suffix(".qml")] if style and suffix not in HAS_STYLE else []),
        *([sidecar(out)] if suffix not in SAYS_PROVENANCE else []),
    ]


def output_crs(config: DiffConfig, dates: Sequence[PlacedObjects]) -> CRS | None:
    """Reference system of the layer; None for pixels.

    Raises:
        GeoError: ``--crs`` is asked of layers in pixels.
    """
    source = dates[0].crs
    if config.crs != _SOURCE and source is None:
        raise GeoError(
            f"{dates[0].source.path}: is in pixels, so cannot be converted to --crs {config.crs}: leave --crs out"
        )
    if source is None or config.out.suffix.lower() != ".geojson":
        return source if config.crs == _SOURCE else parse_crs(config.crs)
    return WGS84


def describe(config: DiffConfig, dates: Sequence[PlacedObjects], shifts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How a layer of changes or tracks was made, as JSON values; ``shifts`` as :func:`shift_values` gives them."""
    record = {
        "legnet": __version__,
        "verb": "diff",
        "settings": {name: getattr(config, name) for name in _SETTINGS},
        "seen": [str(ground) for ground in config.seen],
        "mask": [str(ground) for ground in config.mask],
        "dates": [_date(date, path) for date, path in zip(dates, config.dates, strict=True)],
        "registration": list(shifts),
    }
    run = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
    return {"run": run, "date": today().date().isoformat(), **record}


def _date(date: PlacedObjects, path: str) -> dict[str, Any]:
    size, _, version = local_stamp(path).partition(" ")
    stamp = {"size": int(size), "mtime_ns": version} if size else {}
    return {"name": date.name, "path": path, **stamp, "objects": len(date), "made": date.source.record or None}


def shift_values(found: Registration, crs: CRS | None) -> dict[str, Any]:
    """A registration as JSON values: metres east and north; of pixels columns and rows."""
    unit, (x, y) = "px" if crs is None else "m", found.shift.round(3).tolist()
    named = {"x_px": x, "y_px": y} if crs is None else {"east_m": x, "north_m": -y + 0.0}
    return {**named, "pairs": found.pairs, f"spread_{unit}": round(found.spread, 3)}


def write_objects(
    config: DiffConfig,
    features: Features,
    grounds: Sequence[SeenGround],
    record: dict[str, Any],
    classes: Sequence[str] | None,
) -> None:
    """Write the layer and what goes beside it, all or nothing.

    Args:
        config: what is asked for.
        features: the objects.
        grounds: what each date shows, for a GeoPackage's layer ``searched``.
        record: how they were made.
        classes: names for a style by class; None for one by change.

    Raises:
        DataError: it cannot be written.
    """
    out, text = config.out, as_text(record)
    style = category_style("change", COLOURS) if classes is None else class_style(classes)
    names = [str(date["name"]) for date in record["dates"]]
    areas = _areas(grounds, names, features.crs) if out.suffix.lower() == ".gpkg" else None
    with atomic_path(out, overwrite=config.overwrite, stale=sidecars(out)) as scratch:
        write_layer(scratch, features, About(text, style, areas))
        for file in files_beside(scratch, style=config.style):
            content = text if file == sidecar(scratch) else style
            file.write_text(content, encoding="utf-8", newline="\n")


def _areas(grounds: Sequence[SeenGround], names: Sequence[str], crs: CRS | None) -> Areas | None:
    """The ground that each date shows, on the map; None where none is known."""
    known = [(ground, name) for ground, name in zip(grounds, names, strict=True) if ground.known]
    if not known:
        return None
    areas = [ground.on_map(crs) for ground, _ in known]
    return Areas(np.array(areas, object), {"date": np.array([name for _, name in known], np.str_)})
