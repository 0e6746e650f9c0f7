r"""How probable a change is, given calibrated probabilities that each box is an object.

An object that was found once may have been missed on the other date. With

- p: the probability that the box is an object,
- r: the recall, the share of the objects there that the model finds,
- s: the share of objects that stay from one date to the other,

an object that was missed is absent with the probability (1 - s) / ((1 - s) + s (1 - r)), and the change is real with p
times that. Of the objects of one date on ground that both saw, the share q that is found again is s r; it is counted by
class, each object by its p (and one of two more, so that it is never 0 or 1). If r is given, s = q / r, at most 1. If
not, what was not found again is laid to both alike, s = r = sqrt(q): a miss is then about as probable as a change.

A move, turn or resizing is as probable as that both boxes are objects: p of one times p of the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.engine.diff.kinds import GONE, NEW, SAME, UNSEEN
from legnet_cli.engine.layers.placed import PlacedObjects

Index = NDArray[np.int64]


def change_probabilities(
    old: PlacedObjects, new: PlacedObjects, old_rows: Index, new_rows: Index, kinds: Index, recall: float | None
) -> Array | None:
    """Probability (n,) of each change; NaN for what is the same or unseen. None if a date has no probabilities.

    Args:
        old, new: the dates.
        old_rows, new_rows: (n,) their objects; -1 where there is none.
        kinds: (n,) of change, see :mod:`legnet_cli.engine.diff.kinds`.
        recall: of the model, if known.
    """
    if old.probabilities is None or new.probabilities is None:
        return None
    of_old, of_new = taken(old.probabilities, old_rows), taken(new.probabilities, new_rows)
    probability = of_old * of_new
    for once, own, date, rows in ((GONE, of_old, old, old_rows), (NEW, of_new, new, new_rows)):
        labels = date.labels[rows.clip(0)] if len(date) else np.zeros(len(rows), np.int64)
        for label in np.unique(labels[kinds == once]).tolist():
            alone = (kinds == once) & (labels == label)
            both = (old_rows >= 0) & (new_rows >= 0) & (labels == label)
            again, all_of = np.nansum(own[both]), np.nansum(own[both | alone])
            probability[alone] = own[alone] * absence((again + 1) / (all_of + 2), recall)
    probability[(kinds == SAME) | (kinds == UNSEEN)] = np.nan
    return probability


def absence(again: float, recall: float | None) -> float:
    """Probability that an object which is not found is absent, if a share ``again`` of objects is found again."""
    stays = min(again / recall, 1.0) if recall else np.sqrt(again)
    missed = 1 - (recall or stays)
    gone = 1 - stays
    return float(gone / (gone + stays * missed)) if gone + stays * missed > 0 else 0.0


def taken(values: Array, rows: Index) -> Array:
    """Values (n,) of ``rows``; NaN for -1."""
    padded: Array = np.concatenate([values, [np.nan]])
    return padded[rows]
