"""``legnet eval``: how good a model or a set of predictions is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from legnet_cli.commands.console import print_json, setup_logging
from legnet_cli.commands.options import (
    BandsOpt,
    BatchOpt,
    ClassFieldOpt,
    DeviceOpt,
    EngineOpt,
    JsonOpt,
    LabelsOpt,
    OverwriteOpt,
    PrecisionOpt,
    QuietOpt,
    StretchOpt,
    VerboseOpt,
    band_numbers,
)
from legnet_cli.engine.process import keep_freed
from legnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from legnet_cli.engine.eval import EvalResult
    from legnet_cli.engine.eval.compare import CompareResult


def eval_(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the report.")],
    data: Annotated[
        Path | None, typer.Option(help="Labelled dataset, whole images or split tiles, or a vector layer.")
    ] = None,
    weights: Annotated[str | None, typer.Option("--weights", "-w", help="Published name, file or URL.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Folder or .zip of DOTA text, .csv, .geojson, .gpkg, .fgb or .shp.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Part of the dataset.", show_default="val, or the only one")] = None,
    labels: LabelsOpt = None,
    class_field: ClassFieldOpt = None,
    classes: Annotated[str | None, typer.Option(help="Measure these only: ship,plane.", show_default="all")] = None,
    count_difficult: Annotated[
        bool,
        typer.Option(
            "--count-difficult", help="mmrotate's rules, not DOTA's: difficult objects count, objects are boxes."
        ),
    ] = False,
    submission: Annotated[Path | None, typer.Option(help=".zip of the predictions for DOTA's server.")] = None,
    robustness: Annotated[bool, typer.Option("--robustness", help="Measure on degraded images too.")] = False,
    seed: Annotated[int, typer.Option(help="Of the degradations.")] = 0,
    compare: Annotated[
        list[Path] | None, typer.Option(help="Folder of an earlier report; give two or more, and no data.")
    ] = None,
    score: Annotated[float, typer.Option(help="Lowest score a detector reports, 0 to 1.")] = 0.05,
    tile: Annotated[int | None, typer.Option(help="Side of a tile in pixels.", show_default="the model's")] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Pixels neighbouring tiles share.", show_default="the model's")
    ] = None,
    bands: BandsOpt = None,
    stretch: StretchOpt = "auto",
    batch: BatchOpt = None,
    workers: Annotated[int, typer.Option(help="Threads that read images.")] = 2,
    device: DeviceOpt = "auto",
    engine: EngineOpt = "auto",
    precision: PrecisionOpt = "auto",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out labels that cannot be used.")] = False,
    overwrite: OverwriteOpt = False,
    json_: JsonOpt = False,
    quiet: QuietOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Measure a model or predictions against labels, or compare earlier reports.

    Example: legnet eval --weights legnet-tiny-dota10 --data DOTA --out runs/tiny
    """
    setup_logging(-1 if quiet else int(verbose))
    keep_freed()
    if compare:
        if data or weights or predictions:
            raise ConfigError("--compare takes earlier reports alone: leave out --data, --weights and --predictions")
        _compare(tuple(compare), out, overwrite=overwrite, json_=json_, quiet=quiet)
        return
    if data is None:
        raise ConfigError("no data given: name a labelled dataset with --data, or reports with --compare")
    from legnet_cli.commands.progress import download_progress, tile_progress
    from legnet_cli.engine.eval import EvalConfig, evaluate

    config = EvalConfig(
        data=data,
        out=out,
        weights=weights,
        predictions=predictions,
        split=split,
        labels=labels,
        class_field=class_field,
        skip_bad=skip_bad,
        classes=tuple(name.strip() for name in classes.split(",")) if classes else (),
        count_difficult=count_difficult,
        score=score,
        tile=tile,
        overlap=overlap,
        bands=band_numbers(bands),
        stretch=stretch,
        batch=batch,
        device=device,
        engine=engine,
        precision=precision,
        workers=workers,
        submission=submission,
        robustness=robustness,
        seed=seed,
        overwrite=overwrite,
    )
    with tile_progress(quiet=quiet) as advance, download_progress(quiet=quiet) as arrived:
        result = evaluate(config, advance, arrived)
    if json_:
        print_json({"out": str(result.out), "seconds": round(result.seconds, 3), **result.metrics})
    elif not quiet:
        _show(result)


eval_.__name__ = "eval"  # the command's name; the builtin keeps its own


def _compare(runs: tuple[Path, ...], out: Path, *, overwrite: bool, json_: bool, quiet: bool) -> None:
    from legnet_cli.engine.eval.compare import CompareConfig, compare_runs

    result = compare_runs(CompareConfig(runs, out, overwrite))
    if json_:
        print_json({"out": str(result.out), **result.to_dict()})
    elif not quiet:
        _show_runs(result)


def _show(result: EvalResult) -> None:
    metrics = result.metrics
    rows = []
    for name in metrics["classes"]:
        ap, point = metrics["ap"]["voc07"], metrics["operating_point"]["classes"][name] or {}
        numbers = (ap["0.50"][name], ap["0.75"][name], point.get("score"), point.get("precision"), point.get("recall"))
        rows.append([name, f"{metrics['counts']['truths'][name]:,}", *map(_text, numbers)])
    summary, overall = metrics["summary"]["voc07"], metrics["operating_point"]["overall"] or {}
    best = (overall.get("score"), overall.get("precision"), overall.get("recall"))
    total = sum(metrics["counts"]["truths"].values())
    rows.append(["all", f"{total:,}", *map(_text, (summary["mAP50"], summary["mAP75"], *best))])
    title = f"mAP50 {_text(summary['mAP50'])}, mAP50:95 {_text(summary['mAP50:95'])} (VOC07)"
    _table(title, ("class", "objects", "AP50", "AP75", "threshold", "precision", "recall"), rows)
    if result.robustness is not None:
        kinds = {kind: [*values, result.robustness.drops[kind]] for kind, values in result.robustness.map50.items()}
        drops = [[kind, *map(_text, values)] for kind, values in kinds.items()]
        title = f"mAP50 on degraded images: mean relative drop {_text(result.robustness.drop)}"
        _table(title, ("degradation", "1", "2", "3", "4", "5", "drop"), drops)
    images = f"{metrics['images']:,} image{'s' if metrics['images'] > 1 else ''}"
    typer.echo(f"{images}, {result.seconds:.1f} s → {result.out / 'report.html'}", err=True)
    if result.submission is not None:
        typer.echo(f"submission → {result.submission}", err=True)


def _show_runs(result: CompareResult) -> None:
    rows = [[name, *map(_text, row.values()), _text(result.drops[name])] for name, row in result.summary.items()]
    head = ("run", *next(iter(result.summary.values())), "degraded, drop")
    _table("VOC07", head, rows)
    typer.echo(f"comparison → {result.out / 'report.html'}", err=True)


def _table(title: str, head: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console(stderr=True).print(table)


def _text(value: Any) -> str:  # noqa: ANN401 - a number or None
    return "–" if value is None else f"{value:.3f}"
