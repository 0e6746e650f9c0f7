"""Objects of layers in the pixels of their scenes."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array, polygons_to_boxes
from legnet_cli.engine.layers.placed import PlacedObjects, corners_in
from legnet_cli.engine.predict import scene_names
from legnet_cli.engine.review.signals import Index, by_scene
from legnet_cli.errors import DataError, GeoError, counted
from legnet_cli.geo.crs import CRS
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.inputs import find_scenes, is_local
from legnet_cli.geo.polygons import to_pixels
from legnet_cli.geo.raster import Scene, scene_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReviewScene:
    """A raster with objects.

    Attributes:
        name: as the layer has it.
        path: GDAL's name of it.
        georef: where its pixels lie.
    """

    name: str
    path: str
    georef: Georef


@dataclass(frozen=True)
class SceneObjects:
    """Objects of all layers, each in one scene.

    Attributes:
        scenes: those that have objects.
        crs: reference system of the outlines; None for pixels.
        numbers: (n,) scene of each object.
        boxes: (n, 5) ``le90`` in pixels of the scene.
        quads: (n, 4, 2) corners in pixels of the scene.
        outlines: (n, 4, 2) corners in ``crs``; in pixels, y up, without one.
        labels: (n,) index the class names of all layers.
        scores, probabilities, views: (n,) NaN where unknown.
        gsd: (n,) metres per pixel; 1 where that is unknown.
    """

    scenes: tuple[ReviewScene, ...]
    crs: CRS | None
    numbers: Index
    boxes: Array
    quads: Array
    outlines: Array
    labels: Index
    scores: Array
    probabilities: Array
    views: Array
    gsd: Array

    def __len__(self) -> int:
        return len(self.numbers)


def scene_objects(layers: Sequence[PlacedObjects], asked: Sequence[str], classes: Sequence[str]) -> SceneObjects:
    """The objects of ``layers`` that lie in their scenes.

    Args:
        layers: of objects.
        asked: rasters; if empty, those that the layers name.
        classes: names of the labels.

    Raises:
        DataError: there is no such raster, no object lies in any, or two layers are of one scene.
        GeoError: objects are on the map and their scene is not.
    """
    finder = _Finder(layers, asked)
    homes = [finder.scenes_of(layer) for layer in layers]
    _refuse_shared(layers, homes, finder, classes)
    crs = layers[0].crs or finder.common_crs(np.unique(np.concatenate(homes)))
    parts = [_in_scenes(layer, home, finder, crs) for layer, home in zip(layers, homes, strict=True)]
    numbers, *columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not len(numbers):
        raise DataError(f"{_listed(layers)}: no object lies in the scenes: name those that were searched by --scenes")
    used, numbers = np.unique(numbers, return_inverse=True)
    scenes = tuple(finder.scene(number) for number in used.tolist())
    return SceneObjects(scenes, crs, numbers, *columns)


def _in_scenes(layer: PlacedObjects, home: Index, finder: _Finder, crs: CRS | None) -> tuple[NDArray[Any], ...]:
    """Columns of :class:`SceneObjects` from ``numbers`` to ``gsd`` of those objects of a layer that lie in a scene."""
    count = len(layer)
    quads, outlines, gsd = np.full((count, 4, 2), np.nan), layer.corners.copy(), np.ones(count)
    inside = np.zeros(count, np.bool_)
    for rows in by_scene(home, np.flatnonzero(home >= 0)):
        number = int(home[rows[0]])
        georef = finder.georef(number)
        quads[rows] = finder.pixels(layer, rows, number)
        centres = quads[rows].mean(1)
        inside[rows] = ((centres >= 0) & (centres < (georef.width, georef.height))).all(1)
        gsd[rows] = 1 if georef.gsd is None else np.sqrt(np.prod(georef.gsd))
        if layer.crs is None and crs is not None:
            outlines[rows] = georef.to_crs(quads[rows], crs).reshape(-1, 4, 2)
    if layer.crs is not None or crs is None:
        outlines = corners_in(layer, np.arange(count), crs)
    if outside := count - int(inside.sum()):
        logger.warning("%s: %s in none of the scenes: left out", layer.source.path, counted(outside, "object"))
    unknown = np.full(count, np.nan)
    measured = (unknown if one is None else one for one in (layer.probabilities, layer.views))
    columns = (home, quads, outlines, layer.labels, layer.scores, *measured, gsd)
    home, quads, *others = (column[inside] for column in columns)
    return (home, polygons_to_boxes(quads), quads, *others)


def _refuse_shared(
    layers: Sequence[PlacedObjects], homes: Sequence[Index], finder: _Finder, classes: Sequence[str]
) -> None:
    """Refuse two layers with objects of one class in one scene: each object would be there twice."""
    seen: dict[tuple[int, int], PlacedObjects] = {}
    for layer, home in zip(layers, homes, strict=True):
        for number, label in {*zip(home.tolist(), layer.labels.tolist(), strict=True)}:
            other = seen.setdefault((number, label), layer)
            if number >= 0 and other is not layer:
                name = classes[label]
                raise DataError(
                    f"{other.source.path} and {layer.source.path} both have objects of class {name!r} in "
                    f"{finder.scene(number).name}: give one layer for each scene"
                )


class _Finder:
    """Finds the scene of each object: by the name that the layer tells, else by where it lies."""

    def __init__(self, layers: Sequence[PlacedObjects], asked: Sequence[str]) -> None:
        told = [path for layer in layers for path in layer.source.scene_paths.values()]
        if not asked and not told:
            raise DataError(f"{_listed(layers)}: does not name its scenes: give them by --scenes")
        try:
            self._paths = list(find_scenes(asked or told))
        except DataError as error:
            raise error if asked else DataError(f"{error}, or give the scenes by --scenes") from None
        self._names = scene_names(self._paths)
        self._georefs: dict[int, Georef] = {}
        self._by_path = {_real(path): number for number, path in enumerate(self._paths)}
        self._by_end: dict[str, list[int]] = {}
        for number, path in enumerate(self._paths):
            for end in {scene_name(path), PurePath(scene_name(path)).stem}:
                self._by_end.setdefault(end, []).append(number)

    def scene(self, number: int) -> ReviewScene:
        """One of the scenes."""
        return ReviewScene(self._names[number], self._paths[number], self.georef(number))

    def georef(self, number: int) -> Georef:
        """Where the pixels of a scene lie."""
        if number not in self._georefs:
            with Scene.open(self._paths[number], stretch="none") as scene:
                self._georefs[number] = scene.georef
        return self._georefs[number]

    def common_crs(self, used: Index) -> CRS | None:
        """Reference system of the first of the scenes that are used, if all have one."""
        systems = [self.georef(number).crs for number in used[used >= 0].tolist()]
        return systems[0] if systems and None not in systems else None

    def scenes_of(self, layer: PlacedObjects) -> Index:
        """The scene (n,) of each object; -1 where there is none."""
        known = [self._named(layer, name) for name in layer.scenes.names.tolist()]
        home = np.array(known, np.int64)[layer.scenes.codes]
        if layer.crs is not None:
            for number in range(len(self._paths)):
                rows = np.flatnonzero(home < 0)
                if len(rows) and self.georef(number).crs is not None:
                    centres = self.pixels(layer, rows, number).mean(1)
                    size = (self.georef(number).width, self.georef(number).height)
                    home[rows[((centres >= 0) & (centres < size)).all(1)]] = number
        return home

    def pixels(self, layer: PlacedObjects, rows: Index, number: int) -> Array:
        """Corners (n, 4, 2) of some objects in pixels of a scene.

        Raises:
            GeoError: they are on the map and the scene is not.
        """
        georef = self.georef(number)
        if layer.crs is not None and georef.crs is None:
            raise GeoError(
                f"{layer.source.path} is in map coordinates, but {self._paths[number]} has no georeference: "
                "give the scenes that were searched"
            )
        return np.array(to_pixels([*layer.corners[rows]], layer.crs, georef)).reshape(-1, 4, 2)

    def _named(self, layer: PlacedObjects, name: str) -> int:
        """Number of the scene that a layer calls ``name``; -1 if there is none, or it could be several."""
        if not name:
            return 0 if layer.crs is None and len(self._paths) == 1 else -1
        told = layer.source.scene_paths.get(name)
        if told is not None and _real(told) in self._by_path:
            return self._by_path[_real(told)]
        ends = PurePath(name).parts
        alike = self._by_end.get(ends[-1], [])
        whole = [number for number in alike if PurePath(self._paths[number]).parts[-len(ends) :] == ends]
        return (whole or alike)[0] if len(whole or alike) == 1 else -1


def _real(path: str) -> str:
    return os.path.realpath(path) if is_local(path) else path


def _listed(layers: Sequence[PlacedObjects]) -> str:
    return ", ".join(str(layer.source.path) for layer in layers)
