"""mmrotate's detectors on our backbones: sizes, and detections from end to end."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from legnet_cli.boxes import Detections, boxes_to_polygons
from legnet_cli.detectors.mmrotate.build import MMRotateDetector, build_mmrotate, prepare
from legnet_cli.detectors.networks import random_checkpoint
from legnet_cli.detectors.weights.checkpoint import infer_recipe
from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.recipes import DETECTORS, RECIPES, get_recipe
from legnet_cli.errors import CheckpointError

CPU = torch.device("cpu")
State = dict[str, Tensor]


def random_state(name: str, classes: int = 3) -> State:
    """Random weights of a recipe, wide enough for what is found to depend on the image."""
    generator = torch.Generator().manual_seed(0)
    state: State = build_mmrotate(model_config(get_recipe(name), classes)).state_dict()
    for key, tensor in state.items():
        if tensor.ndim > 1 and tensor.is_floating_point():
            gain = 0.1 if re.search("reg|angle", key) else 1.0  # boxes near what they are decoded from
            tensor.normal_(std=gain * tensor[0].numel() ** -0.5, generator=generator)
        elif "norm" in key and key.endswith("weight"):
            tensor.fill_(0.6)
    return state


@pytest.fixture(scope="module", params=DETECTORS)
def nano(request: pytest.FixtureRequest) -> tuple[str, State]:
    name = f"{request.param}/legnet-nano"
    return name, random_state(name)


def images(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 30, 60, 3), dtype=torch.uint8, generator=generator)


def detector(nano: tuple[str, State], **options: Any) -> MMRotateDetector:
    options = {"score_threshold": 0.001, "max_detections": 20, **options}
    return MMRotateDetector(model_config(get_recipe(nano[0]), 3), nano[1], device=CPU, **options)


@pytest.fixture(scope="module")
def found(nano: tuple[str, State]) -> tuple[list[Any], list[Detections]]:
    """What mmrotate itself finds in two images, and what leaves the door."""
    searcher = detector(nano)
    x, metas = prepare(images().permute(0, 3, 1, 2), searcher._mean, searcher._std)
    with torch.no_grad():
        raw = searcher._model.simple_test(x, metas)
    return raw, searcher.detect(images())


@pytest.mark.parametrize("name", RECIPES)
def test_parameter_counts_of_the_table(name: str) -> None:
    recipe = RECIPES[name]
    model = build_mmrotate(model_config(recipe, len(recipe.dataset.classes)))
    assert sum(p.numel() for p in model.parameters()) == recipe.parameters


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("oriented-rcnn/legnet-tiny", 20_651_935),
        ("oriented-rcnn/legnet-small", 29_896_175),
        ("oriented-rcnn/unravelnet-tiny", 26_676_067),
    ],
)
def test_parameter_counts_of_the_reference(name: str, count: int) -> None:
    assert RECIPES[name].parameters == count


def test_nano_is_small() -> None:
    parameters = RECIPES["oriented-rcnn/legnet-nano"].parameters
    assert parameters is not None
    assert parameters < 3e6


def test_recipes_are_told_apart_by_their_tensors(nano: tuple[str, State]) -> None:
    recipe, classes = infer_recipe(nano[1], "w.pth")
    assert (recipe.name, classes) == (nano[0], 3)


def test_detections(found: tuple[list[Any], list[Detections]]) -> None:
    assert len(found[1]) == 2
    for hits in found[1]:
        assert 0 < len(hits) <= 20
        assert (np.diff(hits.scores) <= 0).all()
        assert hits.scores.min() >= 0.001
        assert set(hits.labels) <= {0, 1, 2}
        assert (hits.boxes[:, 2] >= hits.boxes[:, 3]).all()
        assert (np.abs(hits.boxes[:, 4]) <= np.pi / 2).all()


def test_boxes_are_the_rectangles_mmrotate_found(found: tuple[list[Any], list[Detections]]) -> None:
    for per_class, hits in zip(*found, strict=True):
        rows = np.concatenate(per_class)
        rows = rows[np.argsort(-rows[:, 5], kind="stable")]
        np.testing.assert_array_equal(hits.scores, rows[:, 5])
        ours, theirs = boxes_to_polygons(hits.boxes), boxes_to_polygons(rows[:, :5])
        # the same corners, whichever comes first
        gaps = np.abs(ours[:, :, None] - theirs[:, None]).max(3)
        assert gaps.min(2).max() < 1e-2
        assert [hits.labels[hits.labels == i].size for i in range(3)] == [len(found) for found in per_class]


def test_an_image_gives_the_same_alone_and_in_a_batch(
    nano: tuple[str, State], found: tuple[list[Any], list[Detections]]
) -> None:
    alone = detector(nano).detect(images()[1:])[0]
    np.testing.assert_allclose(alone.scores, found[1][1].scores, atol=1e-4)


def test_nothing_over_the_threshold(nano: tuple[str, State]) -> None:
    assert [len(hits) for hits in detector(nano, score_threshold=0.999).detect(images(1))] == [0]


def test_halves_in_the_backbone(nano: tuple[str, State], found: tuple[list[Any], list[Detections]]) -> None:
    full, half = found[1][0], detector(nano, dtype=torch.bfloat16).detect(images(1))[0]
    count = min(len(half), len(full))
    assert not np.array_equal(half.scores[:count], full.scores[:count])
    np.testing.assert_allclose(half.scores[:count], full.scores[:count], atol=0.05)


def test_weights_that_do_not_fit_are_refused(nano: tuple[str, State]) -> None:
    state = dict(nano[1])
    del state["neck.fpn_convs.0.conv.weight"]
    with pytest.raises(CheckpointError, match=r"1 missing \(neck\.fpn_convs\.0\.conv\.weight\)"):
        detector((nano[0], state))


def test_upstreams_name_of_the_backbone() -> None:
    config = model_config(get_recipe("rotated-fcos/legnet-nano"), 3)
    config["backbone"]["type"] = "LWEGNet"
    build_mmrotate(config)


def test_random_weights_fit_every_detector(nano: tuple[str, State]) -> None:
    recipe = get_recipe(nano[0])
    classes = len(recipe.dataset.classes)
    MMRotateDetector(model_config(recipe, classes), random_checkpoint(recipe).state, device=CPU)
