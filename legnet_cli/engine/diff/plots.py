"""The map and the chart of a report, as PNG files in memory; no display is needed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.engine.diff.ground import SeenGround
from legnet_cli.engine.predict import class_colour

_DPI = 120
_POINTS = 100_000  # of the map
_EDGES = ("#1d2733", "#0072B2", "#7a5195")  # of the grounds of the dates, in turn

Colour = tuple[int, int, int]


def plot_map(
    points: Array,
    labels: NDArray[np.int64],
    colours: Mapping[str, Colour],
    grounds: Mapping[str, SeenGround],
    unit: str,
) -> bytes:
    """Places of objects by what ``labels`` (n,) say of them, over the outlines of what each date shows.

    Args:
        points: (n, 2) in the plane, y down.
        labels: index the names of ``colours``; the first ones lie on top.
        colours: by name.
        grounds: by name of the date.
        unit: of the plane.
    """
    figure, axes = _figure(7.2, 5.4)
    for (name, ground), edge in zip(grounds.items(), _EDGES * len(grounds), strict=False):
        rings = [] if ground.areas is None else shapely.get_rings(shapely.get_parts(ground.areas))
        for number, ring in enumerate(rings):
            x, y = shapely.get_coordinates(ring).T
            axes.plot(x, y, color=edge, linewidth=0.8, label=None if number else f"ground of {name}")
    step = max(1, len(points) // _POINTS)
    for label, name in reversed([*enumerate(colours)]):
        own = points[labels == label][::step]
        if len(own):
            size = 4 if len(points) > 2000 else 16
            shown = f"{name} {int((labels == label).sum()):,}"
            axes.scatter(
                own[:, 0], own[:, 1], s=size, color=_rgb(colours[name]), label=shown, linewidths=0, rasterized=True
            )
    axes.invert_yaxis()
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xlabel=unit, ylabel="")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9, reverse=True)
    return _png(figure)


def plot_counts(table: Mapping[str, Sequence[Mapping[str, int]]], dates: Sequence[str]) -> bytes:
    """Objects found on each date, a line a class."""
    figure, axes = _figure(8.4, 4.2)
    for label, (name, of_dates) in enumerate(table.items()):
        counts = [one["found"] for one in of_dates]
        axes.plot(range(len(dates)), counts, "o-", color=_rgb(class_colour(label)), label=name, linewidth=1.8)
    axes.set_xticks(range(len(dates)), dates, rotation=30 if max(map(len, dates)) > 8 else 0, ha="center")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("objects found")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    return _png(figure)


def _rgb(colour: Colour) -> list[float]:
    return [part / 255 for part in colour]


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()
