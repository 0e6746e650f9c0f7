"""Settings of ``legnet export``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from legnet_cli.engine import options
from legnet_cli.errors import ConfigError
from legnet_cli.settings import Settings, documented, option, required


def read_size(text: str) -> tuple[int, int]:
    """Height and width from ``1024`` or ``768x1024``.

    Raises:
        ConfigError: for anything else.
    """
    found = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text)
    if found is None:
        raise ConfigError(f"--tile {text}: give pixels like 1024, or HEIGHTxWIDTH like 768x1024")
    return int(found[1]), int(found[2] or found[1])


@documented
@dataclass(frozen=True)
class ExportConfig(Settings):
    """What to export, and how it is verified."""

    weights: str = required("Name, file or URL of weights, or the folder of a run.", argument=True, complete="weights")
    out: Path = required(".onnx, .xml (OpenVINO, with a .bin beside it) or .pt2 (torch.export).", "-o")
    precision: Literal["fp32", "fp16", "int8"] = option("fp32", "Numerical precision of the file.")
    tile: tuple[int, int] | None = option(
        None,
        "Fix the only size it takes: a side in pixels, or HEIGHTxWIDTH.",
        unset="any batch and size",
        parse=read_size,
        least=32,
    )
    score: float = option(0.05, "Minimum score.", least=0, most=1, below=True)
    max_detections: int = option(2000, "Keep at most N per image, best first.", least=1)
    simplify: bool = option(False, "Fold and fuse the graph.")
    stac: bool = option(False, "Write a STAC item (MLM) beside it.")
    verify: bool = option(True, "Compare its boxes with PyTorch's; no file where they differ.", "--verify/--no-verify")
    images: tuple[str, ...] = option(
        (), "Rasters, folders or globs to verify on and to calibrate int8 with.", unset="synthetic tiles"
    )
    max_tiles: int = option(8, "Number of windows to take of --images.", least=1)
    data: Path | None = option(None, "Labelled data set: compare mAP too.")
    overwrite: bool = options.overwrite()

    def __post_init__(self) -> None:
        if isinstance(self.tile, int):
            object.__setattr__(self, "tile", (self.tile, self.tile))
        super().__post_init__()

    def faults(self) -> list[tuple[object, str]]:
        """See :class:`Settings`."""
        return [(self.data is not None and not self.verify, "--data is for verifying: leave out --no-verify")]
