"""``legnet review``: what is worth a look, to be corrected in QGIS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legnet_cli.commands.console import number_table, print_json
from legnet_cli.commands.options import Terminal, command
from legnet_cli.engine.review import ReviewConfig
from legnet_cli.errors import counted

if TYPE_CHECKING:
    from legnet_cli.engine.review import ReviewResult


def _review(config: ReviewConfig, terminal: Terminal) -> None:
    """Choose the objects most worth a look, and write them for correction in QGIS.

    Set the status of each row: ok, wrong or edited. In each square add every object that is missing; delete none.
    Then: legnet split SCENES --labels review.gpkg.

    Example: legnet review boxes.gpkg --scenes 'scenes/*.tif' --out review.gpkg --most 200
    """
    from legnet_cli.engine.review import review as run

    result = run(config)
    if terminal.json:
        print_json(_as_dict(result))
    elif not terminal.quiet:
        _show(result)


review = command("review", _review, ReviewConfig, Terminal)


def _as_dict(result: ReviewResult) -> dict[str, object]:
    return {
        "out": str(result.out),
        "sheets": [str(sheet) for sheet in result.sheets],
        "crops": str(result.crops),
        "objects": result.objects,
        "chosen": result.chosen,
        "places": result.places,
        "scenes": result.scenes,
        "reasons": result.counts,
        "seconds": round(result.seconds, 3),
    }


def _show(result: ReviewResult) -> None:
    from rich.console import Console

    console = Console(stderr=True)
    kinds = [kind for kind in next(iter(result.counts.values())) if any(own[kind] for own in result.counts.values())]
    table = number_table("class", *kinds, "all")
    for name, counts in result.counts.items():
        table.add_row(name, *(f"{counts[kind]:,}" for kind in kinds), f"{sum(counts.values()):,}")
    console.print(table)
    console.print(
        f"{result.chosen:,} of {counted(result.objects, 'object')}, {counted(result.places, 'square')} in "
        f"{counted(result.scenes, 'scene')}, {result.seconds:.1f} s → {result.out}",
        highlight=False,
        soft_wrap=True,
    )
    pages = f" and {len(result.sheets) - 1} more" if len(result.sheets) > 1 else ""
    console.print(f"pictures → {result.sheets[0]}{pages}, {result.crops}/", highlight=False, soft_wrap=True)
