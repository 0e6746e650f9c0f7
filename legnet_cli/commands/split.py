"""``legnet split``: from large images to tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legnet_cli.commands.console import list_problems, number_table, print_json, resumable
from legnet_cli.commands.options import Terminal, command
from legnet_cli.commands.progress import ProgressBar
from legnet_cli.engine.split import SplitConfig

if TYPE_CHECKING:
    from legnet_cli.engine.split import SplitResult


def _split(config: SplitConfig, terminal: Terminal) -> None:
    """Cut a data set into tiles, as mmrotate does.

    Example: legnet split DOTA --out DOTA-tiles --tile 1024 --overlap 200
    """
    from legnet_cli.engine.split import split as run

    with resumable(), ProgressBar("tile", quiet=terminal.quiet) as bar:
        result = run(config, lambda state: bar.show(state.tiles_done, state.tiles_total))
    if not terminal.quiet:
        list_problems([problem for problem in result.problems if problem.left_out], "left out")
        list_problems([problem for problem in result.problems if not problem.left_out], "warning")
    if terminal.json:
        print_json(_as_dict(result))
    elif not terminal.quiet:
        _show(result)


split = command("split", _split, SplitConfig, Terminal)


def _as_dict(result: SplitResult) -> dict[str, object]:
    return {
        "out": str(result.out),
        "contact_sheet": None if result.contact_sheet is None else str(result.contact_sheet),
        "resumed_tiles": result.resumed,
        "seconds": round(result.seconds, 3),
        **result.to_dict(),
    }


def _show(result: SplitResult) -> None:
    from rich.console import Console

    console = Console(stderr=True)
    names = list(result.splits)
    table = number_table("", *(name or "all" for name in names), title=f"{result.out}")
    for row, key in (
        ("images", "source"),
        ("tiles", "tiles"),
        ("without objects", "empty"),
        ("objects", "objects"),
        ("cut", "cut"),
    ):
        table.add_row(row, *(f"{getattr(result.splits[name], key):,}" for name in names))
    for part in ("classes", "sizes"):
        table.add_section()
        for row in getattr(result.splits[names[0]], part):
            counts = [getattr(result.splits[name], part)[row] for name in names]
            if part == "classes" or any(counts):
                table.add_row(row if part == "classes" else f"{row} px", *(f"{count:,}" for count in counts))
    console.print(table)
    tiles = sum(part.tiles for part in result.splits.values())
    kept = f", {result.resumed:,} of them from before" if result.resumed else ""
    console.print(f"{tiles:,} tiles{kept}, {result.seconds:.1f} s → {result.out}", highlight=False, soft_wrap=True)
    if result.contact_sheet is not None:
        console.print(f"contact sheet → {result.contact_sheet}", highlight=False, soft_wrap=True)
