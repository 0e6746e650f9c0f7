"""``legnet export``: weights as ONNX, OpenVINO or torch.export files, verified against PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from legnet_cli.commands.console import number_table, print_json
from legnet_cli.commands.options import Terminal, command
from legnet_cli.commands.progress import DownloadBar
from legnet_cli.engine.export import ExportConfig

if TYPE_CHECKING:
    from rich.console import Console

    from legnet_cli.engine.export import ExportResult, Parity


def _export(config: ExportConfig, terminal: Terminal) -> None:
    """Write weights as a file that runs without this package: images in, boxes out.

    Example: legnet export legnet-tiny-dota10 --out tiny.onnx --images scenes/
    """
    from legnet_cli.engine.export import export as run

    def say(step: str) -> None:
        if not terminal.quiet:
            typer.echo(f"{step} …", err=True)

    with DownloadBar(quiet=terminal.quiet) as arrived:
        result = run(config, say, arrived.show)
    if terminal.json:
        print_json(_as_dict(result))
    elif not terminal.quiet:
        _show(result)


export = command("export", _export, ExportConfig, Terminal)


def _as_dict(result: ExportResult) -> dict[str, object]:
    parity = result.parity
    return {
        "out": str(result.out),
        "files": {str(path): size for path, size in result.files.items()},
        "model": result.card.name,
        "recipe": result.card.recipe,
        "precision": result.facts.precision,
        "operators": dict(result.operators.most_common()),
        "parity": None
        if parity is None
        else {
            "tiles": parity.tiles,
            "boxes": {"pytorch": parity.boxes[0], "exported": parity.boxes[1]},
            "matched": {"pytorch": parity.matched[0], "exported": parity.matched[1]},
            "matched_strictly": {"pytorch": parity.strict[0], "exported": parity.strict[1]},
            "max_score_difference": parity.score,
            "max_corner_difference_px": parity.corner,
        },
        "map": None if result.maps is None else {"pytorch": result.maps[0], "exported": result.maps[1]},
        "seconds": round(result.seconds, 3),
    }


def _show(result: ExportResult) -> None:
    from rich.console import Console

    console = Console(stderr=True)
    if result.parity is not None:
        _show_parity(console, result.parity, result.maps)
    for path, size in result.files.items():
        shown = f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
        console.print(f"{shown} → {path}", highlight=False, soft_wrap=True)


def _show_parity(console: Console, parity: Parity, maps: tuple[float, float] | None) -> None:

    limits = parity.tolerance
    table = number_table(f"{parity.tiles} tiles", "PyTorch", "exported", title="parity", title_justify="left")
    table.add_row("boxes over 0.1", *(f"{count:,}" for count in parity.boxes))
    rows = [(f"matched (IoU > {limits.iou}, score within {limits.score})", parity.matched)]
    if parity.matched != parity.strict:
        rows.append(("matched (IoU > 0.95, score within 0.01)", parity.strict))
    for name, counts in rows:
        shares = [f"{100 * m / n:.1f} %" if n else "" for m, n in zip(counts, parity.boxes, strict=True)]
        table.add_row(name, *shares)
    table.add_row("largest difference in score", "", f"{parity.score:.1g}")
    table.add_row("largest distance of corners, pixels", "", f"{parity.corner:.2g}")
    if maps is not None:
        table.add_row("mAP", *(f"{value:.4f}" for value in maps))
    console.print(table)
