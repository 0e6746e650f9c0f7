"""``legnet split``: from large images to tiles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from legnet_cli.commands.console import INTERRUPTED, print_json, setup_logging
from legnet_cli.commands.options import (
    BandsOpt,
    ClassFieldOpt,
    JsonOpt,
    LabelsOpt,
    OverwriteOpt,
    QuietOpt,
    StretchOpt,
    VerboseOpt,
    band_numbers,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legnet_cli.data.labels import Problem
    from legnet_cli.engine.split.run import SplitProgress, SplitResult

_SHOWN = 20  # problems listed on the terminal; --json and split.json have all


def split(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder, COCO file, or an image with --labels.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")],
    tile: Annotated[int, typer.Option(help="Side of a tile in pixels.")] = 1024,
    overlap: Annotated[int, typer.Option(help="Pixels neighbouring tiles share.")] = 200,
    scale: Annotated[
        list[float] | None, typer.Option(help="Cut windows of tile/scale pixels; repeatable.", show_default="1.0")
    ] = None,
    truncated: Annotated[str, typer.Option(help="Objects that a tile cuts: keep, drop or recut.")] = "keep",
    background: Annotated[
        float, typer.Option(help="Share of the empty tiles to keep; val and test data keep all.")
    ] = 1.0,
    val_fraction: Annotated[
        float, typer.Option(help="Share of the ground to set apart for validation.", show_default="none")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of --background and --val-fraction.")] = 0,
    format_: Annotated[
        str, typer.Option("--format", help="png (8-bit RGB) or tif (all bands and values, georeferenced).")
    ] = "png",
    bands: BandsOpt = None,
    stretch: StretchOpt = "auto",
    labels: LabelsOpt = None,
    class_field: ClassFieldOpt = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", help="dota, dior, fair1m, hrsc, yolo-obb, coco, gpkg or geojson.", show_default="by layout"
        ),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out labels and images that are faulty.")] = False,
    workers: Annotated[int | None, typer.Option(help="Threads.", show_default="one per processor")] = None,
    overwrite: OverwriteOpt = False,
    json_: JsonOpt = False,
    quiet: QuietOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Cut a dataset into tiles, as mmrotate does.

    Example: legnet split DOTA --out DOTA-tiles --tile 1024 --overlap 200
    """
    setup_logging(-1 if quiet else int(verbose))
    from legnet_cli.data.labels import LabelError
    from legnet_cli.engine.split import SplitConfig
    from legnet_cli.engine.split import split as run

    config = SplitConfig(
        src=dataset,
        out=out,
        tile=tile,
        overlap=overlap,
        scales=tuple(scale or (1.0,)),
        truncated=truncated,
        background=background,
        val_fraction=val_fraction,
        seed=seed,
        format=format_,
        bands=band_numbers(bands),
        stretch=stretch,
        labels=labels,
        class_field=class_field,
        from_format=from_,
        skip_bad=skip_bad,
        workers=workers,
        overwrite=overwrite,
    )
    try:
        with _Bar(quiet) as bar:
            result = run(config, bar.show)
    except LabelError as error:
        _list_problems(error.problems[1:], "error")
        raise
    except KeyboardInterrupt:
        typer.secho("interrupted: the same command goes on where it stopped", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if not quiet:
        _list_problems([problem for problem in result.problems if problem.left_out], "left out")
        _list_problems([problem for problem in result.problems if not problem.left_out], "warning")
    if json_:
        print_json(_as_dict(result))
    elif not quiet:
        _show(result)


class _Bar:
    """A progress bar that comes up with the first tile, and on terminals only."""

    def __init__(self, quiet: bool) -> None:
        from tqdm import tqdm

        self._bar: tqdm[Any] = tqdm(unit="tile", dynamic_ncols=True, disable=quiet or not sys.stderr.isatty())

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, progress: SplitProgress) -> None:
        self._bar.total = progress.tiles_total
        self._bar.update(progress.tiles_done - self._bar.n)


def _list_problems(problems: Sequence[Problem], level: str) -> None:
    for problem in problems[:_SHOWN]:
        typer.echo(f"{level}: {problem}", err=True)
    if len(problems) > _SHOWN:
        typer.echo(f"{level}: … and {len(problems) - _SHOWN} more", err=True)


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
    from rich.table import Table

    console = Console(stderr=True)
    names = list(result.splits)
    table = Table("", *(name or "all" for name in names), title=f"{result.out}")
    for column in table.columns[1:]:
        column.justify = "right"
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
