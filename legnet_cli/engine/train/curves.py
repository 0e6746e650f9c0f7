"""Curves of a training run as one picture: loss and its terms, learning rate, scores of the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from legnet_cli.files import atomic_path

Row = dict[str, str]


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Write the picture of the ``rows`` of ``metrics.csv``."""
    if not rows:
        return
    with matplotlib.rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(10, 7), layout="constrained")
        loss, terms, rate, score = figure.subplots(2, 2).ravel()
        steps = np.array([int(row["step"]) for row in rows])
        values = _column(rows, "loss")
        loss.plot(steps, values, color="0.8", linewidth=0.6)
        loss.plot(steps, _smooth(values), color="C0")
        loss.set(title="loss", xlabel="step", ylim=(0, np.nanpercentile(values, 99) * 1.1))
        for name in sorted({key for key in rows[-1] if "loss" in key and key != "loss"}):
            terms.plot(steps, _smooth(_column(rows, name)), label=name, linewidth=1)
        terms.set(title="terms of the loss", xlabel="step", yscale="log")
        terms.legend(fontsize=7, loc="upper right")
        rate.plot(steps, _column(rows, "lr"), color="C1")
        rate.set(title="learning rate", xlabel="step", ylim=(0, None))
        _scores(score, rows)
        with atomic_path(path) as scratch:
            figure.savefig(scratch, dpi=110)


def _scores(axes: matplotlib.axes.Axes, rows: Sequence[Row]) -> None:
    scored = [row for row in rows if "map50" in row]
    epochs = [int(row["epoch"]) for row in scored]
    for name in sorted({key for row in scored for key in row if key.startswith("ap50/")}):
        axes.plot(epochs, _column(scored, name), label=name.removeprefix("ap50/"), linewidth=1, alpha=0.7, marker=".")
    for name, label in (("map50", "mAP50"), ("map", "mAP50:95")):
        if scored:
            axes.plot(epochs, _column(scored, name), label=label, marker="o", markersize=3)
    axes.set(title="validation", xlabel="epoch", ylim=(0, 1))
    if scored:
        axes.legend(fontsize=7, loc="upper left")
    else:
        axes.text(0.5, 0.5, "no evaluation yet", ha="center", transform=axes.transAxes)


def _column(rows: Sequence[Row], name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([float(row.get(name, "nan")) for row in rows])


def _smooth(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Running mean over a fiftieth of the run, shorter at its ends."""
    width = max(1, len(values) // 50)
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])
    index = np.arange(len(values))
    low, high = np.maximum(index - width, 0), np.minimum(index + width + 1, len(values))
    smooth: np.ndarray[tuple[int], np.dtype[np.float64]] = (sums[high] - sums[low]) / (high - low)
    return smooth
