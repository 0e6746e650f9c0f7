"""The objects of each layer, in one plane."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array, boxes_to_polygons, polygons_to_boxes
from legnet_cli.engine.layers.source import Names, SourceLayer
from legnet_cli.errors import counted
from legnet_cli.geo.crs import CRS, reproject, within_180
from legnet_cli.geo.local import LocalPlane
from legnet_cli.geo.objects import ObjectTable
from legnet_cli.geo.rings import rows_as_y

logger = logging.getLogger(__name__)

_CHUNK = 50_000  # objects whose boxes are made at a time
_THINNEST = 1e-4  # of its length; what is thinner is a line
_ASIDE = 1e6  # pixels between scenes of a layer in pixels, which lie side by side in the plane


@dataclass(frozen=True)
class PlacedObjects:
    """Objects of one layer in the plane of all.

    Attributes:
        source: of their layer.
        boxes: (n, 5) ``le90``, metres of the plane (or pixels), y down.
        corners: (n, 4, 2) in the layer's reference system.
        labels: (n,) index the class names of all layers.
        scores: (n,) NaN where unknown.
        probabilities, views: (n,) or None if the layer does not tell.
        scenes: of each object.
        offsets: by scene name, where a scene of a layer in pixels lies in the plane.
    """

    source: SourceLayer
    boxes: Array
    corners: Array
    labels: NDArray[np.int64]
    scores: Array
    probabilities: Array | None
    views: Array | None
    scenes: Names
    offsets: dict[str, float]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.source.name

    @property
    def crs(self) -> CRS | None:
        """Reference system of the layer; None for pixels."""
        return self.source.table.crs


def plane_of(layers: Sequence[SourceLayer]) -> LocalPlane:
    """The plane around the objects of all layers.

    Raises:
        GeoError: one has no place on the map.
    """
    # some points tell enough of where all are
    tables = [layer.table for layer in layers]
    some = [(table.points[:: max(1, len(table.points) // 1000)], table.crs) for table in tables]
    if not any(len(points) for points, _ in some):
        return LocalPlane(None)  # nothing to be placed
    return LocalPlane.around(some)


def in_plane(
    layers: Sequence[SourceLayer], plane: LocalPlane, classes: Sequence[str], least: float
) -> list[PlacedObjects]:
    """The objects of each layer that are of ``classes`` and score ``least`` or more, in ``plane``.

    Raises:
        GeoError: there is no way from a layer to the plane.
    """
    offsets = _offsets(layers) if plane.crs is None else [{} for _ in layers]
    return [_placed(layer, plane, classes, least, off) for layer, off in zip(layers, offsets, strict=True)]


def _offsets(layers: Sequence[SourceLayer]) -> list[dict[str, float]]:
    """Where scenes in pixels lie in the plane: those of one name, or the only ones, in one place, others apart."""
    scenes = [[*dict.fromkeys([*layer.scene_paths, *layer.scenes.names.tolist()])] for layer in layers]
    if max(map(len, scenes)) <= 1:
        return [{} for _ in layers]
    stems = sorted({Path(name).stem for names in scenes for name in names})
    return [{name: _ASIDE * stems.index(Path(name).stem) for name in names} for names in scenes]


def _placed(
    layer: SourceLayer, plane: LocalPlane, classes: Sequence[str], least: float, offsets: dict[str, float]
) -> PlacedObjects:
    index = {name: label for label, name in enumerate(classes)}
    labels = np.array([index.get(name, -1) for name in layer.classes.names.tolist()], np.int64)[layer.classes.codes]
    wanted = (labels >= 0) & ~(layer.scores < least)
    table = layer.table
    boxes, corners = _boxes(table, plane)
    sound = np.isfinite(boxes).all(1) & (boxes[:, 3] > _THINNEST * boxes[:, 2])
    if bad := int((~sound).sum()):
        logger.warning("%s: %s without a polygon that has an area: left out", layer.path, counted(bad, "object"))
    if offsets:
        boxes[:, 0] += np.array([offsets[name] for name in layer.scenes.names.tolist()])[layer.scenes.codes]
    keep = np.flatnonzero(sound & wanted)
    return PlacedObjects(
        layer,
        boxes[keep],
        corners[keep],
        labels[keep],
        layer.scores[keep],
        None if layer.probabilities is None else layer.probabilities[keep],
        None if layer.views is None else layer.views[keep],
        Names(layer.scenes.codes[keep], layer.scenes.names),
        offsets,
    )


def _boxes(table: ObjectTable, plane: LocalPlane) -> tuple[Array, Array]:
    """Smallest boxes (n, 5) in ``plane`` and corners (n, 4, 2) on the map of all outlines of a layer.

    The corners of what is not a convex quadrilateral are those of its box.
    """
    starts = np.cumsum(table.sizes) - table.sizes
    boxes, corners = np.full((len(starts), 5), np.nan), np.full((len(starts), 4, 2), np.nan)
    for size in np.unique(table.sizes[table.sizes > 2]).tolist():
        rows = np.flatnonzero(table.sizes == size)
        for some in np.array_split(rows, -(-len(rows) // _CHUNK)):
            outlines = table.points[starts[some, None] + np.arange(size)]
            flat = plane.to_plane(outlines.reshape(-1, 2), table.crs).reshape(outlines.shape)
            placed = np.isfinite(flat).all((1, 2))
            boxes[some[placed]] = polygons_to_boxes(flat[placed])
            quads = placed & _convex(flat) if size == 4 else np.zeros(len(some), np.bool_)
            corners[some[quads]] = outlines[quads].reshape(-1, 4, 2)
            odd = some[placed & ~quads]
            corners[odd] = plane.from_plane(boxes_to_polygons(boxes[odd]).reshape(-1, 2), table.crs).reshape(-1, 4, 2)
    return boxes, corners


def _convex(quads: Array) -> NDArray[np.bool_]:
    """Which quadrilaterals (n, 4, 2) are convex: neither crossing nor dented."""
    side = np.roll(quads, -1, 1) - quads
    after = np.roll(side, -1, 1)
    turns = side[..., 0] * after[..., 1] - side[..., 1] * after[..., 0]
    return np.asarray((turns > 0).all(1) | (turns < 0).all(1))


def corners_in(layer: PlacedObjects, rows: NDArray[np.int64], crs: CRS | None) -> Array:
    """Corners (n, 4, 2) of some objects in ``crs``; without one in pixels, y up."""
    corners = layer.corners[rows]
    points = corners.reshape(-1, 2)
    if crs is None or layer.crs is None:
        points = rows_as_y(points)
    elif crs != layer.crs:
        points = reproject(points, layer.crs, crs)
    if crs is not None and crs.is_geographic:
        points = np.stack([within_180(points[:, 0]), points[:, 1]], 1)
    return points.reshape(corners.shape)
