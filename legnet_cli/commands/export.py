"""``legnet export``: weights as ONNX, OpenVINO or torch.export files, verified against PyTorch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from legnet_cli.commands.console import print_json, setup_logging
from legnet_cli.commands.options import JsonOpt, OverwriteOpt, QuietOpt, VerboseOpt
from legnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from legnet_cli.engine.export import ExportResult
    from legnet_cli.engine.export.parity import Parity


def export(
    weights: Annotated[str, typer.Argument(help="Published name, file or URL.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help=".onnx, .xml (OpenVINO, with a .bin beside it) or .pt2 (torch.export).")
    ],
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "fp32",
    size: Annotated[
        str | None, typer.Option(help="Fix one image of this side, or HEIGHTxWIDTH.", show_default="any batch and size")
    ] = None,
    score: Annotated[float, typer.Option("--score-threshold", help="Lowest score the file gives, 0 to 1.")] = 0.05,
    max_detections: Annotated[int, typer.Option(help="Most boxes per image.")] = 2000,
    simplify: Annotated[bool, typer.Option("--simplify", help="Fold and fuse the graph.")] = False,
    stac: Annotated[bool, typer.Option("--stac", help="Write a STAC item (MLM) beside it.")] = False,
    verify: Annotated[bool, typer.Option(help="Compare its boxes with PyTorch's; no file where they differ.")] = True,
    tiles: Annotated[
        list[str] | None,
        typer.Option(help="Rasters or folders to verify on and to calibrate int8 with.", show_default="drawn tiles"),
    ] = None,
    max_tiles: Annotated[int, typer.Option(help="Most windows of these.")] = 8,
    data: Annotated[Path | None, typer.Option(help="Labelled dataset: compare mAP too.")] = None,
    overwrite: OverwriteOpt = False,
    json_: JsonOpt = False,
    quiet: QuietOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Write weights as a file that runs without this package: images in, boxes out.

    Example: legnet export legnet-tiny-dota10 --out tiny.onnx --tiles scenes/
    """
    setup_logging(-1 if quiet else int(verbose))
    from legnet_cli.commands.progress import download_progress
    from legnet_cli.engine.export import ExportConfig
    from legnet_cli.engine.export import export as run

    config = ExportConfig(
        weights=weights,
        out=out,
        precision=precision,
        size=_size(size),
        score_threshold=score,
        max_detections=max_detections,
        simplify=simplify,
        stac=stac,
        verify=verify,
        tiles=tuple(tiles or ()),
        max_tiles=max_tiles,
        data=data,
        overwrite=overwrite,
    )

    def say(step: str) -> None:
        if not quiet:
            typer.echo(f"{step} …", err=True)

    with download_progress(quiet=quiet) as arrived:
        result = run(config, say, arrived)
    if json_:
        print_json(_as_dict(result))
    elif not quiet:
        _show(result)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text)
    if found is None:
        raise ConfigError(f"--size {text}: give pixels like 1024, or HEIGHTxWIDTH like 768x1024")
    return int(found[1]), int(found[2] or found[1])


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
    from rich.table import Table

    limits = parity.tolerance
    table = Table(f"{parity.tiles} tiles", "PyTorch", "exported", title="parity", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("boxes over 0.1", *(f"{count:,}" for count in parity.boxes))
    rows = [(f"with a partner (IoU > {limits.iou}, score within {limits.score})", parity.matched)]
    if parity.matched != parity.strict:
        rows.append(("with a partner (IoU > 0.95, score within 0.01)", parity.strict))
    for name, counts in rows:
        shares = [f"{100 * m / n:.1f} %" if n else "" for m, n in zip(counts, parity.boxes, strict=True)]
        table.add_row(name, *shares)
    table.add_row("largest difference in score", "", f"{parity.score:.1g}")
    table.add_row("largest distance of corners, pixels", "", f"{parity.corner:.2g}")
    if maps is not None:
        table.add_row("mAP", *(f"{value:.4f}" for value in maps))
    console.print(table)
