"""``legnet models``."""

import json

import pytest

from legnet_cli.commands.models import models
from legnet_cli.detectors.weights.recipes import RECIPES


def test_json_lists_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    models(json_=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["recipe"] for row in rows] == list(RECIPES)
    tiny = next(row for row in rows if row["recipe"] == "oriented-rcnn/legnet-tiny")
    assert (tiny["parameters"], tiny["mean_ap"], tiny["weights"]) == (20_651_935, 79.37, "legnet-tiny-dota10")
    assert tiny["weights_url"].endswith("lwegnet_tiny_orcnn_dota19_ss.pth")
    assert tiny["classes"][0] == "plane"


def test_the_table_shows_names_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    models()
    out = capsys.readouterr().out
    assert all(name in out for name in RECIPES)
    assert "legnet-small-dota15" in out
    assert "CC BY-NC 4.0" in out
    assert "[@dataset]" in out
