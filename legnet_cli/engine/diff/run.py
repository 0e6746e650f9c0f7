"""Compare the objects of two or more dates.

from legnet_cli.engine.diff import DiffConfig, diff
result = diff(DiffConfig(dates=("2024.gpkg", "2025.gpkg"), out=Path("changes.gpkg")))
print(result.counts)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from legnet_cli.engine.diff.changes import Changes, find_changes
from legnet_cli.engine.diff.comparison import Comparison
from legnet_cli.engine.diff.config import DiffConfig
from legnet_cli.engine.diff.features import ChangeFeatures, TrackFeatures
from legnet_cli.engine.diff.ground import check_overlap, check_sizes, seen_grounds
from legnet_cli.engine.diff.kinds import CHANGES
from legnet_cli.engine.diff.report import write_change_report, write_track_report
from legnet_cli.engine.diff.search import plain_path, searched_layers
from legnet_cli.engine.diff.tracks import by_class, find_tracks
from legnet_cli.engine.diff.write import check_outputs, describe, output_crs, shift_values, write_objects
from legnet_cli.engine.layers.placed import in_plane, plane_of
from legnet_cli.engine.layers.source import class_names, read_layers, short_names
from legnet_cli.engine.predict import SearchProgress
from legnet_cli.errors import ConfigError


@dataclass(frozen=True)
class DiffResult:
    """What became of the objects.

    Attributes:
        dates: names, oldest first.
        objects: of each date, those compared.
        counts: of two dates: class -> change -> objects.
        table: of three or more: class -> for each date, objects found, new, gone and unseen.
        tracks: of three or more: objects in all.
        registration: of each date but the first: metres east and north (or pixels), pairs, spread.
        noise: of two dates: standard deviations of boxes of one object: ``place`` (share of the width), ``angle``
            (degrees), ``length`` and ``width`` (shares).
        left_out: changes that were less probable than was asked for.
        out: the layer.
        report: the HTML page, if any.
        seconds: it took.
    """

    dates: tuple[str, ...]
    objects: tuple[int, ...]
    counts: dict[str, dict[str, int]]
    table: dict[str, list[dict[str, int]]]
    tracks: int
    registration: tuple[dict[str, Any], ...]
    noise: dict[str, float]
    left_out: int
    out: Path
    report: Path | None
    seconds: float


def diff(
    config: DiffConfig,
    on_progress: Callable[[SearchProgress], None] = lambda progress: None,
    on_download: Callable[[int, int | None], None] = lambda done, total: None,
) -> DiffResult:
    """Match the objects of ``config.dates`` and write what became of them to ``config.out``.

    Args:
        config: what to do.
        on_progress: told the state of a search.
        on_download: told the bytes so far and in all (None if unknown) while weights are fetched.

    Raises:
        ConfigError: settings that are wrong or disagree.
        DataError: a layer or output that cannot be used, or layers that cannot be compared.
        DependencyError: a device or package that is absent.
    """
    start = time.perf_counter()
    check_outputs(config)
    with searched_layers(config, on_progress, on_download) as paths:
        names = config.names or short_names([plain_path(date) for date in config.dates])
        layers = read_layers(paths, names, config.class_field)
        classes = class_names(layers, config.classes)
        plane = plane_of(layers)
        dates = in_plane(layers, plane, classes, config.score or 0.0)
        check_sizes(dates, config)
        grounds = seen_grounds(dates, plane, config)
        check_overlap(dates, grounds, config.max_shift + (config.max_move or 0.0))
        comparison = Comparison(config, classes, tuple(dates), tuple(grounds), plane)
        result = _compare_two(comparison) if len(dates) == 2 else _follow(comparison)
    return replace(result, seconds=time.perf_counter() - start)


def _compare_two(known: Comparison) -> DiffResult:
    config = known.config
    if config.min_probability and (bare := [date for date in known.dates if date.probabilities is None]):
        raise ConfigError(
            f"--min-probability: {bare[0].source.path} has no column 'probability': search with calibrated weights"
        )
    found = find_changes(known.dates, known.grounds, known.plane, config)
    crs = output_crs(config, known.dates)
    shifts = [shift_values(found.registration, crs)]
    features = ChangeFeatures(found, known.classes, crs, known.plane)
    write_objects(config, features, known.grounds, describe(config, known.dates, shifts), None)
    counts = _counts(found, known.classes)
    if config.report is not None:
        write_change_report(config.report, known, found, counts, shifts[0])
    return _result(
        known,
        shifts,
        counts=counts,
        left_out=found.left_out,
        noise={name: round(value, 4) for name, value in asdict(found.noise).items()},
    )


def _follow(known: Comparison) -> DiffResult:
    config = known.config
    found = find_tracks(known.dates, known.grounds, config)
    crs = output_crs(config, known.dates)
    shifts = [shift_values(one, crs) for one in found.registrations[1:]]
    features = TrackFeatures(found, known.classes, crs, known.plane)
    write_objects(config, features, known.grounds, describe(config, known.dates, shifts), known.classes)
    table = by_class(found, known.classes)
    if config.report is not None:
        write_track_report(config.report, known, found, table, shifts)
    return _result(known, shifts, table=table, tracks=len(found))


def _counts(found: Changes, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Objects by class and change."""
    of_class = np.zeros((len(classes), len(CHANGES)), np.int64)
    np.add.at(of_class, (found.labels, found.kinds), 1)
    return {name: dict(zip(CHANGES, row, strict=True)) for name, row in zip(classes, of_class.tolist(), strict=True)}


def _result(known: Comparison, shifts: Sequence[dict[str, Any]], **found: Any) -> DiffResult:  # noqa: ANN401
    empty: dict[str, Any] = {"counts": {}, "table": {}, "tracks": 0, "noise": {}, "left_out": 0}
    return DiffResult(
        dates=tuple(date.name for date in known.dates),
        objects=tuple(len(date) for date in known.dates),
        registration=tuple(shifts),
        out=known.config.out,
        report=known.config.report,
        seconds=0.0,
        **{**empty, **found},
    )
