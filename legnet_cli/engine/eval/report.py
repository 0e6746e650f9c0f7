"""The report of an evaluation: ``metrics.json``, plots as PNG, and ``report.html`` with all in one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from legnet_cli.engine.eval import html
from legnet_cli.engine.eval.cases import FOUND_COLOUR, TRUE_COLOUR, Case
from legnet_cli.engine.eval.measure import EvalMetrics
from legnet_cli.engine.eval.plots import plot_confusion, plot_curves, plot_histograms, plot_robustness
from legnet_cli.engine.eval.robustness import Robustness
from legnet_cli.files import atomic_path

METRICS_FILE = "metrics.json"
REPORT_FILE = "report.html"
PLOTS = ("pr_curves.png", "confusion_matrix.png", "histograms.png", "robustness.png")

_CLASS_COLUMNS = (
    *("class", "objects", "ignored", "boxes", "AP50", "AP75", "AP50:95", "AP50 area"),
    *("threshold", "precision", "recall", "F1"),
)
_RULES = {
    "dota": "By the rules of DOTA's development kit: overlap with the outline as labelled, strictly above the "
    "threshold; difficult objects neither counted nor punished.",
    "mmrotate": "By mmrotate's rules: objects as their smallest boxes, an overlap that equals the threshold is enough, "
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
        curves, confusion, histograms, drops = (scratch / name for name in PLOTS)
        plot_curves(measured, curves)
        plot_confusion(measured, confusion)
        plot_histograms(measured, histograms)
        if robustness is not None:
            plot_robustness(robustness, drops)
        text = _page(metrics, measured, cases, scratch)
        (scratch / REPORT_FILE).write_text(text, encoding="utf-8", newline="\n")
        for name in PLOTS:
            if not (scratch / name).exists():
                (out / name).unlink(missing_ok=True)


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write ``metrics`` as JSON that any reader takes: what is not known is null."""
    text = json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _page(metrics: dict[str, Any], measured: EvalMetrics, cases: Sequence[Case], folder: Path) -> str:
    subject = metrics.get("weights") or metrics.get("predictions")
    title = f"Evaluation of {Path(str(subject)).name}"
    subtitle = f"{subject} on {metrics['data']}: {metrics['images']:,} images. {_RULES[metrics['rules']]}"
    parts = [
        _cards(metrics),
        _classes(metrics, measured),
        _thresholds(metrics),
        _sizes(metrics),
        html.section(
            "Precision and recall",
            html.plot(folder / PLOTS[0], "precision-recall curves"),
            note="At the overlap 0.5. Dots: the threshold with the best F1 of each class.",
        ),
        html.section(
            "Confusion matrix",
            html.plot(folder / PLOTS[1], "confusion matrix"),
            note=f"Boxes of score {measured.threshold:.2f} or more, paired with objects of any class at overlap 0.5.",
        ),
        html.section("Scores and sizes", html.plot(folder / PLOTS[2], "histograms of scores and sizes")),
        _robustness(metrics, folder),
        _gallery("Worst misses", "miss", cases, "The largest objects that no box found, then those found too faintly."),
        _gallery("Worst false alarms", "false alarm", cases, "The surest boxes that are not on an object of theirs."),
    ]
    return html.page(title, subtitle, parts)


def _cards(metrics: dict[str, Any]) -> str:
    shown = [(f"{name}, VOC07", value) for name, value in metrics["summary"]["voc07"].items()]
    shown.append(("mAP50, area", metrics["summary"]["area"]["mAP50"]))
    point = metrics["operating_point"]["overall"]
    if point:
        shown += [("precision", point["precision"]), ("recall", point["recall"])]
        shown.append((f"best F1, at score ≥ {point['score']:.2f}", point["f1"]))
    return html.cards([(label, html.figure_text(value)) for label, value in shown])


def _classes(metrics: dict[str, Any], measured: EvalMetrics) -> str:
    counts, points = metrics["counts"], metrics["operating_point"]["classes"]
    ap = measured.precisions.ap
    rows = []
    for label, name in enumerate(measured.classes):
        voc07 = metrics["ap"]["voc07"]
        known = voc07["0.50"][name] is not None
        every = float(ap[0, :, label].mean()) if known else None
        values = (voc07["0.50"][name], voc07["0.75"][name], every, metrics["ap"]["area"]["0.50"][name])
        point = points[name] or dict.fromkeys(("score", "precision", "recall", "f1"))
        best = (point["score"], point["precision"], point["recall"], point["f1"])
        rows.append((name, *(counts[of][name] for of in ("truths", "ignored", "predictions")), *values, *best))
    means = metrics["summary"]["voc07"]
    sums = (sum(counts[of].values()) for of in ("truths", "ignored", "predictions"))
    overall = metrics["operating_point"]["overall"] or dict.fromkeys(("score", "precision", "recall", "f1"))
    total = ("all", *sums, means["mAP50"], means["mAP75"], means["mAP50:95"], metrics["summary"]["area"]["mAP50"])
    best = (overall["score"], overall["precision"], overall["recall"], overall["f1"])
    absent = metrics["classes_without_truth"]
    note = "AP by the VOC07 metric unless it says area; precision, recall and F1 at the threshold with the best F1."
    note += f" No objects, so not in any mean: {', '.join(absent)}." if absent else ""
    return html.section("Classes", html.table(_CLASS_COLUMNS, rows, total=(*total, *best), bar=4), note=note)


def _thresholds(metrics: dict[str, Any]) -> str:
    rows = [(f"mAP, {metric}", *values.values()) for metric, values in metrics["map"].items()]
    return html.section("Overlap thresholds", html.table(("", *metrics["map"]["voc07"]), rows))


def _sizes(metrics: dict[str, Any]) -> str:
    rows = []
    for unit, what in (("pixels", "√area in pixels"), ("metres", "length in metres")):
        for name, part in (metrics["size"][unit] or {}).items():
            low, high = part["range"]
            span = f"under {high:g}" if not low else f"{low:g} and over" if high is None else f"{low:g} to {high:g}"
            ap = part["map"]["voc07"]
            every = [value for value in ap.values() if value is not None]
            mean = sum(every) / len(every) if every else None
            rows.append((f"{name}: {what} {span}", part["truths"], ap["0.50"], ap["0.75"], mean))
    if not rows:
        return ""
    table = html.table(("size", "objects", "mAP50", "mAP75", "mAP50:95"), rows, bar=2)
    return html.section("Sizes", table, note="Objects of other sizes are ignored, as difficult ones are. VOC07 metric.")


def _robustness(metrics: dict[str, Any], folder: Path) -> str:
    robustness = metrics["robustness"]
    if robustness is None:
        return ""
    clean = robustness["clean"]["voc07"]["mAP50"]
    rows = [
        (kind, clean, *values["voc07"]["mAP50"], _percent(values["relative_drop"]))
        for kind, values in robustness["kinds"].items()
    ]
    severities = [f"severity {number}" for number in robustness["severities"]]
    total = ("mean", *[""] * (1 + len(severities)), _percent(robustness["mean_relative_drop"]))
    table = html.table(("degradation", "as it is", *severities, "relative drop"), rows, total=total)
    plot = html.plot(folder / PLOTS[3], "mAP50 by degradation and severity")
    return html.section("Robustness", table, plot, note="mAP50 (VOC07) on degraded images.")


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"


def _gallery(title: str, kind: str, cases: Sequence[Case], note: str) -> str:
    chosen = [case for case in cases if case.kind == kind]
    pictures = [html.picture(case.picture, f"{case.name} · {case.note}", case.image) for case in chosen]
    if not pictures:
        return ""
    legend = f'<p class="soft">{html.key(TRUE_COLOUR, "labelled")}{html.key(FOUND_COLOUR, "predicted")}</p>'
    return html.section(title, legend, html.gallery(pictures), note=note)
