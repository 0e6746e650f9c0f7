"""The plots of a report, as PNG files; no display is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, ScalarFormatter
from numpy.typing import NDArray

from legnet_cli.boxes import polygons_to_boxes
from legnet_cli.engine.eval.measure import BACKGROUND, EvalMetrics
from legnet_cli.engine.eval.robustness import Robustness
from legnet_cli.engine.predict import class_colour

GOOD, BAD, QUIET = "#009E73", "#D55E00", "#9aa3ad"

_DPI = 140
_ANNOTATED = 25  # classes up to which each cell of the confusion matrix shows its number
_POINTS = 2000  # of a curve that are drawn


def plot_curves(measured: EvalMetrics, path: Path) -> None:
    """Precision against recall of each class at IoU 0.5, the best threshold marked."""
    figure, axes = _figure(8.4, 5.2)
    ap = measured.precisions.ap[1, 0]
    for label in np.argsort(-np.nan_to_num(ap, nan=-1.0), kind="stable").tolist():
        curve, point = measured.curves[label], measured.points[label]
        if curve is None:
            continue
        recall = np.concatenate([[0.0], curve.recall])
        precision = np.concatenate([[*curve.precision[:1], 0.0][:1], curve.precision])
        keep = np.unique(np.linspace(0, len(recall) - 1, _POINTS).astype(int))
        colour = [part / 255 for part in class_colour(label)]
        name = f"{measured.classes[label]}  {ap[label]:.3f}"
        axes.plot(recall[keep], precision[keep], color=colour, label=name, linewidth=1.8)
        if point is not None:
            axes.plot(point.recall, point.precision, "o", color=colour, markersize=5, markeredgecolor="white")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.005), ylim=(0, 1.02))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9, title="area AP50")
    _save(figure, path)


def plot_confusion(measured: EvalMetrics, path: Path) -> None:
    """Confusion matrix: colours by share of the true class, numbers are counts."""
    matrix = measured.confusion
    names = [*measured.classes, BACKGROUND]
    size = min(max(4.2, 0.46 * len(names) + 1.8), 16)
    figure, axes = _figure(size + 0.6, size)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= _ANNOTATED:
        for row, col in zip(*np.nonzero(matrix), strict=True):
            colour = "white" if share[row, col] > 0.55 else "#222"
            axes.text(col, row, f"{matrix[row, col]:,}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03, format=PercentFormatter(1.0))
    bar.set_label("share of the true class", fontsize=9)
    _save(figure, path)


def plot_histograms(measured: EvalMetrics, path: Path) -> None:
    """How scores and sizes spread: of right and wrong predictions, of found and missed objects."""
    figure, (left, right) = _figures(9.6, 3.7, 2)
    true, false = measured.verdicts()
    scores = measured.matched.predictions.scores
    bins = np.linspace(0, 1, 41).tolist()
    # not stacked: on a logarithmic axis heights do not add up
    for part, colour, name in ((scores[false], BAD, "wrong"), (scores[true], GOOD, "right")):
        left.hist(part, bins, histtype="stepfilled", color=colour, alpha=0.45, label=name)
    left.axvline(measured.threshold, color="#222", linewidth=1, linestyle="--", label="best threshold")
    left.set(xlabel="score", ylabel="predictions", yscale="log" if len(scores) > 1000 else "linear")
    left.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9)
    truths = measured.truths
    chosen = true & (scores >= measured.threshold)
    found = np.zeros(len(truths), bool)
    found[measured.matched.truth[chosen]] = True
    side = np.sqrt(polygons_to_boxes(truths.quads)[:, 2:4].prod(1))
    counted = ~truths.ignored & (side > 0)
    edges = np.geomspace(side[counted].min(), side[counted].max() * 1.001 + 1e-9, 31).tolist()
    both = [side[counted & found], side[counted & ~found]]
    right.hist(both, edges, stacked=True, color=[GOOD, QUIET], label=["found", "missed"])
    right.set(xlabel="size of the object: √area, pixels", ylabel="objects")
    right.set_xscale("log", base=2)
    right.xaxis.set_major_formatter(ScalarFormatter())
    right.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9)
    _save(figure, path)


def plot_reliability(metrics: Mapping[str, Any], path: Path) -> None:
    """Share of true objects against score, and probability where the model knows it; the diagonal is perfect."""
    figure, axes = _figure(5.6, 4.4)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--")
    for key, colour in (("score", BAD), ("probability", GOOD)):
        if (found := metrics[key]) is not None:
            size = 12 + 90 * np.array(found["counts"]) / max(found["counts"], default=1)
            label = f"{key}: expected calibration error {found['ece']:.3f}"
            axes.plot(found["probability"], found["share"], color=colour, linewidth=1.4, label=label)
            axes.scatter(found["probability"], found["share"], s=size, color=colour)
    axes.set(xlabel="score or probability", ylabel="share of true objects", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=9)
    _save(figure, path)


def plot_robustness(robustness: Robustness, path: Path) -> None:
    """MAP50 against severity, a line for each corruption."""
    figure, axes = _figure(7.6, 4.4)
    clean = float(robustness.clean[0, 0])
    for number, (kind, values) in enumerate(robustness.map50.items()):
        colour = [part / 255 for part in class_colour(number)]
        axes.plot(range(len(values) + 1), [clean, *values], "o-", color=colour, label=kind, markersize=4)
    axes.set(xlabel="severity (0: as it is)", ylabel="mAP50 (VOC07)", ylim=(0, None))
    axes.set_xticks(range(6))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    _save(figure, path)


def plot_bars(groups: Sequence[str], runs: Mapping[str, Sequence[float | None]], label: str, path: Path) -> None:
    """Bars of each run side by side in each group; a missing value leaves a gap."""
    figure, axes = _figure(max(6.4, 0.34 * len(groups) * len(runs) + 2.5), 4.0)
    width = 0.8 / len(runs)
    for number, (name, values) in enumerate(runs.items()):
        at = np.arange(len(groups)) + (number - (len(runs) - 1) / 2) * width
        heights: NDArray[np.float64] = np.array([np.nan if value is None else value for value in values])
        colour = [part / 255 for part in class_colour(number)]
        axes.bar(at, np.nan_to_num(heights), width * 0.92, color=colour, label=name)
    turned = len(groups) > 8
    axes.set_xticks(range(len(groups)), groups, rotation=40 if turned else 0, ha="right" if turned else "center")
    axes.set(ylabel=label, ylim=(0, 1))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    _save(figure, path)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure, axes = _figures(width, height, 1)
    return figure, axes[0]


def _figures(width: float, height: float, columns: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, columns, column) for column in range(1, columns + 1)]
    for one in axes:
        one.grid(True, color="#e6e9ec", linewidth=0.8)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color("#9aa3ad")
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    # without the version of the library in the file, the same plot is the same bytes
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
