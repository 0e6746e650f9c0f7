"""Settings of ``legnet convert``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from legnet_cli.engine import options
from legnet_cli.engine.options import LabelFormat, WrittenFormat
from legnet_cli.settings import Settings, documented, option, required


@documented
@dataclass(frozen=True)
class ConvertConfig(Settings):
    """What to convert, and into what."""

    src: Path = required("Data set folder, or one file of labels of many images.", argument=True)
    dst: Path = required("Folder to create, or a .gpkg or .geojson file.", argument=True, lenient=True)
    from_format: LabelFormat | None = options.from_format()
    to_format: WrittenFormat | None = option(None, "Format to write.", "--to", unset="by suffix")
    labels: str | None = options.labels()
    class_field: str | None = options.class_field()
    classes: tuple[str, ...] = options.classes()
    rename: tuple[str, ...] = options.rename()
    ignore_others: bool = options.ignore_others()
    images: Literal["link", "copy", "none"] = option(
        "link", "What happens to the images: hard links (copies across disks), copies, or nothing."
    )
    skip_bad: bool = options.skip_bad()
    overwrite: bool = options.overwrite()

    def faults(self) -> list[tuple[object, str]]:
        """See :class:`Settings`."""
        return [options.ignores_all(self.classes, self.ignore_others)]
