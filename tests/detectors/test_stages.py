from contextlib import contextmanager

import pytest
import torch
from torch import nn

from legnet_cli.detectors.fast.oriented_rcnn import OrientedRCNN
from legnet_cli.detectors.mmrotate.build import MMRotateDetector
from legnet_cli.detectors.networks import random_checkpoint
from legnet_cli.detectors.stages import observed_modules, unobserved
from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.recipes import get_recipe


@pytest.fixture
def events():
    return []


@pytest.fixture
def observer(events):
    @contextmanager
    def stage(name):
        events.append(name)
        try:
            yield
        finally:
            events.append(f"/{name}")

    return stage


class Doubler(nn.Module):
    def forward(self, x):
        if x < 0:
            raise ValueError("negative")
        return 2 * x


def test_passes_are_reported_and_unchanged(events, observer):
    outer, inner = nn.Sequential(Doubler(), Doubler()), Doubler()
    outer.append(inner)
    with observed_modules({"outer": outer, "inner": inner}, observer):
        assert outer(1) == 8
        assert events == ["outer", "inner", "/inner", "/outer"]
        with pytest.raises(ValueError, match="negative"):
            outer(-1)
    assert events[4:] == ["outer", "/outer"]
    assert outer(1) == 8
    assert len(events) == 6
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in (outer, inner))


def test_the_observer_that_does_nothing():
    with unobserved("any"), unobserved("any"):
        pass


FAST = ["normalise", "/normalise", "backbone", "/backbone", "neck", "/neck", *["rpn", "/rpn"] * 6]
FAST += ["roi", "/roi", "nms", "/nms"]
TWO_STAGE = ["backbone", "/backbone", "neck", "/neck", "rpn", "/rpn", "roi", "nms", "/nms", "/roi"]


@pytest.mark.parametrize(
    ("recipe", "kind", "stages"),
    [
        ("oriented-rcnn/legnet-nano", OrientedRCNN, FAST),
        ("oriented-rcnn/legnet-nano", MMRotateDetector, TWO_STAGE),
        ("roi-transformer/legnet-nano", MMRotateDetector, TWO_STAGE),
        ("rotated-fcos/legnet-nano", MMRotateDetector, TWO_STAGE[:4]),
    ],
)
def test_stages_of_a_search(recipe, kind, stages, events, observer, request):
    if kind is MMRotateDetector:
        request.getfixturevalue("mmrotate")
    weights = random_checkpoint(get_recipe(recipe))
    config = model_config(get_recipe(recipe), len(weights.card.classes))
    network = kind(config, weights.state, device=torch.device("cpu"))
    images = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    with network.observed(observer):
        network.detect(images)
    assert events == stages
    network.detect(images)
    assert events == stages
