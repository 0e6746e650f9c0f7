"""``legnet models``: what can be trained and loaded."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

import typer

from legnet_cli.commands.console import print_json
from legnet_cli.commands.options import Output, command
from legnet_cli.settings import Settings

_TITLES = ("recipe", "M par.", "dataset", "classes", "mAP", "--weights")
_LOG_WIDTH = 120  # where there is no terminal


def _models(_: Settings, output: Output) -> None:
    """List the recipes, with their size, classes, published mAP and weights.

    Example: legnet models --json
    """
    rows = _rows()
    if output.json:
        print_json(rows)
    else:
        _show(rows)


models = command("models", _models, Settings, Output)


def _rows() -> list[dict[str, Any]]:
    from legnet_cli.detectors.weights.fetch import WEIGHTS
    from legnet_cli.detectors.weights.recipes import RECIPES

    return [
        {
            "recipe": recipe.name,
            "parameters": recipe.parameters,
            "dataset": recipe.dataset.title,
            "classes": list(recipe.dataset.classes),
            "mean_ap": recipe.mean_ap,
            "epochs": recipe.epochs,
            "weights": recipe.weights,
            "weights_url": WEIGHTS[recipe.weights].url if recipe.weights else None,
            "backbone_weights": recipe.backbone.weights,
        }
        for recipe in RECIPES.values()
    ]


def _show(rows: list[dict[str, Any]]) -> None:
    from legnet_cli.detectors.weights.fetch import EMBEDDED

    room = shutil.get_terminal_size((_LOG_WIDTH, 0)).columns
    cells = [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(_TITLES, *cells, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) <= room:
        lines = [
            "  ".join(_aligned(row, widths)).rstrip() for row in (_TITLES, ["─" * width for width in widths], *cells)
        ]
    else:  # a name that is broken cannot be copied
        lines = [line for row in cells for line in _entry(row, room)]
    notes = (
        "mAP in percent, as published. Weights are the authors' (CC BY-NC 4.0: non-commercial use only).",
        f"Without --weights: {EMBEDDED}, a small model for trying things out.",
        "Other detector/backbone[@dataset] combinations of these names can be trained too.",
    )
    typer.echo("\n".join([*lines, "", *(_wrapped(note, room, "") for note in notes)]))


def _cells(row: dict[str, Any]) -> list[str]:
    mean_ap = f"{row['mean_ap']:.2f}" if row["mean_ap"] else ""
    size, classes = f"{row['parameters'] / 1e6:.1f}", str(len(row["classes"]))
    return [row["recipe"], size, row["dataset"], classes, mean_ap, row["weights"] or ""]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    right = ("M par.", "classes", "mAP")
    pairs = zip(_TITLES, row, widths, strict=True)
    return [text.rjust(width) if title in right else text.ljust(width) for title, text, width in pairs]


def _entry(row: Sequence[str], width: int) -> list[str]:
    """A recipe on lines of its own."""
    name, size, dataset, classes, mean_ap, weights = row
    parts = [f"{size} M", dataset, f"{classes} classes"]
    parts += [f"mAP {mean_ap}"] if mean_ap else []
    parts += [f"--weights {weights}"] if weights else []
    return [name, _wrapped(", ".join(parts), width, "  ")]


def _wrapped(text: str, width: int, indent: str) -> str:
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
