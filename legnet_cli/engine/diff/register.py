"""The shift between two dates: where most objects of one class and size find one another.

Every pair of like objects within the largest shift votes for the way between them. Objects that stayed vote for the
same way, whatever their pattern; all other votes are spread. The densest spot is refined by medians of the pairs that
are nearest to each other under it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.ops.pairs import cross_pairs

_LEAST = 5  # pairs without which nothing is said of a shift
_SURE = 5.0  # standard deviations by which the densest spot must exceed what chance alone gives
_VOTERS = 20_000  # objects of the older date that vote
_MOST_VOTES = 5_000_000
_ALIKE = 0.8  # ratio of lengths of objects that vote
_ROUNDS = 3


@dataclass(frozen=True)
class Registration:
    """How far the newer of two dates lies off the older.

    Attributes:
        shift: x, y (2,) in the plane: new = old + shift; zero if none could be found.
        pairs: how many objects it rests on, of 20,000 or so at most; 0 if none could be found.
        spread: median distance of these from their places, in the plane.
    """

    shift: Array
    pairs: int = 0
    spread: float = 0.0


NONE = Registration(np.zeros(2))


def register(
    old: Array, new: Array, old_labels: NDArray[np.int64], new_labels: NDArray[np.int64], most: float
) -> Registration:
    """Estimate the shift from boxes ``old`` (n, 5) to ``new`` (m, 5) with their labels, of at most ``most``.

    ``NONE`` where there are too few objects, or no shift fits clearly more of them than chance.
    """
    if min(len(old), len(new)) < _LEAST or most <= 0:
        return NONE
    step = max(1, len(old) // _VOTERS)
    old, old_labels = old[::step], old_labels[::step]
    i, j = near_pairs(old, new, old_labels, new_labels, most)
    ratio = old[i, 2] / new[j, 2]
    alike = np.minimum(ratio, 1 / ratio) > _ALIKE
    ways = new[j[alike], :2] - old[i[alike], :2]
    if len(ways) > _MOST_VOTES:
        ways = ways[:: -(-len(ways) // _MOST_VOTES)]
    if len(ways) < _LEAST:
        return NONE
    width = float(np.median(np.concatenate([old[:, 3], new[:, 3]])))
    radius = float(np.clip(width / 2, most / 100, most / 4))
    shift, votes = _densest(ways, radius, most)
    chance = len(ways) * (radius / most) ** 2
    if votes < max(_LEAST, chance + _SURE * np.sqrt(chance)):
        return NONE
    return _refined(old, new, old_labels, new_labels, shift, radius)


def near_pairs(
    old: Array, new: Array, old_group: NDArray[np.int64], new_group: NDArray[np.int64], reach: float | Array
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs i, j (k,) of boxes (n, 5) and (m, 5) of one group whose centres are within ``reach`` of each other.

    Args:
        old, new: boxes.
        old_group, new_group: (n,), (m,) from 0.
        reach: for all, or of each box of both sets (n + m,), whose mean is a pair's.
    """
    half = np.broadcast_to(np.asarray(reach, np.float64) / 2, (len(old) + len(new),))
    centres = np.concatenate([old[:, :2], new[:, :2]])
    bounds = torch.from_numpy(np.concatenate([centres - half[:, None], centres + half[:, None]], 1))
    group = torch.from_numpy(np.concatenate([old_group, new_group]))
    if not len(old) or not len(new):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    found: list[NDArray[np.int64]] = [np.zeros((2, 0), np.int64)]
    split, groups = len(old), int(group.max()) + 1
    for i, j in cross_pairs(bounds[:split], bounds[split:], group[:split], group[split:], groups):
        pair = np.stack([i.numpy(), j.numpy()])
        way = old[pair[0], :2] - new[pair[1], :2]
        found.append(pair[:, np.hypot(*way.T) <= half[pair[0]] + half[split + pair[1]]])
    first, second = np.concatenate(found, 1)
    return first, second


def _densest(ways: Array, radius: float, most: float) -> tuple[Array, int]:
    """The middle of the densest spot of ``radius`` among ``ways`` (n, 2), and how many of them are in it."""
    cell = radius / 2
    count = 2 * int(np.ceil(most / cell)) + 1
    edge = count * cell / 2
    votes, _, _ = np.histogram2d(ways[:, 0], ways[:, 1], bins=count, range=[[-edge, edge]] * 2)
    around = np.pad(votes, 1)
    blurred = sum(around[x : x + count, y : y + count] for x in range(3) for y in range(3))
    column, row = np.unravel_index(np.argmax(blurred + votes / votes.max() / 2), votes.shape)
    middle = np.array([column, row]) * cell - edge + cell / 2
    for _ in range(_ROUNDS):
        inside = ways[np.hypot(*(ways - middle).T) <= radius]
        if len(inside):
            middle = np.median(inside, axis=0)
    return middle, int((np.hypot(*(ways - middle).T) <= radius).sum())


def _refined(
    old: Array, new: Array, old_labels: NDArray[np.int64], new_labels: NDArray[np.int64], shift: Array, radius: float
) -> Registration:
    """The median way between boxes that are nearest to each other once ``old`` is shifted."""
    for _ in range(_ROUNDS):
        moved = old.copy()
        moved[:, :2] += shift
        i, j = near_pairs(moved, new, old_labels, new_labels, radius)
        far = np.hypot(*(moved[i, :2] - new[j, :2]).T)
        order = np.argsort(far, kind="stable")
        nearest_i, nearest_j = (np.unique(side[order], return_index=True)[1] for side in (i, j))
        mutual = order[np.intersect1d(nearest_i, nearest_j)]
        i, j, far = i[mutual], j[mutual], far[mutual]
        if len(i) < _LEAST:
            return NONE
        shift = np.median(new[j, :2] - old[i, :2], axis=0)
    return Registration(shift, len(i), float(np.median(far)))
