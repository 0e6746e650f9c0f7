"""What the shell completes: weights, recipes and the classes of the chosen weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FILES = (".safetensors", ".pth", ".onnx", ".xml", ".pt2")


def complete_weights(incomplete: str) -> list[str]:
    """Names of published weights, weight files and folders."""
    from legnet_cli.detectors.weights.fetch import EMBEDDED, WEIGHTS

    folder, slash, start = incomplete.rpartition("/")
    inside = Path(folder + slash or ".")
    paths = [path for path in inside.iterdir() if path.name.startswith(start)] if inside.is_dir() else []
    names = [name for name in (EMBEDDED, *WEIGHTS) if name.startswith(incomplete)]
    names += sorted(f"{folder}{slash}{path.name}" for path in paths if path.is_dir() or path.suffix in _FILES)
    return names


def complete_recipes(incomplete: str) -> list[str]:
    """Names of recipes."""
    from legnet_cli.detectors.weights.recipes import RECIPES

    return [name for name in RECIPES if name.startswith(incomplete)]


def complete_classes(ctx: Any, incomplete: str) -> list[str]:  # noqa: ANN401 - Typer's own context
    """The last of several class names, of those that the chosen weights have."""
    from legnet_cli.detectors.weights.fetch import EMBEDDED

    chosen = ctx.params.get("weights") or EMBEDDED
    several = [chosen] if isinstance(chosen, str) else list(chosen)
    before, comma, start = incomplete.rpartition(",")
    taken = before.split(",")
    names = dict.fromkeys(name for one in several for name in _classes(one))
    return [before + comma + name for name in names if name.startswith(start) and name not in taken]


def _classes(weights: str) -> list[str]:
    """Classes of published weights or of a .safetensors file; its header alone is read."""
    from safetensors import SafetensorError, safe_open

    from legnet_cli.detectors.weights.fetch import fetch
    from legnet_cli.detectors.weights.recipes import RECIPES
    from legnet_cli.errors import LegnetError

    published = next((recipe for recipe in RECIPES.values() if recipe.weights == weights), None)
    if published is not None:
        return list(published.dataset.classes)
    if "://" in weights:
        return []
    try:
        with safe_open(fetch(weights), framework="numpy") as file:
            return list(json.loads(file.metadata()["legnet"])["classes"])
    except (LegnetError, SafetensorError, OSError, KeyError, TypeError, ValueError):
        return []


COMPLETIONS: dict[str, Callable[..., list[str]]] = {
    "weights": complete_weights,
    "recipes": complete_recipes,
    "classes": complete_classes,
}
