"""``legnet eval``: how good a model or a set of predictions is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from legnet_cli.commands.console import number_table, print_json
from legnet_cli.commands.options import Terminal, command
from legnet_cli.commands.predict import show_search
from legnet_cli.commands.progress import DownloadBar, ProgressBar
from legnet_cli.engine.eval import CompareConfig, EvalConfig
from legnet_cli.errors import ConfigError
from legnet_cli.settings import documented, option

if TYPE_CHECKING:
    from legnet_cli.engine.eval import CompareResult, EvalResult


@documented
@dataclass(frozen=True)
class _Terminal(Terminal):
    """What ``eval`` shows."""

    compare: tuple[Path, ...] = option((), "Folders of two or more earlier reports, in place of data: --compare A B.")


def _eval(config: EvalConfig | CompareConfig, terminal: _Terminal) -> None:
    """Measure a model or predictions against labels: AP by class, errors, a report.

    Example: legnet eval --weights runs/small --data dota-tiles --out runs/small-eval
    """
    if isinstance(config, CompareConfig):
        _compare(config, terminal)
        return
    from legnet_cli.engine.eval import evaluate
    from legnet_cli.engine.process import keep_freed

    keep_freed()
    with ProgressBar("tile", quiet=terminal.quiet) as bar, DownloadBar(quiet=terminal.quiet) as arrived:
        result = evaluate(config, lambda state: show_search(bar, state), arrived.show)
    if terminal.json:
        print_json({"out": str(result.out), "seconds": round(result.seconds, 3), **result.metrics})
    elif not terminal.quiet:
        _show(result)


def _compare(config: CompareConfig, terminal: _Terminal) -> None:
    from legnet_cli.engine.eval import compare_runs

    result = compare_runs(config)
    if terminal.json:
        print_json({"out": str(result.out), **result.to_dict()})
    elif not terminal.quiet:
        _show_runs(result)


def _make(values: dict[str, Any], terminal: _Terminal) -> EvalConfig | CompareConfig:
    if not terminal.compare:
        return EvalConfig(**{"data": None, **values})
    if any(values.get(name) for name in ("data", "weights", "predictions")):
        raise ConfigError("--compare takes earlier reports alone: leave out --data, --weights and --predictions")
    return CompareConfig(runs=terminal.compare, out=values["out"], overwrite=values["overwrite"])


def _add_runs(given: dict[str, Any], words: list[str]) -> None:
    """``--compare A B``: what follows the first report belongs to it."""
    if not given["compare"]:
        raise ConfigError(f"unexpected argument {words[0]!r}: name the labelled data set with --data")
    given["compare"] = [*given["compare"], *words]


eval_ = command("eval", _eval, EvalConfig, _Terminal, make=_make, words=_add_runs)


def _show(result: EvalResult) -> None:
    metrics = result.metrics
    rows = []
    for name in metrics["classes"]:
        ap, point = metrics["ap"]["voc07"], metrics["operating_point"]["classes"][name] or {}
        numbers = (ap["0.50"][name], ap["0.75"][name], point.get("score"), point.get("precision"), point.get("recall"))
        counts = (f"{metrics['counts'][of][name]:,}" for of in ("truths", "ignored"))
        rows.append([name, *counts, *map(_text, numbers)])
    summary, overall = metrics["summary"]["voc07"], metrics["operating_point"]["overall"] or {}
    best = (overall.get("score"), overall.get("precision"), overall.get("recall"))
    total = sum(metrics["counts"]["truths"].values())
    rows.append(
        ["all", f"{total:,}", f"{metrics['ignored']:,}", *map(_text, (summary["mAP50"], summary["mAP75"], *best))]
    )
    title = f"mAP50 {_text(summary['mAP50'])}, mAP50:95 {_text(summary['mAP50:95'])} (VOC07)"
    _table(title, ("class", "objects", "ignored", "AP50", "AP75", "threshold", "precision", "recall"), rows)
    if found := metrics.get("calibration"):
        keys = ("threshold", "precision", "recall")
        rows = [[name, *(_text(one[key]) for key in keys), one["method"]] for name, one in found.items()]
        _table("calibration", ("class", *keys, "map to probability"), rows)
    if mapped := metrics["reliability"]["probability"]:
        raw = metrics["reliability"]["score"]["ece"]
        typer.echo(f"expected calibration error: scores {raw:.3f}, probabilities {mapped['ece']:.3f}", err=True)
    if result.robustness is not None:
        kinds = {kind: [*values, result.robustness.drops[kind]] for kind, values in result.robustness.map50.items()}
        drops = [[kind, *map(_text, values)] for kind, values in kinds.items()]
        title = f"mAP50 on corrupted images: mean relative drop {_text(result.robustness.drop)}"
        _table(title, ("corruption", "1", "2", "3", "4", "5", "drop"), drops)
    images = f"{metrics['images']:,} image{'s' if metrics['images'] > 1 else ''}"
    typer.echo(f"{images}, {result.seconds:.1f} s → {result.out / 'report.html'}", err=True)
    if result.submission is not None:
        typer.echo(f"submission → {result.submission}", err=True)


def _show_runs(result: CompareResult) -> None:
    rows = [[name, *map(_text, row.values()), _text(result.drops[name])] for name, row in result.summary.items()]
    head = ("run", *next(iter(result.summary.values())), "corrupted, drop")
    _table("VOC07", head, rows)
    typer.echo(f"comparison → {result.out / 'report.html'}", err=True)


def _table(title: str, head: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console

    table = number_table(*head, title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))  # narrow, to fit 80 characters
    for row in rows:
        table.add_row(*row)
    Console(stderr=True).print(table)


def _text(value: Any) -> str:  # noqa: ANN401 - a number or None
    return "–" if value is None else f"{value:.3f}"
