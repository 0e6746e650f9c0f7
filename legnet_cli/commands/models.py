"""``legnet models``: what can be trained and loaded."""

from __future__ import annotations

import sys

from legnet_cli.commands.console import print_json
from legnet_cli.commands.options import Output, command
from legnet_cli.settings import Settings


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


def _rows() -> list[dict[str, object]]:
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


def _show(rows: list[dict[str, object]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from legnet_cli.detectors.weights.fetch import EMBEDDED

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("recipe", "M par.", "dataset", "classes", "mAP", "--weights"):
        # fold: a name cut short could not be copied
        table.add_column(title, overflow="fold", justify="right" if title in ("M par.", "classes", "mAP") else "left")
    for row in rows:
        parameters, classes, mean_ap = row["parameters"], row["classes"], row["mean_ap"]
        assert isinstance(parameters, int)
        assert isinstance(classes, list)
        table.add_row(
            str(row["recipe"]),
            f"{parameters / 1e6:.1f}",
            str(row["dataset"]),
            str(len(classes)),
            f"{mean_ap:.2f}" if mean_ap else "",
            str(row["weights"] or ""),
        )
    console = Console(markup=False, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(
        "mAP in percent, as published. Weights are the authors' (CC BY-NC 4.0: non-commercial use only).",
        f"Without --weights: {EMBEDDED}, a small model for trying things out.",
        "Other detector/backbone[@dataset] combinations of these names can be trained too.",
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )
