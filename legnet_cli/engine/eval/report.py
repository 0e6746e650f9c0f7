"""The report of an evaluation: ``metrics.json``, plots as PNG, and ``report.html`` with all in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from legnet_cli.engine.eval.cases import FOUND_COLOUR, TRUE_COLOUR, Case
from legnet_cli.engine.eval.measure import EvalMetrics
from legnet_cli.engine.eval.plots import plot_confusion, plot_curves, plot_histograms, plot_reliability, plot_robustness
from legnet_cli.engine.eval.robustness import Robustness
from legnet_cli.engine.html import render_page
from legnet_cli.files import atomic_path

METRICS_FILE = "metrics.json"
REPORT_FILE = "report.html"
PLOTS = {
    "curves": "pr_curves.png",
    "confusion": "confusion_matrix.png",
    "histograms": "histograms.png",
    "reliability": "reliability.png",
    "robustness": "robustness.png",
}

_COUNTS = ("truths", "ignored", "predictions")
_POINT = ("score", "precision", "recall", "f1")
_CLASS_COLUMNS = (
    *("class", "objects", "ignored", "boxes", "AP50", "AP75", "AP50:95", "AP50 area"),
    *("threshold", "precision", "recall", "F1"),
)
_RULES = {
    "dota": "By the rules of DOTA's development kit: IoU with the outline as labelled, strictly above the threshold; "
    "difficult objects are ignored.",
    "mmrotate": "By mmrotate's rules: objects as their smallest boxes, an IoU that equals the threshold is enough, "
    "difficult objects count.",
}


def write_report(
    out: Path,
    metrics: dict[str, Any],
    measured: EvalMetrics,
    cases: Sequence[Case],
    robustness: Robustness | None = None,
) -> None:
    """Write the report to the folder ``out``; files of an earlier report there are replaced or removed.

    Raises:
        DataError: the folder cannot be written.
    """
    with atomic_path(out) as scratch:
        scratch.mkdir()
        write_metrics(scratch / METRICS_FILE, metrics)
        plots = {key: scratch / name for key, name in PLOTS.items()}
        plot_curves(measured, plots["curves"])
        plot_confusion(measured, plots["confusion"])
        plot_histograms(measured, plots["histograms"])
        plot_reliability(metrics["reliability"], plots["reliability"])
        if robustness is not None:
            plot_robustness(robustness, plots["robustness"])
        page = _page(metrics, measured, cases, read_plots(plots))
        write_text(scratch / REPORT_FILE, page)
        for name in PLOTS.values():
            if not (scratch / name).exists():
                (out / name).unlink(missing_ok=True)


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write ``metrics`` as JSON that any reader takes: what is not known is null."""
    write_text(path, json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with the same line ends on every system."""
    path.write_text(text, encoding="utf-8", newline="\n")


def read_plots(plots: Mapping[str, Path]) -> dict[str, bytes]:
    """Content of the plots that were drawn."""
    return {key: path.read_bytes() for key, path in plots.items() if path.exists()}


def percent(share: float | None) -> str | None:
    """``share`` as text with one decimal."""
    return None if share is None else f"{share:.1%}"


def _page(metrics: dict[str, Any], measured: EvalMetrics, cases: Sequence[Case], plots: dict[str, bytes]) -> str:
    subject = metrics.get("weights") or metrics.get("predictions")
    absent = metrics["classes_without_truth"]
    note = "AP by the VOC07 metric unless it says area; precision, recall and F1 at the threshold with the best F1."
    note += f" No objects, so not in any mean: {', '.join(absent)}." if absent else ""
    note += _ignored_note(metrics)
    note += f" Ties: {ties}." if (ties := tie_note(metrics)) else ""
    return render_page(
        "legnet_cli.engine.eval",
        "report.html",
        title=f"Evaluation of {Path(str(subject)).name}",
        subtitle=f"{subject} on {metrics['data']}: {metrics['images']:,} images. {_RULES[metrics['rules']]}",
        figures=_figures(metrics),
        class_note=note,
        class_columns=_CLASS_COLUMNS,
        class_rows=[_class_row(metrics, measured, name) for name in measured.classes],
        class_total=_class_total(metrics),
        threshold_columns=("", *metrics["map"]["voc07"]),
        threshold_rows=[(f"mAP, {metric}", *values.values()) for metric, values in metrics["map"].items()],
        size_rows=_size_rows(metrics),
        threshold=measured.threshold,
        calibration=_calibration(metrics),
        robustness=_robustness(metrics),
        galleries=[
            (
                "Worst misses",
                "The largest objects that no box found, then those found with the lowest scores.",
                [case for case in cases if case.kind == "miss"],
            ),
            (
                "Worst false alarms",
                "The boxes of the highest scores that are on no object of their class.",
                [case for case in cases if case.kind == "false alarm"],
            ),
        ],
        true_colour=TRUE_COLOUR,
        found_colour=FOUND_COLOUR,
        plots=plots,
    )


def _ignored_note(metrics: dict[str, Any]) -> str:
    cut = sum(metrics["counts"]["cut_by_tiles"].values())
    return f" Of the ignored objects {cut:,} would count, but every tile that shows them cuts them." if cut else ""


def tie_note(metrics: dict[str, Any]) -> str:
    """A sentence on the classes whose average precision depends on the order of equal scores; empty if none does."""
    listed = ", ".join(
        f"{name} (AP{tie['iou'] * 100:.0f} {tie['lowest']:.3f} to {tie['highest']:.3f}, {tie['metric']})"
        for name, tie in metrics["ties"].items()
    )
    return f"the order of equal scores, here by image and place, can change the AP of {listed}" if listed else ""


def _figures(metrics: dict[str, Any]) -> list[tuple[str, float | None]]:
    shown = [(f"{name}, VOC07", value) for name, value in metrics["summary"]["voc07"].items()]
    shown.append(("mAP50, area", metrics["summary"]["area"]["mAP50"]))
    point = metrics["operating_point"]["overall"]
    if point:
        shown += [("precision", point["precision"]), ("recall", point["recall"])]
        shown.append((f"best F1, at score ≥ {point['score']:.2f}", point["f1"]))
    return shown


def _class_row(metrics: dict[str, Any], measured: EvalMetrics, name: str) -> tuple[object, ...]:
    voc07, area = metrics["ap"]["voc07"], metrics["ap"]["area"]
    known = voc07["0.50"][name] is not None
    mean = float(measured.precisions.ap[0, :, measured.classes.index(name)].mean()) if known else None
    ap = (voc07["0.50"][name], voc07["0.75"][name], mean, area["0.50"][name])
    point = metrics["operating_point"]["classes"][name] or {}
    return (name, *(metrics["counts"][of][name] for of in _COUNTS), *ap, *map(point.get, _POINT))


def _class_total(metrics: dict[str, Any]) -> tuple[object, ...]:
    ap = (*metrics["summary"]["voc07"].values(), metrics["summary"]["area"]["mAP50"])
    point = metrics["operating_point"]["overall"] or {}
    counts = {of: sum(metrics["counts"][of].values()) for of in _COUNTS} | {"ignored": metrics["ignored"]}
    return ("all", *counts.values(), *ap, *map(point.get, _POINT))


def _size_rows(metrics: dict[str, Any]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for unit, what in (("pixels", "√area in pixels"), ("metres", "length in metres")):
        for name, part in (metrics["size"][unit] or {}).items():
            low, high = part["range"]
            span = f"under {high:g}" if not low else f"{low:g} and over" if high is None else f"{low:g} to {high:g}"
            ap = part["map"]["voc07"]
            every = [value for value in ap.values() if value is not None]
            mean = sum(every) / len(every) if every else None
            rows.append((f"{name}: {what} {span}", part["truths"], ap["0.50"], ap["0.75"], mean))
    return rows


def _calibration(metrics: dict[str, Any]) -> list[tuple[object, ...]]:
    keys = ("threshold", "precision", "recall", "objects", "method")
    return [(name, *(found[key] for key in keys)) for name, found in metrics.get("calibration", {}).items()]


def _robustness(metrics: dict[str, Any]) -> dict[str, object] | None:
    """The table of mAP50 by corruption and severity."""
    found = metrics["robustness"]
    if found is None:
        return None
    clean = found["clean"]["voc07"]["mAP50"]
    severities = [f"severity {number}" for number in found["severities"]]
    return {
        "columns": ("corruption", "as it is", *severities, "relative drop"),
        "rows": [
            (kind, clean, *values["voc07"]["mAP50"], percent(values["relative_drop"]))
            for kind, values in found["kinds"].items()
        ],
        "total": ("mean", *[""] * (1 + len(severities)), percent(found["mean_relative_drop"])),
    }
