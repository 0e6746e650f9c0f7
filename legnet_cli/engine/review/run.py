"""Choose what is worth a look, and write it so that it can be corrected.

from legnet_cli.engine.review import ReviewConfig, review
result = review(ReviewConfig(boxes=("boxes.gpkg",), out=Path("review.gpkg"), most=200))
print(result.counts)
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path

import numpy as np

from legnet_cli.boxes import Array
from legnet_cli.detectors.weights.calibration import DEFAULT_SCORE
from legnet_cli.engine.layers.placed import PlacedObjects, in_plane, plane_of
from legnet_cli.engine.layers.source import class_names, read_layers, short_names
from legnet_cli.engine.predict import as_text
from legnet_cli.engine.review.config import ReviewConfig
from legnet_cli.engine.review.pictures import sheets, write_crops, write_sheets
from legnet_cli.engine.review.scenes import SceneObjects, scene_objects
from legnet_cli.engine.review.selection import KINDS, Choice, choose
from legnet_cli.engine.review.write import CROPS, check_outputs, crops_folder, describe, sheet_path, write_layers
from legnet_cli.errors import DataError
from legnet_cli.files import atomic_path
from legnet_cli.geo.vector import sidecars

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReviewResult:
    """What is to be reviewed.

    Attributes:
        objects: to choose from.
        chosen: rows of the review.
        places: squares to look at.
        scenes: in which they lie.
        counts: class -> main reason -> rows.
        out: the GeoPackage.
        sheets: pages of the contact sheet.
        crops: folder of the crops.
        seconds: it took.
    """

    objects: int
    chosen: int
    places: int
    scenes: int
    counts: dict[str, dict[str, int]]
    out: Path
    sheets: tuple[Path, ...]
    crops: Path
    seconds: float


def review(config: ReviewConfig, choose: Callable[..., Choice] = choose) -> ReviewResult:
    """Choose objects of ``config.boxes`` and write them to ``config.out``, with pictures beside it.

    Args:
        config: what to do.
        choose: how; another way to compare with takes the same arguments.

    Raises:
        ConfigError: settings that are wrong or disagree.
        DataError: a layer, scene or output that cannot be used, or nothing that is worth a look.
    """
    start = time.perf_counter()
    check_outputs(config)
    paths = [Path(path) for path in config.boxes]
    sources = read_layers(paths, short_names(paths), config.class_field)
    classes = class_names(sources, config.classes)
    layers = in_plane(sources, plane_of(sources), classes, 0.0)
    if not any(map(len, layers)):
        raise DataError(f"{', '.join(config.boxes)}: no objects to choose from: predict with --score 0.05")
    objects = scene_objects(layers, config.scenes, classes)
    thresholds = _thresholds(layers, classes)
    choice = _choose(objects, thresholds[objects.labels], config, choose)
    known = list(dict.fromkeys([*_model_classes(layers), *classes]))
    _write(config, layers, objects, choice, classes, known)
    leads = np.isfinite(choice.squares).all(1)
    pages = tuple(sheet_path(config.out, page) for page in range(1, sheets(len(choice)) + 1))
    return ReviewResult(
        len(objects),
        len(choice),
        int(leads.sum()),
        len(np.unique(objects.numbers[choice.rows])),
        _counts(objects, choice, classes),
        config.out,
        pages,
        crops_folder(config.out),
        time.perf_counter() - start,
    )


def _model_classes(layers: Sequence[PlacedObjects]) -> dict[str, float]:
    """From which score on each class is reported, as the layers say it."""
    return {name: float(least) for layer in layers for name, least in layer.source.record.get("classes", {}).items()}


def _thresholds(layers: Sequence[PlacedObjects], classes: Sequence[str]) -> Array:
    known = _model_classes(layers)
    return np.array([known.get(name, DEFAULT_SCORE) for name in classes])


def _choose(objects: SceneObjects, thresholds: Array, config: ReviewConfig, choose: Callable[..., Choice]) -> Choice:
    """The choice, with a word on what the layers lack for a better one."""
    paths = ", ".join(config.boxes)
    scored = np.isfinite(objects.scores)
    if not scored.all():
        logger.warning("%s: objects without a score are chosen by size and neighbours alone", paths)
    elif (objects.scores >= thresholds).all():
        logger.warning(
            "%s: no boxes below the reported score, so nothing tells what was missed: predict with --score 0.05", paths
        )
    if scored.any() and not np.isfinite(objects.probabilities).any():
        logger.warning(
            "%s: scores of a model that is not calibrated: those near the reported score count as uncertain; "
            "legnet eval --calibrate --write-back measures which are",
            paths,
        )
    choice = choose(
        objects.boxes,
        objects.labels,
        np.where(scored, objects.scores, 1.0),
        objects.numbers,
        most=config.most,
        thresholds=thresholds,
        probabilities=objects.probabilities,
        views=objects.views,
        gsd=objects.gsd,
        sizes=np.array([(scene.georef.width, scene.georef.height) for scene in objects.scenes]),
    )
    if not len(choice):
        raise DataError(f"{paths}: nothing is worth a look: raise --most, or predict with --score 0.05")
    return choice


def _write(
    config: ReviewConfig,
    layers: Sequence[PlacedObjects],
    objects: SceneObjects,
    choice: Choice,
    classes: Sequence[str],
    known: Sequence[str],
) -> None:
    """Write the GeoPackage and its pictures."""
    out, folder = config.out, crops_folder(config.out)
    old = [*sidecars(out), *takewhile(Path.exists, (sheet_path(out, page) for page in count(1)))]
    with atomic_path(folder, overwrite=config.overwrite, stale=[*folder.glob(CROPS)]) as crops:
        pictures = write_crops(crops, objects, choice, classes, config)
        with atomic_path(out, overwrite=config.overwrite, stale=old) as scratch:
            pages = [sheet_path(scratch, page) for page in range(1, sheets(len(choice)) + 1)]
            write_sheets(pages, pictures, _captions(objects, choice, classes))
            record = as_text(describe(config, layers, objects.scenes))
            write_layers(scratch, objects, choice, classes, known, record)


def _captions(objects: SceneObjects, choice: Choice, classes: Sequence[str]) -> list[tuple[str, str]]:
    """Number, class and probability or score of each row, and why it was chosen."""
    captions = []
    for place, (row, reason) in enumerate(zip(choice.rows.tolist(), choice.reasons, strict=True), 1):
        probability, score = objects.probabilities[row], objects.scores[row]
        sure = f"p {probability:.2f}" if np.isfinite(probability) else f"score {score:.2f}"
        captions.append((f"{place}  {classes[objects.labels[row]]}  {sure}", reason))
    return captions


def _counts(objects: SceneObjects, choice: Choice, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Rows by class and main reason."""
    found = Counter(zip(objects.labels[choice.rows].tolist(), choice.kinds.tolist(), strict=True))
    return {
        name: {kind: found[label, number] for number, kind in enumerate(KINDS)}
        for label, name in enumerate(classes)
        if any(own == label for own, _ in found)
    }
