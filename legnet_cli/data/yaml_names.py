"""Class names in the YAML file of a YOLO dataset."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from legnet_cli.data.builder import is_text, short
from legnet_cli.data.format import read_text
from legnet_cli.data.labels import Problem
from legnet_cli.errors import DataError, reading, reason
from legnet_cli.untrusted import MOST_SETTINGS, parse_yaml


def yaml_names(path: Path) -> dict[str, str] | None:
    """Class names by number from ``names``, a list or a mapping, in a YAML file; None if it has none.

    Raises:
        DataError: it is not YAML, or its names are not text by number.
    """
    text = read_text(path, MOST_SETTINGS)
    with reading(path, "fix it", "is not YAML"):
        content = parse_yaml(text, yaml.BaseLoader)  # every word stays text: no is a name, not a false
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = {str(i): name for i, name in enumerate(names)}
    if isinstance(names, str) and names:
        raise DataError(f"{path}: names is {short(names)}, not a list: write names: [{names}]")
    if not isinstance(names, dict):
        return None
    found: dict[int, str] = {}
    for key, name in names.items():
        if not isinstance(key, str) or not re.fullmatch("[0-9]{1,9}", key):
            raise DataError(f"{path}: class number {short(key)} is not a whole number: write it like 0")
        if not isinstance(name, str) or not is_text(name):
            raise DataError(f"{path}: the name of class {key} is not text: write a word")
        found[int(key)] = name
    return {str(number): found[number] for number in sorted(found)}


def yaml_fault(path: Path) -> list[Problem]:
    """What in a YAML file, whose names could be read, other readers fail at; nothing if it is sound."""
    try:
        parse_yaml(read_text(path, MOST_SETTINGS), _MarkedLoader)
    except Exception as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        fault = getattr(error, "problem", None) or reason(error)
        return [Problem(f"{path}{line}", f"is not YAML ({fault})", left_out=True)]
    return []


class _MarkedLoader(yaml.SafeLoader):
    """Says where a value stands that cannot be what it looks like, such as the date 2024-13-45."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:  # noqa: ANN401
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, OverflowError) as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error
