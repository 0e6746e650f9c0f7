"""Layers of objects as they are read, in any format."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array, boxes_to_polygons
from legnet_cli.data.tables import read_csv, read_task1
from legnet_cli.engine.predict import read_record
from legnet_cli.errors import ConfigError, DataError, GeoError
from legnet_cli.files import store_url
from legnet_cli.geo.objects import ObjectTable, read_objects
from legnet_cli.geo.vector import SUFFIXES

logger = logging.getLogger(__name__)

_FIELDS = ("score", "probability", "views", "scene", "image")


@dataclass(frozen=True)
class Names:
    """Names of many things, few of which are different.

    Attributes:
        codes: (n,) index ``names``.
        names: (k,) the different ones.
    """

    codes: NDArray[np.int64]
    names: NDArray[np.str_]

    @staticmethod
    def of(values: NDArray[Any]) -> Names:
        """Of a column (n,); empty where it has no value."""
        known: dict[str, int] = {}
        texts = ("" if value is None or value != value else str(value) for value in values.tolist())
        codes = np.fromiter((known.setdefault(text, len(known)) for text in texts), np.int64, len(values))
        return Names(codes, np.array([*known], np.str_))

    def texts(self, rows: NDArray[np.int64]) -> NDArray[np.str_]:
        """The names of ``rows`` (m,); empty for -1."""
        names = np.array([*self.names.tolist(), ""], np.str_)
        return np.asarray(names[np.append(self.codes, len(self.names))[rows]])


@dataclass(frozen=True)
class SourceLayer:
    """A layer as it was read.

    Attributes:
        path: the file, or a folder of DOTA text.
        name: for people.
        table: outlines in its reference system.
        classes: class of each object.
        scores: (n,) NaN where unknown.
        probabilities: (n,) that each is an object, NaN where unknown; None if the layer does not tell.
        views: (n,) share of the views or models that found each, as probabilities.
        scenes: scene of each object, empty where unknown.
        record: how it was made, as ``legnet predict`` says it; empty if unknown.
    """

    path: Path
    name: str
    table: ObjectTable
    classes: Names
    scores: Array
    probabilities: Array | None
    views: Array | None
    scenes: Names
    record: dict[str, Any]

    @property
    def scene_paths(self) -> dict[str, str]:
        """Rasters of its scenes by name."""
        return {str(scene["name"]): str(scene["path"]) for scene in self.record.get("scenes", ())}


def read_layers(paths: Sequence[Path], names: Sequence[str], class_field: str | None = None) -> list[SourceLayer]:
    """Layers of objects that are to be looked at together.

    Args:
        paths: of the layers.
        names: of each, for people.
        class_field: column of the classes.

    Raises:
        DataError: one cannot be read, has no column of classes, or no way leads from one to the other.
        ConfigError: an unknown format.
    """
    layers = [_read(path, name, class_field) for path, name in zip(paths, names, strict=True)]
    flat = [layer for layer in layers if layer.table.crs is None]
    if flat and len(flat) < len(layers):
        other = next(layer for layer in layers if layer.table.crs is not None)
        raise GeoError(
            f"{flat[0].path} is in pixels, {other.path} in map coordinates: search a scene that has a georeference"
        )
    return layers


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names of the files without suffix; with their folders, then with numbers, where these are the same."""
    for names in ([path.stem for path in paths], [f"{path.absolute().parent.name}/{path.stem}" for path in paths]):
        if len(set(names)) == len(names):
            return names
    return [f"{number}: {path.stem}" for number, path in enumerate(paths, 1)]


def _read(path: Path, name: str, class_field: str | None) -> SourceLayer:
    if (url := store_url(path)) is not None:
        raise DataError(f"{url}: layers are read from this machine's disks: copy it there")
    if not path.exists():
        raise DataError(f"{path}: no such file: check the name")
    try:
        record = read_record(path)
    except DataError:  # a layer from elsewhere
        record = {}
    if path.is_dir() or path.suffix.lower() == ".csv":
        return _read_text(path, name, record)
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join((*SUFFIXES, ".csv"))
        raise ConfigError(f"{path}: not a layer of objects ({known}): give one, or --weights to search scenes")
    column = (class_field or "class").lower()
    table = read_objects(path, (column, *_FIELDS))
    if column not in table.fields:
        known = ", ".join(table.fields) or "none of those that legnet predict writes"
        raise DataError(f"{path}: has no column {column!r} (it has {known}): name that of the classes by --class-field")
    count = len(table.sizes)
    scores = _numbers(table.fields.get("score"), count)
    scenes = table.fields.get("scene", table.fields.get("image", np.full(count, "")))
    return SourceLayer(
        path,
        name,
        table,
        Names.of(table.fields[column]),
        np.full(count, np.nan) if scores is None else scores,
        _numbers(table.fields.get("probability"), count),
        _numbers(table.fields.get("views"), count),
        Names.of(scenes),
        record,
    )


def _read_text(path: Path, name: str, record: dict[str, Any]) -> SourceLayer:
    """A table in pixels, or a folder of DOTA text."""
    images, names = read_task1(path) if path.is_dir() else read_csv(path)
    corners = [boxes_to_polygons(image.detections.boxes).reshape(-1, 2) for image in images]
    count = sum(len(image.detections) for image in images)
    labels = [image.detections.labels for image in images]
    scores = [image.detections.scores.astype(np.float64) for image in images]
    scenes = np.repeat(np.arange(len(images)), [len(image.detections) for image in images])
    table = ObjectTable(np.concatenate([np.zeros((0, 2)), *corners]), np.full(count, 4), {}, None)
    classes = Names(np.concatenate([np.zeros(0, np.int64), *labels]), np.array(names, np.str_))
    known = np.concatenate([np.zeros(0), *scores])
    pictures = Names(scenes, np.array([image.image for image in images], np.str_))
    return SourceLayer(path, name, table, classes, known, None, None, pictures, record)


def _numbers(values: NDArray[Any] | None, count: int) -> Array | None:
    """A column as numbers, NaN where there is none."""
    if values is None:
        return None
    if values.dtype.kind in "fiu":
        return values.astype(np.float64)
    numbers = np.full(count, np.nan)
    for row, value in enumerate(values.tolist()):
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError):
            continue
    return numbers


def class_names(layers: Sequence[SourceLayer], wanted: Sequence[str]) -> list[str]:
    """The classes of all layers that are wanted, sorted; says which are not in all of them.

    Raises:
        ConfigError: a class that is wanted is in no layer.
    """
    of_each = [set(layer.classes.names.tolist()) for layer in layers]
    every = sorted(set[str]().union(*of_each))
    for name in wanted:
        if name not in every and any(of_each):
            close = difflib.get_close_matches(name, every, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"they have {', '.join(every)}"
            raise ConfigError(f"--classes: no layer has a class {name!r}; {hint}")
    chosen = [name for name in every if not wanted or name in wanted]
    for layer, own in zip(layers, of_each, strict=True):
        if missing := [name for name in chosen if name not in own and own]:
            listed = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            logger.warning(
                "%s: has no objects of %s: if its model does not know %s, leave them out with --classes",
                *(layer.path, listed, "this class" if len(missing) == 1 else "these classes"),
            )
    models = list(dict.fromkeys(str(layer.record["weights"]["name"]) for layer in layers if layer.record))
    if len(models) > 1:
        logger.warning("the layers are of different models (%s): classes are matched by name", ", ".join(models))
    return chosen
