"""``legnet diff``: what changed between two dates, or how objects come and go over several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from legnet_cli.commands.console import number_table, print_json, resumable
from legnet_cli.commands.options import Terminal, command
from legnet_cli.commands.predict import show_search
from legnet_cli.commands.progress import DownloadBar, ProgressBar
from legnet_cli.engine.diff import DiffConfig

if TYPE_CHECKING:
    from legnet_cli.engine.diff import DiffResult


def _diff(config: DiffConfig, terminal: Terminal) -> None:
    """Compare the objects of two or more dates: what is new, gone, moved, turned or resized.

    Example: legnet diff 2024.gpkg 2025.gpkg --out changes.gpkg --report changes.html
    """
    from legnet_cli.engine.diff import diff as run
    from legnet_cli.engine.process import keep_freed

    keep_freed()
    quiet = terminal.quiet
    with resumable(), ProgressBar("tile", quiet=quiet) as bar, DownloadBar(quiet=quiet) as arrived:
        result = run(config, lambda state: show_search(bar, state), arrived.show)
    if terminal.json:
        print_json(_as_dict(result))
    elif not quiet:
        _show(result)


diff = command("diff", _diff, DiffConfig, Terminal)


def _as_dict(result: DiffResult) -> dict[str, object]:
    dates = [
        {"name": name, "objects": count, "registration": shift}
        for name, count, shift in zip(result.dates, result.objects, (None, *result.registration), strict=True)
    ]
    return {
        "out": str(result.out),
        "report": None if result.report is None else str(result.report),
        "dates": dates,
        "changes": result.counts,
        "noise": result.noise,
        "left_out": result.left_out,
        "tracks": result.tracks,
        "over_time": result.table,
        "seconds": round(result.seconds, 3),
    }


def _show(result: DiffResult) -> None:
    from rich.console import Console

    console = Console(stderr=True)
    if result.counts:
        columns: tuple[str, ...] = ("class", *next(iter(result.counts.values())))
        rows = [(name, [*counts.values()]) for name, counts in result.counts.items()]
    else:
        columns = ("class", *result.dates)
        rows = [(name, [date["found"] for date in dates]) for name, dates in result.table.items()]
    table = number_table(*columns)
    for name, counts in rows:
        table.add_row(name, *(f"{count:,}" for count in counts))
    console.print(table)
    for name, shift in zip(result.dates[1:], result.registration, strict=True):
        console.print(_shift(name, shift), highlight=False, soft_wrap=True)
    if result.left_out:
        typer.echo(f"{result.left_out:,} less probable changes left out", err=True)
    console.print(f"{result.seconds:.1f} s → {result.out}", highlight=False, soft_wrap=True)
    if result.report is not None:
        console.print(f"report → {result.report}", highlight=False, soft_wrap=True)


def _shift(name: str, shift: dict[str, Any]) -> str:
    """A registration in words."""
    if not shift["pairs"]:
        return f"{name}: no shift corrected"
    if "east_m" in shift:
        return f"{name}: shift of {shift['east_m']:+.2f} m east, {shift['north_m']:+.2f} m north corrected"
    return f"{name}: shift of {shift['x_px']:+.2f} columns, {shift['y_px']:+.2f} rows corrected"
