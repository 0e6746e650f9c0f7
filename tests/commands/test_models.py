"""``legnet models``."""

import json

import pytest
from typer.testing import CliRunner

from legnet_cli.detectors.weights.recipes import RECIPES
from legnet_cli.main import app


def run(*args: str, **env: str) -> str:
    result = CliRunner().invoke(app, ["models", *args], env=env)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_lists_every_recipe() -> None:
    rows = json.loads(run("--json"))
    assert [row["recipe"] for row in rows] == list(RECIPES)
    tiny = next(row for row in rows if row["recipe"] == "oriented-rcnn/legnet-tiny")
    assert (tiny["parameters"], tiny["mean_ap"], tiny["weights"]) == (20_651_935, 79.37, "legnet-tiny-dota10")
    assert tiny["weights_url"].endswith("lwegnet_tiny_orcnn_dota19_ss.pth")
    assert tiny["classes"][0] == "plane"


@pytest.mark.parametrize("columns", [120, 80, 60])
def test_names_are_shown_in_full_at_any_width(columns: int) -> None:
    out = run(COLUMNS=str(columns))
    assert max(map(len, out.splitlines())) <= columns
    words = out.split()
    assert all(name in words for name in RECIPES)
    assert all(recipe.weights in words for recipe in RECIPES.values() if recipe.weights)
    assert "(CC BY-NC 4.0:" in " ".join(words)
    assert "detector/backbone[@dataset]" in words
