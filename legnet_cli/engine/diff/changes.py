"""What became of each object between two dates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.engine.diff.config import DiffConfig
from legnet_cli.engine.diff.ground import SeenGround
from legnet_cli.engine.diff.kinds import GONE, MOVED, NEW, RESIZED, SAME, TURNED, UNSEEN
from legnet_cli.engine.diff.match import Gate, match, turns
from legnet_cli.engine.diff.noise import Noise, beyond, measure_noise
from legnet_cli.engine.diff.probability import change_probabilities
from legnet_cli.engine.diff.register import NONE, Registration, register
from legnet_cli.engine.layers.placed import PlacedObjects
from legnet_cli.geo.local import LocalPlane

# the least changes: a share of the width, degrees, the logarithm of a ratio
_MOVED, _TURNED, _RESIZED = 0.5, 15.0, float(np.log(1.25))


@dataclass(frozen=True)
class Changes:
    """The objects of two dates, those that are one object as one.

    Attributes:
        old, new: the dates.
        registration: of the newer date on the older.
        old_rows, new_rows: (n,) the object on each date; -1 where it was not found.
        kinds: (n,) index :data:`legnet_cli.engine.diff.kinds.CHANGES`.
        moved: (n,) metres on the ground (or pixels) beyond the shift; NaN for what was found once.
        bearing: (n,) degrees clockwise from true north (or up) of that way.
        turned: (n,) degrees clockwise, from -90 to 90; NaN for what was found once or is nearly square.
        probability: (n,) of the change, NaN for ``same`` and ``unseen``; None without probabilities of the objects.
        noise: of boxes of one object.
        left_out: changes that were too improbable.
    """

    old: PlacedObjects
    new: PlacedObjects
    registration: Registration
    old_rows: NDArray[np.int64]
    new_rows: NDArray[np.int64]
    kinds: NDArray[np.int64]
    moved: Array
    bearing: Array
    turned: Array
    probability: Array | None
    noise: Noise
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class (n,) of each object."""
        return in_either(self.old.labels, self.new.labels, self.old_rows, self.new_rows)

    @property
    def boxes(self) -> Array:
        """Newest box (n, 5) of each object in the plane, as its date has it."""
        return in_either(self.old.boxes, self.new.boxes, self.old_rows, self.new_rows)


def in_either(
    old: NDArray[Any], new: NDArray[Any], old_rows: NDArray[np.int64], new_rows: NDArray[np.int64]
) -> NDArray[Any]:
    """Values of the newer date, of the older for objects that were found then alone."""
    values = np.empty((len(old_rows), *new.shape[1:]), np.result_type(old, new))
    found = new_rows >= 0
    values[found], values[~found] = new[new_rows[found]], old[old_rows[~found]]
    return values


def gate_of(config: DiffConfig) -> Gate:
    """The gate that settings ask for."""
    return Gate(config.max_move, config.min_iou, config.length_ratio)


def find_changes(
    dates: Sequence[PlacedObjects], grounds: Sequence[SeenGround], plane: LocalPlane, config: DiffConfig
) -> Changes:
    """Match the objects of two dates, whose ``grounds`` are given, and say what changed."""
    old, new = dates
    shift = NONE if config.no_register else register(old.boxes, new.boxes, old.labels, new.labels, config.max_shift)
    placed = shifted(old.boxes, shift.shift)
    i, j = match(placed, new.boxes, old.labels, new.labels, gate_of(config))
    alone_new, alone_old = np.delete(np.arange(len(new)), j), np.delete(np.arange(len(old)), i)
    seen_before = grounds[0].shows(shifted(new.boxes[alone_new], -shift.shift))
    seen_after = grounds[1].shows(placed[alone_old])
    old_rows = np.concatenate([i, np.full(len(alone_new), -1), alone_old])
    new_rows = np.concatenate([j, alone_new, np.full(len(alone_old), -1)])
    noise, kinds, *measures = _between(placed[i], new.boxes[j], plane, config)
    kinds = np.concatenate([kinds, np.where(seen_before, NEW, UNSEEN), np.where(seen_after, GONE, UNSEEN)])
    unknown = np.full(len(alone_new) + len(alone_old), np.nan)
    moved, bearing, turned = (np.concatenate([values, unknown]) for values in measures)
    found = Changes(
        old,
        new,
        shift,
        old_rows,
        new_rows,
        kinds,
        moved,
        bearing,
        turned,
        change_probabilities(old, new, old_rows, new_rows, kinds, config.recall),
        noise,
    )
    return _probable(found, config.min_probability)


def shifted(boxes: Array, shift: Array) -> Array:
    """Boxes (n, 5) moved by ``shift`` (2,)."""
    moved: Array = boxes + np.array([*shift, 0, 0, 0])
    return moved


def _between(
    old: Array, new: Array, plane: LocalPlane, config: DiffConfig
) -> tuple[Noise, NDArray[np.int64], Array, Array, Array]:
    """Noise, then kind, way, bearing and turn (k,) of objects found on both dates, boxes (k, 5) each, registered.

    What has moved and turned counts as moved, what has turned and is resized as turned.
    """
    way, bearing = plane.way(old[:, :2], new[:, :2])
    turned = turns(old, new)
    growth = np.log(new[:, 2:4] / old[:, 2:4])
    width = (old[:, 3] + new[:, 3]) / 2 / plane.scale(new[:, :2])
    noise = measure_noise(way / width, turned, growth)
    most = [beyond(_RESIZED, noise.length), beyond(_RESIZED, noise.width)]
    if config.resized is not None:
        most = [np.log1p(config.resized)] * 2
    kinds = np.full(len(old), SAME)
    kinds[(np.abs(growth) > most).any(1)] = RESIZED
    kinds[np.abs(turned) > (beyond(_TURNED, noise.angle) if config.turned is None else config.turned)] = TURNED
    kinds[way > (width * beyond(_MOVED, noise.place) if config.moved is None else config.moved)] = MOVED
    return noise, kinds, way, bearing, turned


def _probable(found: Changes, least: float) -> Changes:
    """Without the changes of a probability under ``least``."""
    if found.probability is None or least <= 0:
        return found
    keep = ~(found.probability < least)
    return replace(
        found,
        old_rows=found.old_rows[keep],
        new_rows=found.new_rows[keep],
        kinds=found.kinds[keep],
        moved=found.moved[keep],
        bearing=found.bearing[keep],
        turned=found.turned[keep],
        probability=found.probability[keep],
        left_out=int((~keep).sum()),
    )
