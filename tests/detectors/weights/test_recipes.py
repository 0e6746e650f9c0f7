"""The table of recipes, against the papers' and configs' values."""

import subprocess
import sys

import pytest

from legnet_cli.detectors.weights.fetch import WEIGHTS
from legnet_cli.detectors.weights.recipes import BACKBONES, DATASETS, RECIPES, get_recipe
from legnet_cli.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "angle", "epochs", "steps", "lr", "batch", "mean_ap", "classes"),
    [
        ("oriented-rcnn/legnet-tiny", "le90", 36, (13, 24, 33), 2e-4, 8, 79.37, 15),
        ("oriented-rcnn/legnet-small", "le90", 36, (13, 24, 33), 2e-4, 8, 80.03, 15),
        ("oriented-rcnn/legnet-small@dota15", "le90", 36, (13, 24, 33), 1.5e-4, 4, 72.89, 16),
        ("oriented-rcnn/legnet-small@fair1m", "le90", 12, (8, 11), 1e-4, 8, 48.35, 37),
        ("oriented-rcnn/legnet-small@dior-r", "le90", 12, (8, 11), 1e-4, 8, 68.40, 20),
        ("oriented-rcnn/unravelnet-tiny", "le90", 36, (24, 33), 1.5e-4, 8, None, 15),
        ("oriented-rcnn/unravelnet-small", "le90", 36, (24, 33), 1.5e-4, 8, None, 15),
        ("roi-transformer/legnet-small", "le90", 36, (13, 24, 33), 2e-4, 4, None, 15),
        ("rotated-faster-rcnn/legnet-small", "le90", 36, (13, 24, 33), 1.5e-4, 4, None, 15),
        ("rotated-fcos/legnet-small", "le90", 36, (13, 24, 33), 2e-4, 4, None, 15),
        ("s2anet/legnet-small", "le135", 36, (13, 24, 33), 2e-4, 2, None, 15),
        ("r3det/legnet-small", "oc", 36, (13, 24, 33), 2e-4, 4, None, 15),
    ],
)
def test_published_recipes(
    name: str,
    angle: str,
    epochs: int,
    steps: tuple[int, ...],
    lr: float,
    batch: int,
    mean_ap: float | None,
    classes: int,
) -> None:
    recipe = RECIPES[name]
    assert (recipe.angle, recipe.epochs, recipe.steps, recipe.lr, recipe.batch) == (angle, epochs, steps, lr, batch)
    assert (recipe.mean_ap, len(recipe.dataset.classes)) == (mean_ap, classes)


def test_every_name_leads_to_its_recipe() -> None:
    assert all(get_recipe(name) is recipe and recipe.name == name for name, recipe in RECIPES.items())
    assert get_recipe("oriented-rcnn/legnet-tiny@dota10") is RECIPES["oriented-rcnn/legnet-tiny"]


def test_unpublished_combinations_take_the_detectors_schedule() -> None:
    recipe = get_recipe("s2anet/unravelnet-tiny@hrsc")
    assert recipe.name == "s2anet/unravelnet-tiny@hrsc"
    assert (recipe.batch, recipe.dataset.classes, recipe.dataset.tile) == (2, ("ship",), 800)
    assert (recipe.parameters, recipe.mean_ap, recipe.weights) == (None, None, None)
    assert get_recipe("oriented-rcnn/legnet-tiny@dota15").weights is None


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("oriented-rcnn/legnet-smal", "oriented-rcnn/legnet-small"),
        ("orientedrcnn/legnet-tiny", "oriented-rcnn/legnet-tiny"),
        ("r3det/legnet-small@dota", "r3det/legnet-small"),
        ("r3det", "r3det/legnet-small"),
        ("", "oriented-rcnn/legnet-nano"),
    ],
)
def test_unknown_names(name: str, close: str) -> None:
    with pytest.raises(ConfigError, match=rf"no recipe {name!r}: did you mean {close}\?"):
        get_recipe(name)


def test_class_lists() -> None:
    counts = {name: len(dataset.classes) for name, dataset in DATASETS.items()}
    assert counts == {"dota10": 15, "dota15": 16, "dota20": 18, "fair1m": 37, "dior-r": 20, "hrsc": 1}
    assert all(len(set(dataset.classes)) == len(dataset.classes) for dataset in DATASETS.values())
    # the labels the training augmentation treats as round
    assert [DATASETS["dota10"].classes[i] for i in (9, 11)] == ["storage-tank", "roundabout"]


def test_weights_named_here_exist() -> None:
    detectors = {recipe.weights for recipe in RECIPES.values()} - {None}
    backbones = {backbone.weights for backbone in BACKBONES.values()} - {None}
    assert detectors == {name for name, file in WEIGHTS.items() if not file.backbone_only}
    assert backbones == {name for name, file in WEIGHTS.items() if file.backbone_only}


def test_the_table_loads_neither_torch_nor_mmcv() -> None:
    modules = ", ".join(f"legnet_cli.detectors.weights.{name}" for name in ("recipes", "model_config", "fetch"))
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
