"""Files as others made them: regular ones alone, no larger than memory can hold, and folders without loops.

A FIFO or a device would never end, and a small file can stand for a huge one. What fails here is an OSError or a
ValueError whose text says why; callers name the file (:func:`legnet_cli.errors.reading`).
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from legnet_cli.errors import reason

MOST_JSON = 1 << 30  # bytes; a COCO file holds a whole data set
MOST_LABELS = 1 << 25  # bytes of the labels of one image
MOST_SETTINGS = 1 << 18  # bytes of a file of settings or names
_MOST_NODES = 1 << 20  # values that YAML's aliases may stand for
_MOST_BRACKETS = 100
_MOST_VISITS = 100  # ways, through links, to one folder


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, opened to read bytes.

    Raises:
        OSError: it cannot be opened, or is a folder, a FIFO, a device or a socket.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return open(path, "rb")


def read_bytes(path: str | os.PathLike[str], most: int = MOST_LABELS) -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises:
        OSError: it cannot be read, is larger, or is not a regular file.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"larger than {most >> 10:,} KiB", os.fspath(path))
        return file.read(size)  # what is being appended meanwhile is not waited for


def read_text(path: str | os.PathLike[str], most: int = MOST_LABELS) -> str:
    """The UTF-8 text of a regular file, with or without a byte order mark.

    Raises:
        OSError: as of :func:`read_bytes`.
        ValueError: it is in another encoding.
    """
    return read_bytes(path, most).decode("utf-8-sig")


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - any JSON value
    """The value that JSON ``text`` stands for.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(reason(error)) from None


def parse_yaml(text: str, loader: type[yaml.BaseLoader | yaml.SafeLoader] = yaml.SafeLoader) -> Any:  # noqa: ANN401
    """The value that YAML ``text`` stands for, unless its aliases multiply it.

    Raises:
        yaml.YAMLError: it is not YAML.
        ValueError: it holds a value that cannot be, such as the date 2024-13-45, or stands for too many values.
    """
    if _bracket_depth(text) > _MOST_BRACKETS:  # each costs PyYAML as much time as all around it
        raise ValueError("nested too deeply")
    made = loader(text)
    try:
        node = made.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > _MOST_NODES:
            raise ValueError(f"its aliases stand for over {_MOST_NODES:,} values")
        return made.construct_document(node)
    except (RecursionError, TypeError, OverflowError, LookupError, AttributeError) as error:
        raise ValueError(reason(error)) from None
    finally:
        made.dispose()


def _bracket_depth(text: str) -> int:
    """Most brackets that are open at a time, those in quotes counted too."""
    depth = most = 0
    for letter in re.findall(r"[\[\]{}]", text):
        depth += 1 if letter in "[{" else -1
        most = max(most, depth)
    return most


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values below ``node`` with every alias written out; one that holds itself counts once."""
    if id(node) not in known:
        known[id(node)] = 1
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = (one for part in parts for one in (part if isinstance(part, tuple) else (part,)))
        known[id(node)] += sum(_count(one, known) for one in inner)
    return known[id(node)]


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As ``os.walk``: each folder from ``folder`` on, with names of folders (the caller may drop some) and files in it.

    They are sorted; FIFOs and the like are passed over. Links are followed, but not to a folder that they lie in, nor
    to one folder over and over. What cannot be listed is empty.
    """
    visits: dict[tuple[int, int], int] = {}
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    while waiting:
        place, above = waiting.pop()
        try:
            status = place.stat()
            with os.scandir(place) as entries:
                kinds = {entry.name: _kind(entry) for entry in sorted(entries, key=lambda entry: entry.name)}
        except OSError:  # its path is too long, or not for this user
            continue
        here = status.st_dev, status.st_ino
        visits[here] = visits.get(here, 0) + 1
        if here in above or visits[here] > _MOST_VISITS:
            continue
        folders = [name for name, kind in kinds.items() if kind == "folder"]
        yield place, folders, [name for name, kind in kinds.items() if kind == "file"]
        waiting += [(place / name, above | {here}) for name in reversed(folders)]


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:  # a link that leads to itself
        return ""
