"""Model cards: what a user of weights must know, kept with their tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.detectors.weights.calibration import DEFAULT_SCORE, ClassCalibration
from legnet_cli.detectors.weights.sizes import SizeLimits
from legnet_cli.errors import ConfigError

_LARGEST_TILE = 1 << 20  # px


@dataclass(frozen=True)
class ModelCard:
    """What a user of the weights must know.

    Attributes:
        name: of the model, as results name it.
        recipe: name of its recipe.
        classes: class names in the order of the labels.
        tile, overlap: of the training tiles, pixels.
        gsd: least and greatest ground sampling distance of its training images, metres per pixel; a single number is
            taken for both; None if unknown.
        calibration: by class what its scores mean, see :class:`ClassCalibration`, if measured.
        sizes: by class how large its objects are, see :class:`SizeLimits`, if learned.
        view_calibration: the same of fused scores, by the name of the :class:`Views` that they come from.
        stretch: how pixels that are not 8-bit became 8-bit.
        licence: terms of the weights, if known.
        trained_on: the data in words, if known.
        data_sha256: of the images' names and labels it was trained on, if known.
        model: mmrotate's model dict, if it is not the recipe's own.
    """

    name: str
    recipe: str
    classes: tuple[str, ...]
    tile: int = 1024
    overlap: int = 200
    gsd: tuple[float, float] | None = None
    stretch: str = "auto"
    licence: str | None = None
    trained_on: str | None = None
    data_sha256: str | None = None
    model: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    view_calibration: dict[str, dict[str, Any]] | None = None
    sizes: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.gsd, (int, float)):
            object.__setattr__(self, "gsd", (self.gsd, self.gsd))

    @property
    def calibrations(self) -> dict[str, ClassCalibration]:
        """What scores mean, by class; empty if nobody has measured it."""
        return {name: ClassCalibration.from_dict(values) for name, values in (self.calibration or {}).items()}

    @property
    def size_limits(self) -> dict[str, SizeLimits]:
        """How large objects are, by class; empty if nobody has learned it."""
        known = self.sizes or {}
        return {name: SizeLimits.from_dict(known[name]) for name in self.classes if name in known}

    def calibrated(self, views: str, learned: dict[str, Any]) -> ModelCard:
        """With what scores mean by class, those of the :class:`Views` of that name; empty for a single view."""
        if not views:
            return replace(self, calibration=learned)
        return replace(self, view_calibration={**(self.view_calibration or {}), views: learned})

    def thresholds(self, asked: float | None) -> NDArray[np.float64]:
        """Least score (classes,) that is reported: ``asked``, else as it was measured."""
        if asked is not None:
            return np.full(len(self.classes), float(asked))
        known = self.calibrations
        return np.array([known[name].threshold if name in known else DEFAULT_SCORE for name in self.classes])

    def search_gsd(self, asked: float | str | None) -> float | tuple[float, float] | None:
        """What ``--gsd`` asks for, in metres per pixel; the card's range for ``model``.

        Raises:
            ConfigError: the card has none.
        """
        if not isinstance(asked, str):
            return asked
        if self.gsd is None:
            raise ConfigError(
                f"--gsd model: {self.name} does not say its ground sampling distance: give metres per pixel"
            )
        return self.gsd


class CardError(ValueError):
    """A value of a model card that cannot be."""


def checked_card(card: ModelCard) -> ModelCard:
    """``card``, as it was read from a file, with its classes as a tuple.

    Raises:
        CardError: a value is of another kind than it must be.
    """
    known = card.classes if isinstance(card.classes, (list, tuple)) else ()
    sound = {
        "name": isinstance(card.name, str) and card.name.isprintable(),
        "recipe": isinstance(card.recipe, str),
        "classes": bool(known) and all(isinstance(name, str) and name.isprintable() for name in known),
        "tile": _is_whole(card.tile) and 0 < card.tile <= _LARGEST_TILE,
        "overlap": _is_whole(card.overlap) and 0 <= card.overlap < _LARGEST_TILE,
        "gsd": card.gsd is None or _is_range(card.gsd),
        "stretch": isinstance(card.stretch, str),
        "calibration": _is_calibration(card.calibration),
        "sizes": _is_dict_of(card.sizes, _is_size),
        "view_calibration": _is_dict_of(card.view_calibration, _is_calibration),
        "model": card.model is None or (isinstance(card.model, dict) and isinstance(card.model.get("type"), str)),
        **{key: isinstance(getattr(card, key), str | None) for key in ("licence", "trained_on", "data_sha256")},
    }
    if wrong := [key for key, fine in sound.items() if not fine]:
        raise CardError(f"{wrong[0]} is {getattr(card, wrong[0])!r:.40}")
    return replace(card, classes=tuple(known), gsd=(card.gsd[0], card.gsd[1]) if card.gsd else None)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_dict_of(value: object, sound: Callable[[Any], bool]) -> bool:
    return value is None or (isinstance(value, dict) and all(map(sound, value.values())))


def _is_calibration(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    try:
        return value is None or all(ClassCalibration.from_dict(one) for one in value.values())
    except (ValueError, TypeError, KeyError, AttributeError):
        return False


def _is_size(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    try:
        return bool(SizeLimits.from_dict(value))
    except (ValueError, TypeError, KeyError):
        return False


def _is_range(value: object) -> bool:
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(map(_is_number, value)):
        return False
    return bool(0 < value[0] <= value[1] < math.inf)


def _is_number(value: object) -> bool:
    return _is_whole(value) or isinstance(value, float)
