"""Which object of one date is which of another: the best assignment one to one, within each class and a gate.

Likeness of a pair is between 0 and 1, made of IoU, distance, angle and length. The assignment has the greatest sum of
likenesses, exactly: pairs that outweigh all that competes with them are taken at once, and what is left falls apart
into components that are each solved by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

from legnet_cli.boxes import Array
from legnet_cli.engine.diff.register import near_pairs
from legnet_cli.ops.iou import Rectangles, paired_iou

# shares of the likeness: of a row of parked cars of which one left, the others are to stay where they are
_IOU, _NEAR, _DIRECTION, _LENGTH = 0.5, 0.3, 0.1, 0.1
_SQUARE = 0.8  # width / length from which on a box has no direction
_DENSE = 4_000_000  # entries of a component's matrix that are written out
_CHUNK = 200_000  # pairs looked at at once

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Gate:
    """What one object can be on two dates.

    Attributes:
        reach: farthest that it moves, in the plane; None for its own length.
        iou: least IoU of its boxes.
        length_ratio: least ratio of its lengths.
    """

    reach: float | None = None
    iou: float = 0.0
    length_ratio: float = 0.5


def match(old: Array, new: Array, old_labels: Index, new_labels: Index, gate: Gate) -> tuple[Index, Index]:
    """Pairs i, j (k,) of boxes (n, 5) and (m, 5), registered, that are one object; each box is in one pair at most."""
    reach = np.concatenate([old[:, 2], new[:, 2]]) if gate.reach is None else np.float64(gate.reach)
    i, j = near_pairs(old, new, old_labels, new_labels, reach)
    far = np.hypot(*(old[i, :2] - new[j, :2]).T)
    limit = (old[i, 2] + new[j, 2]) / 2 if gate.reach is None else np.full(len(i), max(gate.reach, 1e-9))
    ratio = np.minimum(old[i, 2], new[j, 2]) / np.maximum(old[i, 2], new[j, 2])
    iou = _ious(old, new, i, j)
    inside = (ratio >= gate.length_ratio) & (iou >= gate.iou)
    i, j, far, limit, ratio, iou = (values[inside] for values in (i, j, far, limit, ratio, iou))
    turn = np.abs(np.nan_to_num(turns(old[i], new[j]))) / 90
    unlike = _IOU * (1 - iou) + _NEAR * np.sqrt(np.minimum(far / limit, 1)) + _DIRECTION * turn + _LENGTH * (1 - ratio)
    return assign(i, j, np.maximum(1 - unlike, 1e-6), len(old), len(new))


def _ious(old: Array, new: Array, i: Index, j: Index) -> Array:
    one, two = (Rectangles.of(torch.from_numpy(boxes)) for boxes in (old, new))
    parts = [np.zeros(0)]
    for start in range(0, len(i), _CHUNK):
        rows = slice(start, start + _CHUNK)
        parts.append(
            paired_iou(one.take(torch.from_numpy(i[rows])), two.take(torch.from_numpy(j[rows])), "iou").numpy()
        )
    return np.concatenate(parts)


def turns(old: Array, new: Array) -> Array:
    """Degrees (n,) in [-90, 90), clockwise, by which boxes (n, 5) are turned; NaN where one is nearly square."""
    angle = np.degrees(new[:, 4] - old[:, 4])
    directed = (old[:, 3] < _SQUARE * old[:, 2]) & (new[:, 3] < _SQUARE * new[:, 2])
    return np.where(directed, (angle + 90) % 180 - 90, np.nan)


def assign(i: Index, j: Index, likeness: Array, n: int, m: int) -> tuple[Index, Index]:
    """The pairs among i, j (k,), each index in one at most, whose likenesses (k,) above 0 have the greatest sum.

    Args:
        i, j: indices below ``n`` and ``m``.
        likeness: of each pair.
        n, m: numbers of objects.
    """
    taken: list[NDArray[np.int64]] = [np.zeros((2, 0), np.int64)]
    while len(i):
        sure = _dominant(i, j, likeness, n, m)
        if not sure.any():
            break
        taken.append(np.stack([i[sure], j[sure]]))
        busy_i, busy_j = np.zeros(n, np.bool_), np.zeros(m, np.bool_)
        busy_i[i[sure]], busy_j[j[sure]] = True, True
        left = ~(busy_i[i] | busy_j[j])
        i, j, likeness = i[left], j[left], likeness[left]
    if len(i):
        taken += _by_component(i, j, likeness, n, m)
    first, second = np.concatenate(taken, 1)
    order = np.argsort(first, kind="stable")
    return first[order], second[order]


def _dominant(i: Index, j: Index, likeness: Array, n: int, m: int) -> NDArray[np.bool_]:
    """Which pairs are in some best assignment for sure: they outweigh the best rivals at both ends together."""
    rivals = _best_rival(i, likeness, n) + _best_rival(j, likeness, m)
    sure = likeness >= rivals
    # of pairs that are equal, the first at each end
    rows = np.flatnonzero(sure)
    for side in (i, j):
        rows = rows[np.unique(side[rows], return_index=True)[1]]
    return np.isin(np.arange(len(i)), rows)


def _best_rival(ends: Index, likeness: Array, count: int) -> Array:
    """For each pair, the greatest likeness among the other pairs at the same end; 0 if there are none."""
    order = np.lexsort((-likeness, ends))
    sorted_ends = ends[order]
    first = np.concatenate([[True], sorted_ends[1:] != sorted_ends[:-1]])
    starts = np.flatnonzero(first)
    best, second = np.zeros(count), np.zeros(count)
    best[sorted_ends[starts]] = likeness[order[starts]]
    has_next = starts + 1 < len(order)
    nexts = starts[has_next] + 1
    nexts = nexts[~first[nexts]]
    second[sorted_ends[nexts]] = likeness[order[nexts]]
    is_best = np.zeros(len(ends), np.bool_)
    is_best[order[starts]] = True
    return np.where(is_best, second[ends], best[ends])


def _by_component(i: Index, j: Index, likeness: Array, n: int, m: int) -> list[NDArray[np.int64]]:
    """The best assignment of each connected component."""
    graph = coo_array((np.ones(len(i), np.int8), (i, j + n)), shape=(n + m, n + m))
    component = connected_components(graph, directed=False)[1][i]
    order = np.argsort(component, kind="stable")
    stops = np.flatnonzero(np.diff(component[order])) + 1
    found = []
    for rows in np.split(order, stops):
        ends_i, own_i = np.unique(i[rows], return_inverse=True)
        ends_j, own_j = np.unique(j[rows], return_inverse=True)
        chosen = _solve(own_i, own_j, likeness[rows], len(ends_i), len(ends_j))
        found.append(np.stack([ends_i[chosen[0]], ends_j[chosen[1]]]))
    return found


def _solve(i: Index, j: Index, likeness: Array, n: int, m: int) -> tuple[Index, Index]:
    """The best assignment of one component."""
    if n * m <= _DENSE:
        matrix = np.zeros((n, m))
        matrix[i, j] = likeness
        rows, columns = linear_sum_assignment(matrix, maximize=True)
        real = matrix[rows, columns] > 0
        return rows[real], columns[real]
    # each object of the older date may stay alone, at a column of its own
    alone = np.arange(n)
    cost = np.concatenate([2 - likeness, np.full(n, 2.0)])
    # older SciPy takes no other indices than these
    ends = (np.concatenate([i, alone]).astype(np.int32), np.concatenate([j, m + alone]).astype(np.int32))
    rows, chosen = min_weight_full_bipartite_matching(coo_array((cost, ends), shape=(n, m + n)).tocsr())
    real = chosen < m
    return rows[real].astype(np.int64), chosen[real].astype(np.int64)
