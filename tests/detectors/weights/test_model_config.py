"""Model dicts of our own are mmrotate's stock configs on our backbones, key by key."""

import pytest
from stock import stock_config

from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.recipes import BACKBONES, DETECTORS, RECIPES, get_recipe

PAIRS = [f"{detector}/{backbone}" for detector in DETECTORS for backbone in BACKBONES]


def override(node, values):
    """Set the named values wherever they occur in nested dicts and lists."""
    if isinstance(node, dict):
        node.update({key: values[key] for key in node if key in values})
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            override(child, values)


def from_stock(recipe, classes):
    """The stock config with our backbone, its widths and the number of classes."""
    size, model = recipe.backbone, stock_config(recipe.stock).model.to_dict()
    widths = dict.fromkeys(("in_channels", "out_channels", "feat_channels", "channels"), size.neck)
    override(model, {**widths, "fc_out_channels": size.fc, "num_classes": classes})
    if "rpn_head" in model:
        model["rpn_head"]["anchor_generator"]["scales"] = [size.anchor]
    model["backbone"] = {"type": size.kind, "stem_dim": size.stem_dim}
    model["neck"]["in_channels"] = [size.stem_dim * 2**i for i in range(4)]
    return model


def entries(node, path=""):
    """Each value of nested dicts and lists with its path; to mmrotate a tuple is as good as a list."""
    if isinstance(node, dict):
        return {k: v for key, child in node.items() for k, v in entries(child, f"{path}.{key}").items()}
    if isinstance(node, (list, tuple)):
        length = {f"{path}.length": len(node)}
        return length | {k: v for i, child in enumerate(node) for k, v in entries(child, f"{path}[{i}]").items()}
    return {path: (type(node), node)}


@pytest.mark.usefixtures("mmrotate")
@pytest.mark.parametrize("name", dict.fromkeys([*RECIPES, *PAIRS]))
def test_is_the_stock_config_key_by_key(name):
    recipe = get_recipe(name)
    for classes in (1, len(recipe.dataset.classes)):
        assert entries(model_config(recipe, classes)) == entries(from_stock(recipe, classes))


def test_is_new_at_each_call():
    recipe = get_recipe("s2anet/legnet-nano")
    before = repr(model_config(recipe, 3))
    override(model_config(recipe, 3), dict.fromkeys(("num_classes", "stem_dim", "out_channels"), 99))
    changed = model_config(recipe, 3)
    for lists in ("fam_head", "odm_head"):
        changed[lists]["anchor_generator"]["strides"].append(1)
    assert repr(model_config(recipe, 3)) == before
