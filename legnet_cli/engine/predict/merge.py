"""Merge the detections of overlapping tiles so that each object of a scene is reported once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.boxes import Array, Detections
from legnet_cli.ops.iou import candidate_pairs, rotated_iou
from legnet_cli.ops.quads import quad_areas, quad_iou
from legnet_cli.tiles import Tile

SAME_IOU = 0.1  # of two boxes that are one object: the DOTA development kit's
SAME_OBJECT = 0.5  # share of a cut box inside a larger one that makes it a part of that object
CUT_MARGIN = 4.0  # pixels from a tile's border within which a box may have been cut by it
_CHUNK = 50_000  # boxes

_Pairs = Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]


def merge_tiles(
    found: Detections, tile_of: NDArray[np.int64], tiles: Sequence[Tile], shape: tuple[int, int]
) -> Detections:
    """Detections of a scene from those of its tiles, best score first.

    Two boxes of one class from different tiles are the same object if the IoU of their outlines is above
    ``SAME_IOU``, or if one of them was cut by its tile's border and lies mostly inside the other. The uncut box stays;
    of two uncut boxes the higher score, of two cut ones the larger. Boxes of the same tile never remove each other,
    for the detector has already chosen among them. The order of ``found`` does not matter.

    Args:
        found: boxes in scene pixels.
        tile_of: (n,) index into ``tiles`` of the tile each box was found in.
        tiles: the windows that were searched.
        shape: height and width of the scene in pixels.
    """
    order = np.lexsort((*found.boxes.T, tile_of, found.labels, -found.scores.astype(np.float64)))
    found, tile_of = found[order], tile_of[order]
    if len(np.unique(tile_of)) < 2:
        return found
    area = _areas(found)
    low, high = _bounds(found)
    cut = _cut_by_tile(found.boxes, low, high, tile_of, tiles, shape)
    # rank 0 is taken first: uncut boxes by score, then cut boxes by size
    rank = np.empty(len(found), np.int64)
    rank[np.lexsort((np.arange(len(found)), np.where(cut, -area, 0.0), cut))] = np.arange(len(found))

    pairs = _touching(found.boxes, low[:, 1], high[:, 1])
    first, second = _removals(found, tile_of, rank, cut, pairs)
    keep = np.ones(len(found), bool)
    for pair in np.argsort(rank[first], kind="stable"):  # whoever could remove a winner has been judged before it
        if keep[first[pair]]:
            keep[second[pair]] = False
    return found[keep]


def _areas(found: Detections) -> NDArray[np.float64]:
    if found.quads is None:
        return np.asarray(found.boxes[:, 2] * found.boxes[:, 3])
    return quad_areas(torch.from_numpy(found.quads)).numpy()


def _cut_by_tile(
    boxes: Array, low: Array, high: Array, tile_of: NDArray[np.int64], tiles: Sequence[Tile], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which boxes come near or over a border of their tile that is not a border of the scene."""
    used, which = np.unique(tile_of, return_inverse=True)
    windows = [tiles[number] for number in used.tolist()]
    start = np.array([(t.col, t.row) for t in windows], np.float64)[which]
    stop = start + np.array([(t.width, t.height) for t in windows], np.float64)[which]
    scene = np.array([shape[1], shape[0]], np.float64)
    margin = np.maximum(CUT_MARGIN, 0.1 * boxes[:, 2:3])
    near_start = (low < start + margin) & (start > 0)
    near_stop = (high > stop - margin) & (stop < scene)
    return np.asarray((near_start | near_stop).any(1))


def _bounds(found: Detections) -> tuple[Array, Array]:
    """Least and greatest x, y (n, 2) of outlines; some at a time, for corners take much more memory."""
    low, high = np.empty((2, len(found), 2))
    for start in range(0, len(found), _CHUNK):
        rows = slice(start, start + _CHUNK)
        corners = found[rows].corners
        low[rows], high[rows] = corners.min(1), corners.max(1)
    return low, high


def _touching(boxes: Array, top: Array, bottom: Array) -> _Pairs:
    """Pairs of boxes that may touch, each once, in chunks (k,), (k,); a band of the scene at a time, for memory."""
    order = np.argsort(top, kind="stable")
    for start in range(0, len(order), _CHUNK):
        own, above = order[start : start + _CHUNK], order[:start]
        rows = np.concatenate([own, above[bottom[above] >= top[own[0]]]])
        for i, j in candidate_pairs(torch.from_numpy(boxes[rows])):
            one, two = i.numpy(), j.numpy()
            here = (one < len(own)) | (two < len(own))  # the others are of an earlier band
            yield rows[one[here]], rows[two[here]]


def _removals(
    found: Detections, tile_of: NDArray[np.int64], rank: NDArray[np.int64], cut: NDArray[np.bool_], pairs: _Pairs
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of ``pairs``, those that are one object: the box to keep, of lower rank, and the one it removes."""
    boxes = torch.from_numpy(found.boxes)
    area = _areas(found)
    winners, losers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for one, two in pairs:
        related = (found.labels[one] == found.labels[two]) & (tile_of[one] != tile_of[two])
        one, two = one[related], two[related]
        swap = rank[one] > rank[two]
        first, second = np.where(swap, two, one), np.where(swap, one, two)
        if found.quads is None:
            ious = rotated_iou(boxes[first], boxes[second], aligned=True).numpy()
        else:
            ious = quad_iou(found.quads[first], found.quads[second])
        smaller = np.minimum(area[first], area[second]).clip(1e-12)
        inside = ious * (area[first] + area[second]) / (1 + ious) / smaller
        part = cut[second] & (area[second] <= area[first]) & (inside > SAME_OBJECT)
        removes = (ious > SAME_IOU) | part
        winners.append(first[removes])
        losers.append(second[removes])
    return np.concatenate(winners), np.concatenate(losers)
