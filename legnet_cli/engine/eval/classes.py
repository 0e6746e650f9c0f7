"""The classes that are measured, and the objects and predictions of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import shapely

from legnet_cli.boxes import Detections, boxes_to_polygons
from legnet_cli.data.labels import IGNORED, unknown_class
from legnet_cli.detectors.weights.recipes import DATASETS
from legnet_cli.engine.eval.matching import Labels, Mask, Predictions, Truths, iou_pairs
from legnet_cli.engine.eval.predictions import ImagePredictions
from legnet_cli.engine.eval.truth import EvalSet
from legnet_cli.errors import ConfigError, DataError


def choose_classes(
    truth: EvalSet, found: Sequence[str], wanted: Sequence[str], source: str, *, model: bool = False
) -> tuple[str, ...]:
    """The classes to measure: those of the model, or of labels and predictions, or of these the ``wanted``.

    Raises:
        DataError: predictions of a class that the labels do not know, or labels that the model does not.
        ConfigError: a wanted or renamed class that neither knows.
    """
    found = [truth.renamed.get(name, name) for name in found]
    both = tuple(dict.fromkeys([*found, *truth.classes] if model else [*truth.classes, *found]))
    for old, new in truth.renamed.items():
        if new not in (*both, IGNORED):
            raise ConfigError(f"--rename: {unknown_class(old, both)}")
    for name in wanted:
        if name not in both:
            raise ConfigError(f"--classes: {unknown_class(name, both)}")
    if wanted:
        return tuple(dict.fromkeys(wanted))
    hint = "correct the names, or choose the classes to measure with --classes"
    # a class that has no object in these labels, but belongs to their dataset, is known
    kin = [d.classes for d in DATASETS.values() if set(truth.classes) <= set(d.classes)]
    known = dict.fromkeys([*truth.classes, *(name for names in kin for name in names)])
    for name in truth.classes if model else found:
        if name not in (found if model else known):
            side = f"{truth.source}: labels of" if model else f"{source}: predictions of"
            raise DataError(f"{side} {unknown_class(name, found if model else known)}; {hint}")
    return both


def select_classes(truth: EvalSet, found: ImagePredictions, classes: Sequence[str]) -> tuple[Truths, Predictions]:
    """Objects and predictions of ``classes`` alone, their labels counted in these.

    An ignored region is an ignored object of each class, and what is predicted in such regions counts only where it
    lies over an object.
    """
    old = truth.truths
    labels = _relabel(old.labels, truth.classes, classes)
    region = np.flatnonzero(old.labels == len(truth.classes))
    keep = np.concatenate([np.flatnonzero(labels >= 0), np.repeat(region, len(classes))])
    labels = np.concatenate([labels[labels >= 0], np.tile(np.arange(len(classes)), len(region))])
    truths = replace(old.take(keep), labels=labels)
    merged = Detections.concat(list(found.images))
    images = np.repeat(np.arange(len(found.images)), [len(part) for part in found.images])
    labels = _relabel(merged.labels, [truth.renamed.get(name, name) for name in found.classes], classes)
    metres = truth.metres(boxes_to_polygons(merged.boxes), images)
    selected = Predictions(merged.boxes, merged.scores, labels, images, metres, merged.quads)
    selected = selected.take(labels >= 0)
    return truths, selected.take(~_passed_over(selected, old.take(old.labels < len(truth.classes)), old.take(region)))


def _passed_over(found: Predictions, objects: Truths, regions: Truths) -> Mask:
    """Which predictions lie over no object, and with over half of their area in the regions of their image together."""
    inside = np.zeros(len(found), np.bool_)
    order = np.argsort(found.images, kind="stable")
    for image in np.unique(regions.images).tolist():
        start, end = np.searchsorted(found.images[order], [image, image + 1])
        rows = order[start:end]
        ground = shapely.union_all(shapely.make_valid(shapely.polygons(regions.quads[regions.images == image])))
        shapely.prepare(ground)
        shapes = shapely.make_valid(shapely.polygons(found.outlines[rows]))
        inside[rows] = shapely.area(shapely.intersection(shapes, ground)) > shapely.area(shapes) / 2
    rows = np.flatnonzero(inside)
    few = found.take(rows)
    over, _, _ = iou_pairs(few.boxes, objects.quads, few.images, objects.images, few.quads)
    inside[rows[over]] = False
    return inside


def _relabel(labels: Labels, old: Sequence[str], new: Sequence[str]) -> Labels:
    """Labels that index ``new`` in place of ``old``; -1 for what is not there."""
    index = {name: i for i, name in enumerate(new)}
    return np.array([*(index.get(name, -1) for name in old), -1], np.int64)[labels]
