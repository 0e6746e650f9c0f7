"""The objects found in scenes, written as a layer in map coordinates, a table in pixels or DOTA text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Detections
from legnet_cli.data.tables import TASK1_FILES, ImageDetections, check_task1, write_csv, write_task1
from legnet_cli.errors import ConfigError, GeoError
from legnet_cli.files import check_output, is_folder_output
from legnet_cli.geo.crs import CRS, WGS84, parse_crs
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.vector import SUFFIXES, Layer, check_format, write_layer

TABLE_SUFFIX = ".csv"
SOURCE_CRS = "source"


@dataclass(frozen=True)
class SceneResult:
    """Objects of one scene.

    Attributes:
        path: the raster, as it was opened.
        name: its file name.
        detections: boxes in pixels of the raster, best score first.
        polygons: (n, 4, 2) corners in pixels of the raster.
        georef: the raster's coordinates.
        tiles: how many tiles were searched.
        km2: ground area searched, in square kilometres; None without georeference.
    """

    path: str
    name: str
    detections: Detections
    polygons: NDArray[np.float64]
    georef: Georef
    tiles: int
    km2: float | None


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
        write_csv(out, [_table(scene) for scene in scenes], classes)
    else:
        write_layer(out, _layer(out, scenes, classes, model, crs))


def _is_layer(out: Path) -> bool:
    return not is_folder_output(out) and out.suffix.lower() != TABLE_SUFFIX


def _table(scene: SceneResult) -> ImageDetections:
    centres = scene.detections.boxes[:, :2]
    lonlat = scene.georef.to_lonlat(centres) if scene.georef.has_lonlat else None
    return ImageDetections(scene.name, scene.detections, lonlat)


def _layer(out: Path, scenes: Sequence[SceneResult], classes: Sequence[str], model: str, crs: str) -> Layer:
    target = scenes[0].georef.crs if crs == SOURCE_CRS else parse_crs(crs)
    if target is not None and out.suffix.lower() == ".geojson":
        target = WGS84
    polygons = [_on_map(scene, target) for scene in scenes]
    measures = [scene.georef.measure(scene.polygons) for scene in scenes]
    found = Detections.concat([scene.detections for scene in scenes])
    counts = [len(scene.detections) for scene in scenes]
    fields = {
        "class": np.array(classes, np.str_)[found.labels],
        "score": found.scores.astype(np.float64).round(4),
        "length_m": np.concatenate([m.length_m for m in measures]).round(3),
        "width_m": np.concatenate([m.width_m for m in measures]).round(3),
        "area_m2": np.concatenate([m.area_m2 for m in measures]).round(3),
        "azimuth_deg": np.concatenate([m.azimuth_deg for m in measures]).round(2) % 180,
        "scene": np.repeat([scene.name for scene in scenes], counts),
        "model": np.full(sum(counts), model),
    }
    return Layer(np.concatenate(polygons), target, fields)


def _on_map(scene: SceneResult, target: CRS | None) -> NDArray[np.float64]:
    """Corners (n, 4, 2) in ``target``; without one, in the scene's own map coordinates."""
    pixels = scene.polygons.reshape(-1, 2)
    georef = scene.georef
    points = georef.to_map(pixels) if target is None or target == georef.crs else georef.to_crs(pixels, target)
    return points.reshape(-1, 4, 2)
