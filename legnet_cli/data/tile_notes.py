"""What ``legnet split`` notes of its tiles' objects beside DOTA's text, which has no place for it.

DOTA's tools, mmrotate's among them, write difficulty 2 for an object that reaches out of a tile, whatever it was in the
image. So ``split.json`` lists those of another difficulty once tiles are put together: objects that are difficult in
the source, and objects that reach over the edge of the image alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from legnet_cli.data.labels import ImageLabels

SPLIT_RECORD = "split.json"
DIFFICULTY = "difficulty_in_source"  # key of the record: label file below its folder, ``:`` and line -> difficulty
CUT = 2  # the difficulty of an object that a tile cuts


def difficulty_in_source(images: Sequence[ImageLabels]) -> list[NDArray[np.int64]]:
    """The difficulty (n,) of each of the objects of tiles: ``CUT`` only where nothing is wrong but that a tile cuts it.

    That is the difficulty of the label files where no record of a split lies beside them.
    """
    records: dict[Path, Mapping[str, int]] = {}
    found = []
    for image in images:
        difficult = image.difficult.copy()
        for root in image.source.parents[1:3] if image.source is not None and (difficult == CUT).any() else ():
            if root not in records:
                records[root] = _read(root / SPLIT_RECORD)
            for i in np.flatnonzero(image.difficult == CUT).tolist() if records[root] else ():
                key = Path(image.place(i)).relative_to(root).as_posix()
                difficult[i] = records[root].get(key, difficult[i])
        found.append(difficult)
    return found


def _read(path: Path) -> Mapping[str, int]:
    """The difficulties that the record at ``path`` lists; none if it is of another kind."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): int(value) for key, value in record[DIFFICULTY].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
