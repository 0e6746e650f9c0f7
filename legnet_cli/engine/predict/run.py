"""Find oriented objects in scenes and write them as a layer in map coordinates.

from legnet_cli.engine.predict import PredictConfig, predict
result = predict(PredictConfig(scenes=("scene.tif",), out=Path("boxes.geojson"), weights="legnet-tiny-dota10"))
"""

from __future__ import annotations

import difflib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from legnet_cli.boxes import Detections, boxes_to_polygons, polygons_to_boxes
from legnet_cli.detectors.loader import Detector, load_detector
from legnet_cli.detectors.stages import StageObserver, unobserved
from legnet_cli.detectors.weights.fetch import EMBEDDED
from legnet_cli.engine.predict.config import PredictConfig
from legnet_cli.engine.predict.outputs import SceneResult, check_outputs, check_scenes, write_detections
from legnet_cli.engine.predict.preview import write_preview
from legnet_cli.engine.predict.scan import scan_tiles
from legnet_cli.errors import ConfigError
from legnet_cli.geo.aoi import Aoi, aoi_in_pixels, centres_inside, read_aoi, tiles_touching
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.inputs import expand_scenes
from legnet_cli.geo.raster import Scene
from legnet_cli.tiles import Tile, choose_tiling, tile_grid

logger = logging.getLogger(__name__)

PREVIEW_SIDE = 2048  # pixels of a preview's longer side at most
_CELLS = 16  # along each side of a scene, whose ground areas are summed


@dataclass(frozen=True)
class PredictResult:
    """Objects of all scenes, and what the search took."""

    scenes: tuple[SceneResult, ...]
    classes: tuple[str, ...]
    model: str
    out: Path
    previews: tuple[Path, ...]
    seconds: float

    @property
    def counts(self) -> dict[str, int]:
        """Objects by class name, most frequent first."""
        labels = Counter(int(label) for scene in self.scenes for label in scene.detections.labels)
        return {self.classes[label]: count for label, count in labels.most_common()}

    @property
    def km2(self) -> float | None:
        """Ground area searched, in square kilometres; None if no scene is georeferenced."""
        areas = [scene.km2 for scene in self.scenes if scene.km2 is not None]
        return sum(areas) if areas else None


@dataclass(frozen=True)
class SearchProgress:
    """State of a search: tiles done of all, and the ground area they cover."""

    scene: str
    tiles_done: int
    tiles_total: int
    km2_done: float


@dataclass(frozen=True)
class _Job:
    """One scene with the tiles to search, the area of interest in pixels of its grid and the ground they cover."""

    scene: Scene
    tiles: tuple[Tile, ...]
    aoi: shapely.Geometry | None
    km2: float | None


def predict(
    config: PredictConfig,
    on_progress: Callable[[SearchProgress], None] = lambda progress: None,
    on_download: Callable[[int, int | None], None] = lambda done, total: None,
    detector: Detector | None = None,
    observer: StageObserver = unobserved,
) -> PredictResult:
    """Search ``config.scenes`` and write what is found to ``config.out``.

    Args:
        config: what to do.
        on_progress: told the state of the search after each batch of tiles.
        on_download: told the bytes so far and in all (None if unknown) while weights are fetched.
        detector: weights loaded before, in place of ``config.weights`` and of what says how to run them.
        observer: told of the stages ``read`` (in threads), ``detect``, ``merge`` and ``write``.

    Raises:
        ConfigError: settings that are wrong or disagree.
        DataError: a scene, weight file, area of interest or output that cannot be used.
        DependencyError: a device or package that is absent.
    """
    start = time.perf_counter()
    paths = expand_scenes(config.scenes)
    previews = _preview_paths(config.preview, paths)
    check_outputs(config.out, previews, config.crs, overwrite=config.overwrite)
    aoi = read_aoi(config.aoi) if config.aoi else None
    detector = detector or load_detector(
        config.weights,
        device=config.device,
        engine=config.engine,
        precision=config.precision,
        compile=config.compile,
        score_threshold=config.score,
        progress=on_download,
    )
    logger.debug(
        "%s: %s, %d classes, by %s in %s on %s",
        *(detector.card.name, detector.card.recipe, len(detector.card.classes)),
        *(detector.engine, detector.precision, detector.device),
    )
    if config.weights == EMBEDDED:
        card = detector.card
        logger.info("weights: %s, trained on %s: knows %s", card.name, card.trained_on, ", ".join(card.classes))
    wanted = _class_indices(config.classes, detector.card.classes)
    jobs = [_plan(path, config, detector, aoi) for path in paths]
    georefs = [(job.scene.name, job.scene.georef) for job in jobs]
    check_scenes(georefs, detector.card.classes, config.out, config.crs)
    results = _search(jobs, config, detector, wanted, on_progress, observer)
    with observer("write"):
        write_detections(config.out, results, detector.card.classes, detector.card.name, config.crs)
    for path, job, result in zip(previews, jobs, results, strict=False):
        _draw(path, job.scene, detector.card.classes, result)
    seconds = time.perf_counter() - start
    return PredictResult(
        tuple(results), detector.card.classes, detector.card.name, config.out, tuple(previews), seconds
    )


def _class_indices(names: Sequence[str], known: Sequence[str]) -> NDArray[np.int64] | None:
    """Labels of the wanted class names; None for all."""
    unknown = [name for name in names if name not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"it knows {', '.join(known)}"
        raise ConfigError(f"--classes: the model has no class {unknown[0]!r}; {hint}")
    return np.array(sorted({known.index(name) for name in names}), np.int64) if names else None


def _plan(path: str, config: PredictConfig, detector: Detector, aoi: Aoi | None) -> _Job:
    """Choose the tiles of a scene; every fault its header shows comes out here, before any search."""
    tile, overlap = choose_tiling(config.tile, config.overlap, (detector.card.tile, detector.card.overlap))
    with Scene.open(path, bands=config.bands, stretch=config.stretch, gsd=config.gsd) as scene:
        for warning in scene.warnings:
            logger.warning("%s: %s", scene.name, warning)
        tiles = tile_grid(scene.height, scene.width, tile, overlap)
        logger.debug(
            "%s: %d × %d pixels%s, %d tiles of %d pixels, overlap %d",
            *(scene.name, scene.width, scene.height),
            "" if scene.georef.gsd is None else " of {:.3g} × {:.3g} m".format(*scene.georef.gsd),
            *(len(tiles), tile, overlap),
        )
        km2 = _ground_km2(scene.georef)
        if aoi is None:
            return _Job(scene, tuple(tiles), None, km2)
        in_source = aoi_in_pixels(aoi, scene.georef)
        in_grid = shapely.transform(in_source, lambda xy: xy / (scene.scale_x, scene.scale_y))
        touched = [t for t, touches in zip(tiles, tiles_touching(in_grid, tiles), strict=True) if touches]
        return _Job(scene, tuple(touched), in_grid, km2 and km2 * len(touched) / len(tiles))


def _ground_km2(georef: Georef) -> float | None:
    """Ground area of a scene, summed over a grid, for a pixel of a large scene is not as large everywhere."""
    if georef.gsd is None:
        return None
    x, y = np.meshgrid(np.linspace(0, georef.width, _CELLS + 1), np.linspace(0, georef.height, _CELLS + 1))
    grid = np.stack([x, y], 2)
    corners = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], 2)
    return float(np.nansum(georef.measure(corners.reshape(-1, 4, 2)).area_m2)) / 1e6


def _search(
    jobs: Sequence[_Job],
    config: PredictConfig,
    detector: Detector,
    wanted: NDArray[np.int64] | None,
    on_progress: Callable[[SearchProgress], None],
    observer: StageObserver,
) -> list[SceneResult]:
    total = sum(len(job.tiles) for job in jobs)
    done, km2 = 0, 0.0
    results = []
    for job in jobs:
        per_tile = (job.km2 or 0.0) / max(len(job.tiles), 1)

        def advance(count: int, path: str = job.scene.path, per_tile: float = per_tile) -> None:
            nonlocal done, km2
            done, km2 = done + count, km2 + count * per_tile
            on_progress(SearchProgress(path, done, total, km2))

        begin = time.perf_counter()
        results.append(_search_scene(job, config, detector, wanted, advance, observer))
        found, seconds = len(results[-1].detections), time.perf_counter() - begin
        logger.debug("%s: %d objects in %.1f s", job.scene.name, found, seconds)
    return results


def _search_scene(
    job: _Job,
    config: PredictConfig,
    detector: Detector,
    wanted: NDArray[np.int64] | None,
    advance: Callable[[int], None],
    observer: StageObserver,
) -> SceneResult:
    batch = config.batch or (1 if detector.device.type == "cpu" else 4)
    with job.scene as scene:
        found = scan_tiles(scene, detector, job.tiles, batch, advance, config.score, observer)
        keep = np.ones(len(found), np.bool_)
        if wanted is not None:
            keep &= np.isin(found.labels, wanted)
        if job.aoi is not None:
            keep &= centres_inside(job.aoi, found.boxes[:, :2])
        found = found[keep][: config.max_detections]
        scale = np.array([scene.scale_x, scene.scale_y])
        polygons = boxes_to_polygons(found.boxes) * scale
        if (scale != 1).any():
            found = Detections(polygons_to_boxes(polygons), found.scores, found.labels)
        return SceneResult(scene.path, scene.name, found, polygons, scene.georef, len(job.tiles), job.km2)


def _preview_paths(preview: Path | None, scenes: Sequence[str]) -> list[Path]:
    """Where the preview of each scene goes: the given file, or one beside it for each of several scenes."""
    if preview is None:
        return []
    if preview.suffix.lower() != ".png":
        raise ConfigError(f"--preview {preview} is not a PNG: give a name that ends in .png")
    if len(scenes) == 1:
        return [preview]
    names = [f"{preview.stem}_{Path(scene).stem}" for scene in scenes]
    return [
        preview.with_name(f"{name}.png" if names.count(name) == 1 else f"{name}_{number}.png")
        for number, name in enumerate(names, 1)
    ]


def _draw(path: Path, scene: Scene, classes: Sequence[str], result: SceneResult) -> None:
    with scene:
        image, source_per_pixel = scene.preview(PREVIEW_SIDE)
    found = result.detections
    write_preview(path, image, result.polygons / source_per_pixel, found.labels, classes)
