"""Predictions of any format, brought to the images of a ground truth.

Read are a folder or zip of DOTA's ``Task1_<class>.txt``, the .csv, and the vector layers (.geojson .gpkg .fgb .shp)
that ``legnet predict`` writes, in map coordinates or pixels. Predictions named after tiles are merged to images as
``predict`` merges its own.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array, Detections, boxes_to_polygons, polygons_to_boxes
from legnet_cli.data.checks import self_crossing
from legnet_cli.data.tables import ImageDetections, read_csv, read_task1
from legnet_cli.engine.eval.truth import EvalSet
from legnet_cli.engine.predict import merge_tiles
from legnet_cli.errors import ConfigError, DataError, GeoError, reading
from legnet_cli.geo.georef import Georef, read_georef
from legnet_cli.geo.polygons import PolygonTable, read_polygons, to_pixels
from legnet_cli.ops.quads import fill_boxes
from legnet_cli.tiles import TileName
from legnet_cli.untrusted import open_file

VECTOR_SUFFIXES = (".geojson", ".gpkg", ".fgb", ".shp")
MAX_BYTES = 4 << 30  # of the text in a zip

_TASK1 = "Task1_*.txt"
_LIKELY, _SMALL = 50, 1 << 26  # more than text is packed by, in a zip whose text has more bytes than that
_IMAGE_FIELDS = ("scene", "image")


@dataclass(frozen=True)
class ImagePredictions:
    """Predictions in pixels of whole images.

    Attributes:
        images: predictions of each image of the ground truth.
        classes: names of their labels.
    """

    images: tuple[Detections, ...]
    classes: tuple[str, ...]


def read_predictions(path: Path, truth: EvalSet) -> ImagePredictions:
    """Read the predictions at ``path`` for the images of ``truth``.

    Raises:
        DataError: they cannot be read, or are of an image that is not in ``truth``.
        GeoError: they are in map coordinates and an image has no georeference.
        ConfigError: unknown format.
    """
    if not path.exists():
        raise DataError(f"{path}: does not exist: check the path of the predictions")
    suffix = path.suffix.lower()
    if path.is_dir():
        return _by_image(path, *read_task1(path), truth)
    if suffix == ".zip":
        with _unzipped(path) as folder:
            try:
                return _by_image(path, *read_task1(folder), truth)
            except DataError as error:
                raise DataError(str(error).replace(f"{folder}/", f"{path}: ")) from error
    if suffix == ".csv":
        return _by_image(path, *read_csv(path), truth)
    if suffix in VECTOR_SUFFIXES:
        return _read_layer(path, truth)
    known = ", ".join((".csv", *VECTOR_SUFFIXES))
    raise ConfigError(f"{path}: unknown format of predictions: give {known}, or a folder or .zip of {_TASK1}")


@contextmanager
def _unzipped(path: Path) -> Iterator[Path]:
    """A temporary folder with the Task1 files of a zip, which must lie in one folder."""
    with tempfile.TemporaryDirectory() as folder:
        with (
            reading(path, "create the zip again", "cannot be unpacked"),
            open_file(path) as file,
            zipfile.ZipFile(file) as archive,
        ):
            for member in _task1_members(path, archive):
                with archive.open(member) as packed, Path(folder, _posix(member).name).open("wb") as text:
                    shutil.copyfileobj(packed, text)
        yield Path(folder)


def _posix(member: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(member.filename.replace("\\", "/"))


def _task1_members(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    for member in archive.infolist():
        name = _posix(member)
        if name.is_absolute() or ".." in name.parts or ":" in str(name) or stat.S_ISLNK(member.external_attr >> 16):
            raise DataError(f"{path}: holds {member.filename!r}, a path outside the zip: create the zip again")
    names = [(member, _posix(member)) for member in archive.infolist()]
    found = [(member, name) for member, name in names if name.match(_TASK1) and name.parts[0] != "__MACOSX"]
    folders = {name.parent for _, name in found}
    if len(folders) != 1 or len({name for _, name in found}) < len(found):
        seen = "no" if not found else "several sets of"
        raise DataError(f"{path}: holds {seen} {_TASK1}: put one such file a class into the zip")
    size = sum(member.file_size for member, _ in found)
    if size > min(MAX_BYTES, max(_LIKELY * path.stat().st_size, _SMALL)):
        raise DataError(f"{path}: unpacks to {size / 2**30:.1f} GiB: keep fewer predictions")
    return [member for member, _ in found]


def _by_image(path: Path, rows: Sequence[ImageDetections], classes: Sequence[str], truth: EvalSet) -> ImagePredictions:
    """Predictions by image name, given to the images of ``truth``; those of tiles put together."""
    parts: list[list[tuple[TileName, Detections]]] = [[] for _ in truth.names]
    for row in rows:
        image, tile = _find(path, row.image, truth)
        parts[image].append((tile, _placed(tile, row.detections)))
    return ImagePredictions(tuple(merge_named(part) for part in parts), tuple(classes))


def _placed(tile: TileName, found: Detections) -> Detections:
    """``found`` in pixels of the image; quads whose sides cross become their boxes, as those of objects do."""
    boxes, quads = tile.boxes_to_image(found.boxes), found.quads
    if quads is not None:
        quads = tile.points_to_image(quads)
        quads = np.where(self_crossing(quads)[:, None, None], boxes_to_polygons(boxes), quads)
        quads = None if fill_boxes(boxes, quads).all() else quads
    return Detections(boxes, found.scores, found.labels, quads)


def _find(path: Path, name: str, truth: EvalSet) -> tuple[int, TileName]:
    if truth.plane is not None:  # without images there is one map, whatever scenes were searched
        if truth.plane.crs is not None:
            raise GeoError(f"{path}: is in pixels, but {truth.source} is a map without images: give boxes on the map")
        return 0, TileName(truth.names[0])
    found = truth.find(name)
    if found is None:
        listed = ", ".join(truth.names[:3]) + (", …" if len(truth.names) > 3 else "")
        raise DataError(
            f"{path}: predicts on image {name!r}, which is not in the ground truth {truth.source} (it has {listed}): "
            "rename it, or choose another --split"
        )
    return found


def merge_named(parts: Sequence[tuple[TileName, Detections]]) -> Detections:
    """Detections of one image from those of its tiles, all in pixels of the image."""
    found = Detections.concat([detections for _, detections in parts])
    if len(parts) < 2:
        return found
    tiles = [name.window for name, _ in parts]
    shape = max(tile.row + tile.height for tile in tiles), max(tile.col + tile.width for tile in tiles)
    return merge_tiles(found, np.repeat(np.arange(len(parts)), [len(part) for _, part in parts]), tiles, shape)


def _read_layer(path: Path, truth: EvalSet) -> ImagePredictions:
    """Predictions of a vector layer: fields class, score, and scene or image where there are several images."""
    table = read_polygons(path)
    scores = _scores(path, table)
    names = [str(value) for value in _column(path, table, "class")]
    classes = sorted(set(names))
    labels = np.array([classes.index(name) for name in names], np.int64).reshape(-1)
    rows = _rows_of_images(path, table, truth)
    parts: list[list[tuple[TileName, Detections]]] = [[] for _ in truth.names]
    for (image, tile, georef), index in rows:
        points = [_pixels(path, table, row, georef) for row in index]
        boxes, quads = _shapes(points)
        parts[image].append((tile, _placed(tile, Detections(boxes, scores[index], labels[index], quads))))
    return ImagePredictions(tuple(merge_named(part) for part in parts), tuple(classes))


_Target = tuple[int, TileName, Georef | None]


def _rows_of_images(path: Path, table: PolygonTable, truth: EvalSet) -> list[tuple[_Target, list[int]]]:
    """Rows of ``table`` by what they lie on: an image or tile, and its georeference if the layer is a map."""
    if truth.plane is not None:
        if (table.crs is None) != (truth.plane.crs is None):
            raise GeoError(f"{path}: only one of it and {truth.source} is in map coordinates: give both on the map")
        return [((0, TileName(truth.names[0]), truth.plane), list(range(len(table))))]
    field = next((key for key in table.fields if key.lower() in _IMAGE_FIELDS), None)
    if field is None and len(truth.frames) > 1:
        raise DataError(f"{path}: has no column 'scene' that names the images of its boxes: add one")
    by_name: dict[str, list[int]] = {}
    for row in range(len(table)):
        name = str(table.fields[field][row]) if field else truth.frames[0].labels.file
        by_name.setdefault(name, []).append(row)
    targets = []
    for name, index in by_name.items():
        image, tile = _find(path, name, truth)
        frame = next((f for f in truth.frames if f.image == image and f.tile == tile), None)
        if table.crs is not None and frame is None:
            frame = next(f for f in truth.frames if f.image == image)
        georef = None
        if table.crs is not None and frame is not None:
            georef = None if frame.labels.path is None else read_georef(frame.labels.path)
            if georef is None or georef.crs is None:
                raise GeoError(f"{path}: is in map coordinates, but image {name!r} has none: give boxes in pixels")
            tile = frame.tile
        targets.append(((image, tile, georef), index))
    return targets


def _pixels(path: Path, table: PolygonTable, row: int, georef: Georef | None) -> Array:
    points = table.points[row]
    if georef is not None:
        (points,) = to_pixels([points], table.crs, georef)
    if len(points) < 3 or not np.isfinite(points).all():
        raise DataError(f"{path}: feature {table.ids[row]}: is not a polygon on its image: remove it")
    return points


def _shapes(polygons: Sequence[Array]) -> tuple[Array, Array]:
    """Smallest boxes (n, 5) of polygons, and quads (n, 4, 2): four corners as they are, of other polygons the boxes."""
    boxes = np.zeros((len(polygons), 5))
    sizes = np.array([len(points) for points in polygons])
    for size in np.unique(sizes).tolist():
        index = np.flatnonzero(sizes == size).tolist()
        boxes[index] = polygons_to_boxes(np.stack([polygons[i] for i in index]))
    quads = boxes_to_polygons(boxes)
    for i in np.flatnonzero(sizes == 4).tolist():
        quads[i] = polygons[i]
    return boxes, quads


def _column(path: Path, table: PolygonTable, name: str) -> list[Any]:
    field = next((key for key in table.fields if key.lower() == name), None)
    if field is None:
        raise DataError(f"{path}: has no column {name!r}: give a layer of detections, as legnet predict writes it")
    return table.fields[field]


def _scores(path: Path, table: PolygonTable) -> NDArray[np.float32]:
    scores = np.full(len(table), np.nan, np.float32)
    for row, value in enumerate(_column(path, table, "score")):
        with suppress(TypeError, ValueError):
            scores[row] = float(value)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise DataError(f"{path}: feature {table.ids[bad[0]]}: its score is not a number: correct or remove it")
    return scores
