"""The objects found in scenes, written as a layer in map coordinates, a table in pixels or DOTA text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array, Detections, boxes_to_polygons
from legnet_cli.data.tables import TASK1_FILES, ImageDetections, check_task1, write_csv, write_task1
from legnet_cli.errors import ConfigError, GeoError
from legnet_cli.files import check_output, is_folder_output
from legnet_cli.geo.crs import CRS, WGS84, parse_crs
from legnet_cli.geo.features import Rows
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.vector import SUFFIXES, check_format, write_layer

TABLE_SUFFIX = ".csv"
SOURCE_CRS = "source"


@dataclass(frozen=True)
class SceneResult:
    """Objects of one scene.

    Attributes:
        path: the raster, as it was opened.
        name: the shortest end of its path that no other scene of the run has.
        detections: boxes in pixels of the raster, best score first.
        georef: the raster's coordinates.
        tiles: how many tiles were searched.
        km2: ground area searched, in square kilometres; None without georeference.
        grid_boxes: the boxes in pixels of the grid that was searched.
        scale: raster pixels per pixel of that grid, along x and y.
    """

    path: str
    name: str
    detections: Detections
    georef: Georef
    tiles: int
    km2: float | None
    grid_boxes: Array
    scale: tuple[float, float] = (1.0, 1.0)

    def polygons(self, rows: Rows = slice(None)) -> Array:
        """Corners (n, 4, 2) of some objects in pixels of the raster; no rectangles where the grid's pixels are not."""
        return boxes_to_polygons(self.grid_boxes[rows]) * self.scale


def check_outputs(out: Path, previews: Sequence[Path], crs: str, *, overwrite: bool) -> None:
    """Refuse, before any work, outputs that could not be written or a ``crs`` they could not have.

    Raises:
        ConfigError: unknown format or reference system, or existing files without ``overwrite``.
        DataError: a place that cannot be written.
        DependencyError: a format whose package is missing.
    """
    check_output(out, overwrite=overwrite, suffixes=(*SUFFIXES, TABLE_SUFFIX), folder_files=TASK1_FILES)
    for preview in previews:
        check_output(preview, overwrite=overwrite, suffixes=(".png",))
    check_format(out)
    if crs == SOURCE_CRS:
        return
    parse_crs(crs)
    if out.suffix.lower() == ".geojson":
        raise ConfigError(f"--crs {crs}: GeoJSON is always WGS 84: leave --crs out, or write .gpkg")
    if not _is_layer(out):
        raise ConfigError(f"--crs {crs}: {out} is in pixels: leave --crs out, or write .gpkg")


def check_scenes(scenes: Sequence[tuple[str, Georef]], classes: Sequence[str], out: Path, crs: str) -> None:
    """Refuse, before the search, scenes, given by name, that cannot share one output.

    Raises:
        ConfigError: names that DOTA text cannot hold.
        GeoError: some scenes have a reference system and others none, or ``crs`` is asked of scenes without one.
    """
    if is_folder_output(out):
        check_task1([Path(name).stem for name, _ in scenes], classes)
    if not _is_layer(out):
        return
    bare = [name for name, georef in scenes if georef.crs is None]
    elsewhere = [name for name, georef in scenes if georef.crs is not None and not georef.has_lonlat]
    if elsewhere and out.suffix.lower() == ".geojson":
        raise GeoError(f"{elsewhere[0]}: cannot be converted to WGS 84, as GeoJSON needs: write .gpkg")
    if bare and crs != SOURCE_CRS:
        raise GeoError(f"{bare[0]}: has no reference system to convert to --crs {crs}: leave --crs out")
    if bare and len(bare) < len(scenes):
        raise GeoError(f"{bare[0]}: has no reference system as other scenes have: write .csv, or search it by itself")


def write_detections(
    out: Path, scenes: Sequence[SceneResult], classes: Sequence[str], model: str, crs: str = SOURCE_CRS
) -> None:
    """Write the objects of ``scenes`` to ``out``, whole or not at all, in the format its suffix names.

    Args:
        out: see :class:`legnet_cli.engine.predict.PredictConfig`.
        scenes: what was found.
        classes: names of the labels.
        model: name written with each object.
        crs: reference system of a layer; by default the first scene's.

    Raises:
        DataError: the output cannot be written.
    """
    if is_folder_output(out):
        write_task1(out, [ImageDetections(Path(scene.name).stem, scene.detections) for scene in scenes], classes)
    elif not _is_layer(out):
        located = any(scene.georef.has_lonlat for scene in scenes)
        write_csv(out, map(_table, scenes), classes, located=located)
    else:
        target = scenes[0].georef.crs if crs == SOURCE_CRS else parse_crs(crs)
        if target is not None and out.suffix.lower() == ".geojson":
            target = WGS84
        write_layer(out, FoundObjects(scenes, classes, model, target))


def _is_layer(out: Path) -> bool:
    return not is_folder_output(out) and out.suffix.lower() != TABLE_SUFFIX


def _table(scene: SceneResult) -> ImageDetections:
    centres = scene.detections.boxes[:, :2]
    lonlat = scene.georef.to_lonlat(centres) if scene.georef.has_lonlat else None
    return ImageDetections(scene.name, scene.detections, lonlat)


class FoundObjects:
    """The objects of ``scenes``, one scene after another, as features of a layer in ``crs``.

    Of an object no more is kept than its box: corners and attributes are made when they are asked for.

    Args:
        scenes: what was found.
        classes: names of the labels.
        model: name written with each object.
        crs: reference system of the layer; None for the scenes' own map coordinates.
    """

    def __init__(self, scenes: Sequence[SceneResult], classes: Sequence[str], model: str, crs: CRS | None) -> None:
        self.crs, self._scenes, self._model = crs, scenes, model
        self._classes = np.array(classes, np.str_)
        self._stops = np.cumsum([len(scene.detections) for scene in scenes])
        self._as_is = {scene.name for scene in scenes if crs == scene.georef.crs}

    def __len__(self) -> int:
        return int(self._stops[-1])

    def corners(self, rows: Rows) -> Array:
        """See :class:`Features`."""
        index = np.arange(len(self))[rows]
        corners = np.empty((len(index), 4, 2))
        for scene, places, own in self._by_scene(index):
            pixels = scene.polygons(own).reshape(-1, 2)
            if self.crs is None or scene.name in self._as_is:
                points = scene.georef.to_map(pixels)
            else:
                points = scene.georef.to_crs(pixels, self.crs)
            corners[places] = points.reshape(-1, 4, 2)
        return corners

    def columns(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """See :class:`Features`."""
        index = np.arange(len(self))[rows]
        names, labels = np.empty(len(index), object), np.empty(len(index), np.int64)
        scores, measures = np.empty(len(index)), np.empty((4, len(index)))
        for scene, places, own in self._by_scene(index):
            found, ground = scene.detections[own], scene.georef.measure(scene.polygons(own))
            names[places], labels[places], scores[places] = scene.name, found.labels, found.scores
            measures[:, places] = ground.length_m, ground.width_m, ground.area_m2, ground.azimuth_deg
        length, width, area, azimuth = measures
        return {
            "class": self._classes[labels],
            "score": scores.round(4),
            "length_m": length.round(3),
            "width_m": width.round(3),
            "area_m2": area.round(3),
            "azimuth_deg": azimuth.round(2) % 180,
            "scene": names.astype(np.str_),
            "model": np.full(len(index), self._model),
        }

    def _by_scene(self, index: NDArray[np.int64]) -> Iterator[tuple[SceneResult, NDArray[np.int64], NDArray[np.int64]]]:
        """Scenes that ``index`` has objects of, with their places in it and their numbers within the scene."""
        scene_of = np.searchsorted(self._stops, index, side="right")
        order = np.argsort(scene_of, kind="stable")
        starts = np.flatnonzero(np.diff(scene_of[order], prepend=-1))
        for places in np.split(order, starts[1:]) if len(index) else ():
            scene = self._scenes[scene_of[places[0]]]
            yield scene, places, index[places] - (self._stops[scene_of[places[0]]] - len(scene.detections))
