"""The report of a comparison: one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from legnet_cli.engine.diff.changes import Changes
from legnet_cli.engine.diff.comparison import Comparison
from legnet_cli.engine.diff.kinds import CHANGES, COLOURS
from legnet_cli.engine.diff.noise import Noise
from legnet_cli.engine.diff.pictures import SHOWN, change_pictures
from legnet_cli.engine.diff.plots import plot_counts, plot_map
from legnet_cli.engine.diff.tracks import Tracks
from legnet_cli.engine.html import render_page
from legnet_cli.engine.predict import class_colour
from legnet_cli.errors import counted
from legnet_cli.files import atomic_path

_PACKAGE = "legnet_cli.engine.diff"


def write_change_report(
    path: Path, known: Comparison, found: Changes, counts: Mapping[str, Mapping[str, int]], shift: Mapping[str, Any]
) -> None:
    """Write what changed between two dates, with pictures of the surest changes.

    Raises:
        DataError: it cannot be written.
    """
    rows = [(name, *of_class.values()) for name, of_class in counts.items()]
    sums = {kind: sum(of_class[kind] for of_class in counts.values()) for kind in CHANGES}
    pictures = change_pictures(known, found)
    page = render_page(
        _PACKAGE,
        "changes.html",
        title=f"Changes from {known.dates[0].name} to {known.dates[1].name}",
        subtitle=_subtitle(known),
        figures=[*sums.items()],
        columns=("class", *CHANGES),
        rows=rows,
        total=("all", *sums.values()),
        notes=[_shift_note(known.dates[1].name, shift), *_noise_note(found.noise)],
        left_out=found.left_out,
        least=known.config.min_probability,
        map=plot_map(found.boxes[:, :2], found.kinds, COLOURS, _grounds(known), _unit(known)),
        galleries=[(kind, [one for one in pictures if one.kind == kind]) for kind in CHANGES],
        sure=f"The {SHOWN} most probable ones, or those of the best scores.",
        unseen=sums["unseen"],
        dates=_dates(known),
    )
    _write(path, page)


def write_track_report(
    path: Path,
    known: Comparison,
    found: Tracks,
    table: Mapping[str, Sequence[Mapping[str, int]]],
    shifts: Sequence[Mapping[str, Any]],
) -> None:
    """Write how many objects of each class were found on each date.

    Raises:
        DataError: it cannot be written.
    """
    names = [date.name for date in known.dates]
    keys = ("found", "new", "gone", "unseen")
    colours = {name: class_colour(label) for label, name in enumerate(known.classes)}
    page = render_page(
        _PACKAGE,
        "tracks.html",
        title=f"Objects from {names[0]} to {names[-1]}",
        subtitle=_subtitle(known),
        figures=[("dates", len(names)), ("objects", len(found))],
        columns=("class", "date", *keys),
        rows=[
            (name if not number else "", names[number], *(one[key] for key in keys))
            for name, of_dates in table.items()
            for number, one in enumerate(of_dates)
        ],
        notes=[_shift_note(name, shift) for name, shift in zip(names[1:], shifts, strict=True)],
        chart=plot_counts(table, names),
        map=plot_map(found.boxes[:, :2], found.labels, colours, _grounds(known), _unit(known)),
        dates=_dates(known),
    )
    _write(path, page)


def _write(path: Path, page: str) -> None:
    with atomic_path(path) as scratch:
        scratch.write_text(page, encoding="utf-8", newline="\n")


def _subtitle(known: Comparison) -> str:
    return ", ".join(f"{date.name}: {counted(len(date), 'object')}" for date in known.dates)


def _unit(known: Comparison) -> str:
    return "pixels" if known.plane.crs is None else "metres east and south of the middle"


def _grounds(known: Comparison) -> dict[str, Any]:
    return {date.name: ground for date, ground in zip(known.dates, known.grounds, strict=True)}


def _dates(known: Comparison) -> list[tuple[object, ...]]:
    """Of each date its layer, model and scenes, and whether it says what it searched."""
    rows: list[tuple[object, ...]] = []
    for date, path, ground in zip(known.dates, known.config.dates, known.grounds, strict=True):
        model = date.source.record.get("weights", {}).get("name")
        scenes = len(date.source.scene_paths) or None
        rows.append((date.name, path, len(date), model, scenes, "known" if ground.known else "not known: all of it"))
    return rows


def _noise_note(noise: Noise) -> list[str]:
    """Noise in words."""
    if noise == Noise():
        return []
    return [
        f"Noise (standard deviations) of matched boxes: {noise.place:.2f} of the width in place, {noise.angle:.1f}° in "
        f"angle, {noise.length:.0%} in length. Only larger differences count as changes."
    ]


def _shift_note(name: str, shift: Mapping[str, Any]) -> str:
    """A registration in words."""
    if not shift["pairs"]:
        return f"{name}: no shift corrected: not asked for, or too few objects agree on one."
    x, y = (value for key, value in shift.items() if key.startswith(("east", "north", "x_", "y_")))
    where = f"{x:+.2f} m east, {y:+.2f} m north" if "east_m" in shift else f"{x:+.2f} columns, {y:+.2f} rows"
    spread = shift.get("spread_m", shift.get("spread_px"))
    return f"{name}: shift of {where}, corrected; {shift['pairs']:,} objects agree within {spread:.2g}."
