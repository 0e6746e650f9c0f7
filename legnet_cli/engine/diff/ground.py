"""The ground that each date shows: what was searched, less what masks take away, and less pixels without data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from legnet_cli.boxes import Array, boxes_to_polygons
from legnet_cli.engine.diff.config import DiffConfig, Ground
from legnet_cli.engine.diff.pixels import ScenePixels
from legnet_cli.engine.layers.placed import PlacedObjects
from legnet_cli.errors import DataError, GeoError
from legnet_cli.geo.crs import CRS
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.inputs import is_local, is_remote
from legnet_cli.geo.local import LocalPlane
from legnet_cli.geo.objects import read_areas
from legnet_cli.geo.raster import Scene
from legnet_cli.geo.rings import rows_as_y
from legnet_cli.geo.vector import Areas

logger = logging.getLogger(__name__)

_SHARE = 0.5  # of an object that must be seen
_HAS_SEARCHED = (".gpkg",)


@dataclass(frozen=True)
class SeenGround:
    """What one date shows, in the plane of the comparison.

    Attributes:
        areas: (k,) ground searched; None if that is not known, and all ground counts.
        scenes: (k,) raster of each area, empty where it is not known or not here.
        offsets: (k,) by how much an area in pixels is moved aside.
        lost: ground that shows nothing.
        plane: of the comparison.
    """

    areas: NDArray[np.object_] | None
    scenes: tuple[str, ...]
    offsets: Array
    lost: shapely.Geometry
    plane: LocalPlane

    @property
    def known(self) -> bool:
        """Whether the ground searched is known."""
        return self.areas is not None

    def on_map(self, crs: CRS | None) -> shapely.Geometry | None:
        """The ground in ``crs``; without one in pixels, y up. None if there is none."""
        assert self.areas is not None
        whole = shapely.difference(shapely.union_all(self.areas), self.lost)
        if crs is None:
            whole = shapely.transform(whole, rows_as_y)
        elif not shapely.is_empty(whole):
            whole = shapely.make_valid(shapely.transform(whole, lambda xy: self.plane.from_plane(xy, crs)))
        polygons = [part for part in shapely.get_parts(whole) if part.geom_type == "Polygon" and not part.is_empty]
        return shapely.multipolygons(polygons) if polygons else None

    def shows(self, boxes: Array) -> NDArray[np.bool_]:
        """Which of the ``boxes`` (n, 5) in the plane lie on ground that was seen, for half of their area or more."""
        outlines = shapely.polygons(boxes_to_polygons(boxes))
        if self.areas is None:
            return np.asarray(_share(outlines, self.lost) < 1 - _SHARE)
        seen = np.asarray(_share(outlines, shapely.difference(shapely.union_all(self.areas), self.lost)) >= _SHARE)
        if seen.any() and any(self.scenes):
            seen[seen] = self._in_pixels(boxes[seen], outlines[seen])
        return seen

    def _in_pixels(self, boxes: Array, outlines: NDArray[np.object_]) -> NDArray[np.bool_]:
        """Which boxes some scene's pixels show, or lie in a scene whose pixels are not here."""
        assert self.areas is not None
        box, area = shapely.STRtree(self.areas).query(outlines, predicate="intersects")
        shown = np.zeros(len(boxes), np.bool_)
        for number in np.unique(area).tolist():
            rows = box[area == number]
            rows = rows[~shown[rows]]
            moved = boxes[rows] - np.array([self.offsets[number], 0, 0, 0, 0])
            shown[rows] = self._share_shown(self.scenes[number], moved) >= _SHARE
        return shown

    def _share_shown(self, path: str, boxes: Array) -> Array:
        """Share (n,) of ``boxes`` (n, 5) that pixels of the raster ``path`` show; all where there is no such raster."""
        try:
            with ScenePixels(path, self.plane) as pixels:
                return pixels.shown_share(boxes_to_polygons(boxes))
        except DataError as error:
            if path:
                logger.warning("%s: counts as seen where it was searched", error)
            return np.ones(len(boxes))


def _share(outlines: NDArray[np.object_], area: shapely.Geometry) -> Array:
    """Share (n,) of the polygons ``outlines`` that lies in ``area``."""
    share = np.zeros(len(outlines))
    if shapely.is_empty(area):
        return share
    shapely.prepare(area)
    inside = shapely.covers(area, outlines)
    share[inside] = 1
    part = np.flatnonzero(~inside & shapely.intersects(area, outlines))
    share[part] = shapely.area(shapely.intersection(area, outlines[part])) / shapely.area(outlines[part])
    return share


def seen_grounds(dates: Sequence[PlacedObjects], plane: LocalPlane, config: DiffConfig) -> list[SeenGround]:
    """What each date shows; says which layers do not tell what was searched.

    Raises:
        DataError: a file of areas cannot be read.
        GeoError: areas in pixels are given for a map, or the reverse.
    """
    return [_seen(date, number, plane, config) for number, date in enumerate(dates, 1)]


def _seen(date: PlacedObjects, number: int, plane: LocalPlane, config: DiffConfig) -> SeenGround:
    masks = [area for ground in _of_date(config.mask, number) for area in _read(ground, date, plane)[0]]
    lost = shapely.union_all(np.array(masks, object)) if masks else shapely.Polygon()
    given = _of_date(config.seen, number)
    if given:
        areas = np.array([area for ground in given for area in _read(ground, date, plane)[0]], object)
        return SeenGround(areas, ("",) * len(areas), np.zeros(len(areas)), lost, plane)
    here, path = _readable(date, config), date.source.path
    found = read_areas(path, only_searched=True) if path.suffix.lower() in _HAS_SEARCHED else None
    if found is not None:
        areas, names = _placed(*found, plane)
    elif here and len(here) == len(date.source.scene_paths) == len(georefs := _georefs(here)):
        names = [*here]
        areas = np.array([plane.footprint(georefs[name]) for name in names], object)
    else:
        logger.warning(
            "%s: does not say what ground was searched, so all counts as seen: give that ground with --seen %d:FILE",
            *(path, number),
        )
        return SeenGround(None, (), np.zeros(0), lost, plane)
    offsets = np.array([date.offsets.get(name, 0.0) for name in names])
    moved = [
        shapely.transform(area, lambda xy, off=off: xy + (off, 0)) for area, off in zip(areas, offsets, strict=True)
    ]
    return SeenGround(np.array(moved, object), tuple(here.get(name, "") for name in names), offsets, lost, plane)


def _readable(date: PlacedObjects, config: DiffConfig) -> dict[str, str]:
    """Rasters of a date's scenes by name: those on this machine, and on a network those that were searched just now."""
    searched = config.weights is not None
    return {
        name: path
        for name, path in date.source.scene_paths.items()
        if (searched and is_remote(path)) or (is_local(path) and Path(path).exists())
    }


def _georefs(paths: Mapping[str, str]) -> dict[str, Georef]:
    """Georeference of each raster that can be read, by name."""
    found = {}
    for name, path in paths.items():
        with suppress(DataError), Scene.open(path, stretch="none") as scene:
            found[name] = scene.georef
    return found


def _of_date(grounds: Sequence[Ground], number: int) -> list[Ground]:
    return [ground for ground in grounds if ground.date in (None, number)]


def _read(ground: Ground, date: PlacedObjects, plane: LocalPlane) -> tuple[NDArray[np.object_], list[str]]:
    if not ground.path.exists():
        raise DataError(f"{ground.path}: no such file: check the name")
    found = read_areas(ground.path)
    assert found is not None
    if (found[1] is None) != (date.crs is None):
        kinds = ("in pixels", "in map coordinates")
        own, other = kinds if found[1] is None else kinds[::-1]
        raise GeoError(f"{ground.path}: is {own}, but the objects are {other}: give areas like them")
    return _placed(*found, plane)


def _placed(areas: Areas, crs: CRS | None, plane: LocalPlane) -> tuple[NDArray[np.object_], list[str]]:
    """Areas in the plane, with the names of their scenes; those without a place left out."""
    here = [
        (plane.area(area, crs), name)
        for area, name in zip(areas.geometries, areas.fields["scene"], strict=True)
        if area is not None
    ]
    kept = [(area, str(name)) for area, name in here if not shapely.is_empty(area)]
    return np.array([area for area, _ in kept], object), [name for _, name in kept]


def check_overlap(dates: Sequence[PlacedObjects], grounds: Sequence[SeenGround], reach: float) -> None:
    """Refuse dates that share no ground.

    Args:
        dates: all of them.
        grounds: what each shows.
        reach: how far objects of two dates may lie apart, in the plane.

    Raises:
        GeoError: two dates in sequence have no ground in common.
    """
    boxes = [_extent(date, ground, reach) for date, ground in zip(dates, grounds, strict=True)]
    for one, two, first, second in zip(dates, dates[1:], boxes, boxes[1:], strict=False):
        if first is not None and second is not None and not shapely.intersects(first, second):
            apart = _far(shapely.distance(first, second), one.crs)
            raise GeoError(
                f"{one.source.path} and {two.source.path} share no ground ({apart} apart): give layers of one place"
            )


def _extent(date: PlacedObjects, ground: SeenGround, reach: float) -> shapely.Geometry | None:
    """Upright box around a date's objects and ground; None if nothing is known of it."""
    points = [date.boxes[:, :2]]
    if ground.areas is not None and len(ground.areas):
        points.append(shapely.get_coordinates(ground.areas))
    every = np.concatenate(points)
    if not len(every):
        return None
    return shapely.box(*every.min(0) - reach, *every.max(0) + reach)


def _far(apart: float, crs: CRS | None) -> str:
    if crs is None:
        return f"{apart:,.0f} pixels"
    return f"{apart / 1000:,.3g} km" if apart >= 1000 else f"{apart:,.0f} m"


def check_sizes(dates: Sequence[PlacedObjects], config: DiffConfig) -> None:
    """Refuse layers in pixels of pictures of different sizes, as far as these are known.

    Raises:
        GeoError: the pictures of two dates differ in size.
    """
    sizes: dict[float, tuple[str, Path]] = {}
    for date in dates if dates[0].crs is None else ():
        for name, georef in _georefs(_readable(date, config)).items():
            size = f"{georef.width} × {georef.height}"
            first, path = sizes.setdefault(date.offsets.get(name, 0.0), (size, date.source.path))
            if first != size:
                raise GeoError(
                    f"{path} is of {first} pixels, {date.source.path} of {size}: "
                    "without georeference, pictures must be of one size"
                )
