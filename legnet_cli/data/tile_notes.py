"""What ``legnet split`` notes of its tiles' objects beside DOTA's text, which has no place for it.

DOTA's tools, mmrotate's among them, write difficulty 2 for an object that reaches out of a tile, whatever it was in the
image. So ``split.json`` lists those of another difficulty once tiles are put together: objects that are difficult in
the source, and objects that reach over the edge of the image alone. It holds the sizes of images smaller than a tile,
too: what lies beyond them in a tile is padding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.data.labels import ImageLabels, Size

SPLIT_RECORD = "split.json"
DIFFICULTY = "difficulty_in_source"  # key of the record: label file below its folder, ``:`` and line -> difficulty
SIZES = "sizes_in_source"  # key of the record: split and image without suffix -> width and height of padded ones
CUT = 2  # the difficulty of an object that a tile cuts


def difficulty_in_source(images: Sequence[ImageLabels]) -> list[NDArray[np.int64]]:
    """The difficulty (n,) of each of the objects of tiles: ``CUT`` only where nothing is wrong but that a tile cuts it.

    That is the difficulty of the label files where no record of a split lies beside them.
    """
    records: dict[Path, Mapping[str, Any]] = {}
    found = []
    for image in images:
        difficult = image.difficult.copy()
        for root in image.source.parents[1:3] if image.source is not None and (difficult == CUT).any() else ():
            if root not in records:
                records[root] = _read(root, DIFFICULTY)
            for i in np.flatnonzero(image.difficult == CUT).tolist() if records[root] else ():
                key = Path(image.place(i)).relative_to(root).as_posix()
                noted = records[root].get(key)
                difficult[i] = noted if isinstance(noted, int) else CUT
        found.append(difficult)
    return found


def sizes_in_source(images: Sequence[ImageLabels], sources: Sequence[str]) -> list[Size | None]:
    """Width and height of the image that each of some tiles was cut from, if it is padded and that is noted.

    Args:
        images: the tiles.
        sources: names of their images, as the tiles' names hold them.
    """
    records: dict[Path, Mapping[str, Any]] = {}
    found: list[Size | None] = []
    for image, source in zip(images, sources, strict=True):
        size = None
        for root in image.path.parents[1:3] if image.path is not None and source != image.stem else ():
            if root not in records:
                records[root] = _read(root, SIZES)
            size = size or records[root].get(f"{image.split}/{source}")
        sound = isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)
        found.append((size[0], size[1]) if sound and size else None)
    return found


def _read(root: Path, key: str) -> Mapping[str, Any]:
    """What the record in ``root`` says under ``key``; nothing if it is of another kind."""
    try:
        noted = json.loads((root / SPLIT_RECORD).read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return noted if isinstance(noted, dict) else {}
