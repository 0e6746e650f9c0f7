"""What is compared."""

from __future__ import annotations

from dataclasses import dataclass

from legnet_cli.engine.diff.config import DiffConfig
from legnet_cli.engine.diff.ground import SeenGround
from legnet_cli.engine.layers.placed import PlacedObjects
from legnet_cli.geo.local import LocalPlane


@dataclass(frozen=True)
class Comparison:
    """The dates that are compared.

    Attributes:
        config: what is asked for.
        classes: names of the labels.
        dates: oldest first.
        grounds: what each date shows.
        plane: in which they are compared.
    """

    config: DiffConfig
    classes: list[str]
    dates: tuple[PlacedObjects, ...]
    grounds: tuple[SeenGround, ...]
    plane: LocalPlane
