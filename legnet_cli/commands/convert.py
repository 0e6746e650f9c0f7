"""``legnet convert``: from one label format to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from legnet_cli.commands.console import print_json, setup_logging
from legnet_cli.commands.options import ClassFieldOpt, JsonOpt, LabelsOpt, OverwriteOpt, QuietOpt, VerboseOpt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legnet_cli.data.labels import Problem
    from legnet_cli.engine.convert import ConvertResult

_SHOWN = 20  # problems listed on the terminal; --json and convert.json have all
_FORMATS = "dota, dior, fair1m, hrsc, yolo-obb, coco, gpkg or geojson"


def convert(
    src: Annotated[Path, typer.Argument(help="Dataset folder, or a COCO, GeoPackage or GeoJSON file.")],
    dst: Annotated[Path, typer.Argument(help="Folder to make, or a .gpkg or .geojson file.")],
    from_: Annotated[str | None, typer.Option("--from", help=f"{_FORMATS}.", show_default="by layout")] = None,
    to: Annotated[str | None, typer.Option("--to", help=f"{_FORMATS}.", show_default="by suffix")] = None,
    labels: LabelsOpt = None,
    class_field: ClassFieldOpt = None,
    images: Annotated[str, typer.Option(help="link (hard links; copies across disks), copy or none.")] = "link",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out labels that cannot be used.")] = False,
    overwrite: OverwriteOpt = False,
    json_: JsonOpt = False,
    quiet: QuietOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Convert labels from one format to another.

    Example: legnet convert DOTA DOTA-yolo --to yolo-obb
    """
    setup_logging(-1 if quiet else int(verbose))
    from legnet_cli.data.labels import LabelError
    from legnet_cli.engine.convert import ConvertConfig
    from legnet_cli.engine.convert import convert as run

    config = ConvertConfig(
        src=src,
        dst=dst,
        from_format=from_,
        to_format=to,
        labels=labels,
        class_field=class_field,
        images=images,
        skip_bad=skip_bad,
        overwrite=overwrite,
    )
    try:
        result = run(config)
    except LabelError as error:
        _list_problems(error.problems[1:], "error")
        raise
    if not quiet:
        _list_problems(result.left_out, "left out")
        _list_problems(result.warnings, "warning")
    if json_:
        print_json({"out": str(result.dst), **result.to_dict()})
    elif not quiet:
        _show(result)


def _list_problems(problems: Sequence[Problem], level: str) -> None:
    for problem in problems[:_SHOWN]:
        typer.echo(f"{level}: {problem}", err=True)
    if len(problems) > _SHOWN:
        typer.echo(f"{level}: … and {len(problems) - _SHOWN} more", err=True)


def _show(result: ConvertResult) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result.dst}: {result.from_format} to {result.to_format}")
    for heading in ("split", "images", "objects"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for name, (images, objects) in result.splits.items():
        table.add_row(name or "all", str(images), str(objects))
    Console().print(table)
