"""What a search has found, and as which features it goes into a layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from legnet_cli.boxes import Array, Detections, boxes_to_polygons
from legnet_cli.detectors.weights.calibration import CountEstimate, estimate_count
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.engine.predict.plan import SceneFailure
from legnet_cli.engine.predict.sizes import SizeCheck
from legnet_cli.geo.crs import CRS
from legnet_cli.geo.features import Rows
from legnet_cli.geo.footprint import area_on_map
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.rings import rows_as_y
from legnet_cli.geo.vector import Areas


@dataclass(frozen=True)
class SceneResult:
    """Objects of one scene.

    Attributes:
        path: the raster, as it was opened.
        name: the shortest end of its path that no other scene of the run has.
        stamp: size and time of the file, or what a server says of it; empty if unknown.
        detections: boxes in pixels of the raster, best score first.
        georef: the raster's coordinates.
        tiles: how many it has, or its area of interest.
        empty: of these, how many hold no data or a single colour.
        km2: ground area searched, in square kilometres; None without georeference.
        grid_boxes: the boxes in pixels of the grid that was searched.
        scale: raster pixels per pixel of that grid, along x and y.
        searched: the part of the raster that was searched, in its pixels.
        odd: objects of a size that their class does not have, if that was looked for; they may be left out here.
    """

    path: str
    name: str
    stamp: str
    detections: Detections
    georef: Georef
    tiles: int
    empty: int
    km2: float | None
    grid_boxes: Array
    scale: tuple[float, float]
    searched: shapely.Geometry
    odd: int = 0

    def polygons(self, rows: Rows = slice(None)) -> Array:
        """Corners (n, 4, 2) of some objects in pixels of the raster; no rectangles where the grid's pixels are not."""
        return boxes_to_polygons(self.grid_boxes[rows]) * self.scale


@dataclass(frozen=True)
class PredictResult:
    """Objects of all scenes, and what the search took.

    Attributes:
        scenes: those that were searched.
        failures: those that could not be; their job folder stays, to be gone on with.
        card: of the weights.
        out: the output; None for a share, which leaves parts alone.
        previews: pictures.
        seconds: of this run.
        outputs: files or folders that ``out`` stands for.
        crs: name of the reference system of all objects; None for pixels, and where each scene's own is its layer's.
        odd_sizes: objects of a size that their class does not have; None if that was not looked for.
    """

    scenes: tuple[SceneResult, ...]
    card: ModelCard
    out: Path | None
    previews: tuple[Path, ...]
    seconds: float
    failures: tuple[SceneFailure, ...] = ()
    outputs: tuple[Path, ...] = ()
    crs: str | None = None
    odd_sizes: int | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels."""
        return self.card.classes

    @property
    def model(self) -> str:
        """Name of the weights."""
        return self.card.name

    @property
    def estimates(self) -> dict[str, CountEstimate]:
        """By class how many true objects there are, where the weights say what their scores mean."""
        labels = np.concatenate([np.zeros(0, np.int64), *(scene.detections.labels for scene in self.scenes)])
        scores = np.concatenate([np.zeros(0), *(scene.detections.scores for scene in self.scenes)])
        return {
            name: estimate_count(known, scores[labels == self.classes.index(name)])
            for name, known in self.card.calibrations.items()
            if name in self.counts
        }

    @property
    def counts(self) -> dict[str, int]:
        """Objects by class name, most frequent first."""
        each = [np.bincount(scene.detections.labels, minlength=len(self.classes)) for scene in self.scenes]
        labels = Counter(dict(enumerate(np.sum(each, axis=0).tolist() if each else [])))
        return {self.classes[label]: count for label, count in labels.most_common() if count}

    @property
    def km2(self) -> float | None:
        """Ground area searched, in square kilometres; None if no scene is georeferenced."""
        areas = [scene.km2 for scene in self.scenes if scene.km2 is not None]
        return sum(areas) if areas else None


class FoundObjects:
    """The objects of ``scenes``, one scene after another, as features of a layer in ``crs``.

    Of an object no more is kept than its box: corners and attributes are made when they are asked for.

    Args:
        scenes: what was found.
        card: of the weights: their name, and what their scores mean.
        crs: reference system of the layer; None for the scenes' own map coordinates, or pixels with y up.
        sizes: tells objects of odd size, which are then flagged.
        fused: whether they are of several views or weights, and say which share of these found them.
    """

    def __init__(
        self,
        scenes: Sequence[SceneResult],
        card: ModelCard,
        crs: CRS | None,
        *,
        sizes: SizeCheck | None = None,
        fused: bool = False,
    ) -> None:
        self.crs, self._scenes, self._model, self._sizes, self._fused = crs, scenes, card.name, sizes, fused
        self._classes = np.array(card.classes, np.str_)
        self._calibrations = card.calibrations
        self._stops = np.cumsum([len(scene.detections) for scene in scenes])
        self._as_is = {scene.name for scene in scenes if crs == scene.georef.crs}

    def __len__(self) -> int:
        return int(self._stops[-1])

    def corners(self, rows: Rows) -> Array:
        """See :class:`Features`."""
        index = self._numbers(rows)
        corners = np.empty((len(index), 4, 2))
        for scene, places, own in self._by_scene(index):
            pixels = scene.polygons(own).reshape(-1, 2)
            if self.crs is not None and scene.name not in self._as_is:
                points = scene.georef.to_crs(pixels, self.crs)
            elif scene.georef.kind == "none":
                points = rows_as_y(pixels)
            else:
                points = scene.georef.to_map(pixels)
            corners[places] = points.reshape(-1, 4, 2)
        return corners

    def columns(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """See :class:`Features`."""
        index = self._numbers(rows)
        names, labels = np.empty(len(index), object), np.empty(len(index), np.int64)
        scores, sizes = np.empty(len(index)), np.empty((4, len(index)))
        views, odd = np.ones(len(index)), np.zeros(len(index), np.bool_)
        for scene, places, own in self._by_scene(index):
            found = scene.detections[own]
            names[places], labels[places], scores[places] = scene.name, found.labels, found.scores
            sizes[:, places] = _sizes(scene, found, own)
            if found.views is not None:
                views[places] = found.views
            if self._sizes is not None:
                odd[places] = self._sizes.odd_boxes(scene.grid_boxes[own], found.labels, scene.scale, scene.georef)
        length, width, area, direction = sizes
        named = ("length_px", "width_px", "area_px2", "angle_deg")
        if self.crs is not None:
            named = ("length_m", "width_m", "area_m2", "azimuth_deg")
        measures = (length.round(3), width.round(3), area.round(3), direction.round(2) % 180)
        return {
            "class": self._classes[labels],
            "score": scores.round(4),
            **self._probabilities(labels, scores),
            **({"views": views.round(4)} if self._fused else {}),
            **dict(zip(named, measures, strict=True)),
            **({} if self._sizes is None else {"odd_size": odd}),
            "scene": names.astype(np.str_),
            "model": np.full(len(index), self._model),
        }

    def _probabilities(self, labels: NDArray[np.int64], scores: Array) -> dict[str, Array]:
        """A column where the weights say what their scores mean, NaN for classes of which they do not."""
        if not self._calibrations:
            return {}
        likely = np.full(len(labels), np.nan)
        for label in np.unique(labels).tolist():
            if (known := self._calibrations.get(str(self._classes[label]))) is not None:
                likely[labels == label] = known.probability(scores[labels == label])
        return {"probability": likely.round(4)}

    def _numbers(self, rows: Rows) -> NDArray[np.int64]:
        return np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows

    def _by_scene(self, index: NDArray[np.int64]) -> Iterator[tuple[SceneResult, NDArray[np.int64], NDArray[np.int64]]]:
        """Scenes that ``index`` has objects of, with their places in it and their numbers within the scene."""
        scene_of = np.searchsorted(self._stops, index, side="right")
        order = np.argsort(scene_of, kind="stable")
        starts = np.flatnonzero(np.diff(scene_of[order], prepend=-1))
        for places in np.split(order, starts[1:]) if len(index) else ():
            scene = self._scenes[scene_of[places[0]]]
            yield scene, places, index[places] - (self._stops[scene_of[places[0]]] - len(scene.detections))


def _sizes(scene: SceneResult, found: Detections, own: NDArray[np.int64]) -> Array:
    """Length, width, area and direction (4, n): on the ground, from north; without georeference in pixels, from up."""
    if scene.georef.crs is not None:
        ground = scene.georef.measure(scene.polygons(own))
        return np.stack([ground.length_m, ground.width_m, ground.area_m2, ground.azimuth_deg])
    _, _, width, height, angle = found.boxes.T
    return np.stack([width, height, width * height, np.degrees(angle) + 90])


def searched_areas(scenes: Sequence[SceneResult], crs: CRS | None) -> Areas:
    """The ground that was searched, an area a scene, in the reference system of their layer."""
    areas = [area_on_map(scene.searched, scene.georef, crs) for scene in scenes]
    counts = np.array([len(scene.detections) for scene in scenes])
    fields = {"scene": np.array([scene.name for scene in scenes]), "objects": counts}
    return Areas(np.array(areas, object), fields)
