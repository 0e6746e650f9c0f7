"""What was found in all scenes, kept on the disk while it is written: memory holds one scene at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array, Detections
from legnet_cli.engine.predict.results import SceneResult
from legnet_cli.files import writable

_ROW = np.dtype([("box", np.float64, 5), ("label", np.int64), ("score", np.float32), ("views", np.float32)], align=True)


def spool(scenes: Iterable[SceneResult]) -> list[SceneResult]:
    """The same scenes with boxes that are read when they are looked at, so that memory need not hold them.

    They lie in a file of the folder for temporary ones (``TMPDIR``), which goes when nobody looks at it any more.

    Args:
        scenes: taken one after another.

    Raises:
        DataError: the disk is full.
    """
    kept, count = [], 0
    with writable(Path(tempfile.gettempdir())), tempfile.TemporaryFile(prefix="legnet-") as file:
        for scene in scenes:
            found, start = scene.detections, count
            own = _rows(scene.grid_boxes, found)
            other = _rows(found.boxes, found) if scene.grid_boxes is not found.boxes else own[:0]
            for rows in (own, other):
                file.write(rows.tobytes())
                count += len(rows)
            bare = replace(scene, detections=found[:0], grid_boxes=np.zeros((0, 5)))
            kept.append((bare, start, start + len(own), count))
        file.flush()
        rows = np.memmap(file, _ROW, "r", shape=count) if count else np.zeros(0, _ROW)
    return [_read(scene, rows[start:middle], rows[middle:stop]) for scene, start, middle, stop in kept]


def _rows(boxes: Array, found: Detections) -> NDArray[np.void]:
    rows = np.empty(len(found), _ROW)
    rows["box"], rows["label"], rows["score"] = boxes, found.labels, found.scores
    rows["views"] = np.nan if found.views is None else found.views
    return rows


def _read(scene: SceneResult, own: NDArray[np.void], other: NDArray[np.void]) -> SceneResult:
    """A scene with the boxes of its grid, and those of its raster where they are others."""
    raster = other if len(other) else own
    views = None if scene.detections.views is None else own["views"]
    found = Detections(raster["box"], own["score"], own["label"], views=views)
    return replace(scene, detections=found, grid_boxes=own["box"])
