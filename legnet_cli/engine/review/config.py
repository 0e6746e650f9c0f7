"""Settings of ``legnet review``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from legnet_cli.engine import options
from legnet_cli.settings import Settings, documented, option, required


@documented
@dataclass(frozen=True)
class ReviewConfig(Settings):
    """Which objects to choose from, how many, and where they go."""

    boxes: tuple[str, ...] = required("Layers of objects, as legnet predict writes them.", argument=True, commas=False)
    out: Path = required("GeoPackage to correct, .gpkg; pictures go beside it.", "-o")
    scenes: tuple[str, ...] = option(
        (), "Rasters of the objects: files, folders, globs.", unset="those that the layers name", commas=False
    )
    most: int = option(200, "Choose at most N objects.", least=1)
    classes: tuple[str, ...] = options.classes()
    class_field: str | None = options.class_field()
    bands: tuple[int, ...] | None = options.bands()
    stretch: str = options.stretch()
    overwrite: bool = options.overwrite()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "boxes", tuple(map(str, self.boxes)))  # paths are taken too

    def faults(self) -> list[tuple[object, str]]:
        """See :class:`Settings`."""
        wrong = self.out.suffix.lower() != ".gpkg"
        return [
            (not self.boxes, "nothing to choose from: name layers of objects"),
            (
                wrong,
                f"--out {self.out}: a review has two layers and drop-downs, which need a GeoPackage: name a .gpkg",
            ),
        ]
