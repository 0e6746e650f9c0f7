"""A benchmark against an earlier one: what changed, and whether the two may be compared at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from legnet_cli.errors import ConfigError, DataError
from legnet_cli.untrusted import parse_json, read_text

Report = Mapping[str, Any]
"""Content of the JSON file of a benchmark."""

# what must be equal for times to be comparable: section of the report, key, words
_SAME = (
    ("machine", "cpu", "CPU"),
    ("machine", "gpu", "GPU"),
    ("machine", "threads", "number of threads"),
    ("settings", "device", "device"),
    ("settings", "engine", "engine"),
    ("settings", "size", "tile size"),
    ("settings", "tiles", "tiles"),
    ("settings", "model", "model"),
    ("settings", "recipe", "recipe"),
)


@dataclass(frozen=True)
class Change:
    """Median latencies in milliseconds, before and after, of one precision and batch size."""

    precision: str
    batch: int
    before: float
    after: float

    @property
    def slower(self) -> float:
        """Share by which the latency grew; negative if it fell."""
        return self.after / self.before - 1


@dataclass(frozen=True)
class Comparison:
    """Changes since the report at ``path``.

    Attributes:
        differences: what else differs, in words: then the changes say little about the program.
        limit: share by which a latency may grow; None for any.
    """

    path: Path
    differences: tuple[str, ...]
    changes: tuple[Change, ...]
    limit: float | None

    @property
    def too_slow(self) -> tuple[Change, ...]:
        """Changes beyond the limit."""
        return tuple(c for c in self.changes if self.limit is not None and c.slower > self.limit)


def read_report(path: Path) -> Report:
    """The JSON that a benchmark wrote to ``path``.

    Raises:
        DataError: if it cannot be read or is not a report.
    """
    try:
        report = parse_json(read_text(path))
        for section, key, _ in _SAME:
            report[section][key]
        for run in report["runs"]:
            sound = isinstance(run["precision"], str) and isinstance(run["batch"], int)
            if not (sound and 0 < float(run["latency_ms"]["p50"]) < math.inf):
                raise ValueError
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror}): give the JSON of an earlier benchmark") from None
    except (ValueError, TypeError, LookupError, OverflowError):
        raise DataError(f"{path}: not a report of legnet benchmark: give the JSON of an earlier one") from None
    known: Report = report
    return known


def differences(earlier: Report, now: Report) -> tuple[str, ...]:
    """In words, what makes the times of two reports incomparable."""
    return tuple(
        f"different {words} ({earlier[section][key]}, now {now[section][key]})"
        for section, key, words in _SAME
        if earlier[section][key] != now[section][key]
    )


def check_comparable(path: Path, earlier: Report, now: Report, runs: set[tuple[str, int]]) -> None:
    """Refuse to compare ``now``, whose ``runs`` (precision and batch size) are still to come, with ``earlier``.

    Raises:
        ConfigError: if they are of different machines, tiles or models, or have no run in common.
    """
    if unlike := differences(earlier, now):
        advice = "leave out --fail-if-slower to see both, or measure it again here"
        raise ConfigError(f"{path}: cannot be compared: {', '.join(unlike)}: {advice}")
    if missing := runs - {(run["precision"], run["batch"]) for run in earlier["runs"]}:
        wanted = ", ".join(f"{precision} with batch {batch}" for precision, batch in sorted(missing))
        raise ConfigError(f"{path}: has no run of {wanted}: choose its --precision and --batch")


def compare_reports(path: Path, earlier: Report, now: Report, limit: float | None) -> Comparison:
    """Median latencies of the runs that both reports have."""
    before = {(run["precision"], run["batch"]): float(run["latency_ms"]["p50"]) for run in earlier["runs"]}
    after = {(run["precision"], run["batch"]): float(run["latency_ms"]["p50"]) for run in now["runs"]}
    changes = tuple(Change(*key, before[key], after[key]) for key in after if key in before)
    return Comparison(path, differences(earlier, now), changes, limit)
