"""The metrics of several evaluations side by side.

from legnet_cli.engine.eval.compare import CompareConfig, compare_runs
compare_runs(CompareConfig(runs=(Path("runs/tiny"), Path("runs/small")), out=Path("runs/tiny-small")))
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from legnet_cli.engine.eval import html
from legnet_cli.engine.eval.config import CompareConfig
from legnet_cli.engine.eval.plots import plot_bars
from legnet_cli.engine.eval.report import METRICS_FILE, REPORT_FILE, write_metrics
from legnet_cli.errors import DataError
from legnet_cli.files import atomic_path, check_output

COMPARE_FILE = "compare.json"
PLOTS = ("compare_map.png", "compare_classes.png", "compare_robustness.png")


@dataclass(frozen=True)
class CompareResult:
    """Metrics by run.

    Attributes:
        summary: mAP50, mAP75 and mAP50:95 (VOC07) of each run.
        classes: AP50 (VOC07) of each run by class; None where a run does not have the class.
        drops: mean relative drop on degraded images of each run; None where it was not measured.
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
        run = json.loads(file.read_text(encoding="utf-8"))
        run["summary"]["voc07"]["mAP50"], run["ap"]["voc07"]["0.50"].items(), run["data"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: cannot be read as metrics: give a folder that legnet eval wrote") from error
    return dict(run)


def _write(result: CompareResult, runs: Mapping[str, dict[str, Any]], classes: list[str]) -> None:
    measures = list(next(iter(result.summary.values())))
    with atomic_path(result.out) as scratch:
        scratch.mkdir()
        write_metrics(scratch / COMPARE_FILE, result.to_dict())
        by_run = {name: [row[key] for key in measures] for name, row in result.summary.items()}
        plot_bars(measures, by_run, "VOC07", scratch / PLOTS[0])
        by_class = {name: list(row.values()) for name, row in result.classes.items()}
        plot_bars(classes, by_class, "AP50 (VOC07)", scratch / PLOTS[1])
        rows = [(name, *values, _percent(result.drops[name])) for name, values in by_run.items()]
        ap = [(kind, *(row[kind] for row in result.classes.values())) for kind in classes]
        parts = [
            html.section(
                "All classes",
                html.table(("run", *measures, "mean drop, degraded"), rows, bar=1),
                html.plot(scratch / PLOTS[0], "mAP of each run"),
            ),
            html.section("Classes", html.table(("AP50", *runs), ap), html.plot(scratch / PLOTS[1], "AP50 by class")),
        ]
        if section := _robustness(runs, scratch):
            parts.append(section)
        data = sorted({str(run["data"]) for run in runs.values()})
        text = html.page("Comparison", f"{len(runs)} runs on {', '.join(data)}. VOC07 metric.", parts)
        (scratch / REPORT_FILE).write_text(text, encoding="utf-8", newline="\n")


def _robustness(runs: Mapping[str, dict[str, Any]], folder: Path) -> str:
    """Relative drop by degradation, of the runs in which it was measured."""
    measured = {name: run["robustness"]["kinds"] for name, run in runs.items() if run.get("robustness")}
    if not measured:
        return ""
    kinds = list(next(iter(measured.values())))
    drops = {name: [run[kind]["relative_drop"] for kind in kinds] for name, run in measured.items()}
    plot_bars(kinds, drops, "relative drop of mAP50", folder / PLOTS[2])
    rows = [(kind, *(_percent(drop[i]) for drop in drops.values())) for i, kind in enumerate(kinds)]
    table = html.table(("relative drop", *drops), rows)
    return html.section("Robustness", table, html.plot(folder / PLOTS[2], "relative drop by degradation"))


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"
