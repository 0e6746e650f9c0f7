"""The metrics of several evaluations side by side.

from legnet_cli.engine.eval.compare import CompareConfig, compare_runs
compare_runs(CompareConfig(runs=(Path("runs/tiny"), Path("runs/small")), out=Path("runs/tiny-small")))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from legnet_cli.engine.eval.config import CompareConfig
from legnet_cli.engine.eval.plots import plot_bars
from legnet_cli.engine.eval.report import METRICS_FILE, REPORT_FILE, percent, read_plots, write_metrics, write_text
from legnet_cli.engine.html import render_page
from legnet_cli.errors import DataError
from legnet_cli.files import atomic_path, check_output
from legnet_cli.untrusted import parse_json, read_text

COMPARE_FILE = "compare.json"
PLOTS = {"summary": "compare_map.png", "classes": "compare_classes.png", "robustness": "compare_robustness.png"}


@dataclass(frozen=True)
class CompareResult:
    """Metrics by run.

    Attributes:
        summary: mAP50, mAP75 and mAP50:95 (VOC07) of each run.
        classes: AP50 (VOC07) of each run by class; None where a run does not have the class.
        drops: mean relative drop on corrupted images of each run; None where it was not measured.
        out: folder of the comparison.
    """

    summary: dict[str, dict[str, float | None]]
    classes: dict[str, dict[str, float | None]]
    drops: dict[str, float | None]
    out: Path

    def to_dict(self) -> dict[str, Any]:
        """As it stands in ``compare.json``."""
        return {"summary": self.summary, "ap50": self.classes, "mean_relative_drop": self.drops}


def compare_runs(config: CompareConfig) -> CompareResult:
    """Compare runs and write tables and plots to ``config.out``.

    Raises:
        DataError: a run cannot be read, or the output cannot be written.
        ConfigError: the output exists already.
    """
    check_output(f"{config.out}/", overwrite=config.overwrite, folder_files=COMPARE_FILE)
    runs = {name: _read(path) for name, path in zip(_names(config.runs), config.runs, strict=True)}
    names = list(dict.fromkeys(name for run in runs.values() for name in run["ap"]["voc07"]["0.50"]))
    result = CompareResult(
        {name: run["summary"]["voc07"] for name, run in runs.items()},
        {name: {kind: run["ap"]["voc07"]["0.50"].get(kind) for kind in names} for name, run in runs.items()},
        {name: (run.get("robustness") or {}).get("mean_relative_drop") for name, run in runs.items()},
        config.out,
    )
    _write(result, runs, names)
    return result


def _names(runs: tuple[Path, ...]) -> list[str]:
    """The last folder's name of each run, or the whole path where two share it."""
    last = [path.resolve().name for path in runs]
    return [name if last.count(name) == 1 else str(path) for name, path in zip(last, runs, strict=True)]


def _read(path: Path) -> dict[str, Any]:
    file = path / METRICS_FILE
    try:
        run = parse_json(read_text(file))
        _check_numbers(run["summary"]["voc07"])
        _check_numbers(run["ap"]["voc07"]["0.50"])
        robustness = run.get("robustness") or {}
        _check_numbers({"mean": robustness.get("mean_relative_drop")})
        for kind in robustness.get("kinds", {}).values():
            _check_numbers({"drop": kind["relative_drop"]})
        run["data"], run["summary"]["voc07"]["mAP50"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: cannot be read as metrics: give a folder that legnet eval wrote") from error
    return dict(run)


def _check_numbers(values: Mapping[str, object]) -> None:
    """Refuse, by a TypeError, values that are neither numbers nor None."""
    for value in values.values():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TypeError(value)


def _write(result: CompareResult, runs: Mapping[str, dict[str, Any]], classes: list[str]) -> None:
    measures = list(next(iter(result.summary.values())))
    by_run = {name: [row[key] for key in measures] for name, row in result.summary.items()}
    by_class = {name: list(row.values()) for name, row in result.classes.items()}
    drops = _drops(runs)
    kinds = list(next(iter(drops.values()), {}))
    with atomic_path(result.out) as scratch:
        scratch.mkdir()
        write_metrics(scratch / COMPARE_FILE, result.to_dict())
        plots = {key: scratch / name for key, name in PLOTS.items()}
        plot_bars(measures, by_run, "VOC07", plots["summary"])
        plot_bars(classes, by_class, "AP50 (VOC07)", plots["classes"])
        if drops:
            values = {name: list(row.values()) for name, row in drops.items()}
            plot_bars(kinds, values, "relative drop of mAP50", plots["robustness"])
        data = sorted({str(run["data"]) for run in runs.values()})
        page = render_page(
            "legnet_cli.engine.eval",
            "compare.html",
            title="Comparison",
            subtitle=f"{len(runs)} runs on {', '.join(data)}. VOC07 metric.",
            run_columns=("run", *measures, "mean drop, corrupted"),
            run_rows=[(name, *values, percent(result.drops[name])) for name, values in by_run.items()],
            class_columns=("AP50", *runs),
            class_rows=[(kind, *(row[kind] for row in result.classes.values())) for kind in classes],
            drop_columns=("relative drop", *drops),
            drop_rows=[(kind, *(percent(row[kind]) for row in drops.values())) for kind in kinds],
            plots=read_plots(plots),
        )
        write_text(scratch / REPORT_FILE, page)


def _drops(runs: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Relative drop by corruption of the runs in which it was measured."""
    return {
        name: {kind: values["relative_drop"] for kind, values in run["robustness"]["kinds"].items()}
        for name, run in runs.items()
        if run.get("robustness")
    }
