"""Limits of sizes from labels whose objects are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.data.labels import ImageLabels
from legnet_cli.engine.train.config import TrainConfig
from legnet_cli.engine.train.run import _card
from legnet_cli.engine.train.sizes import learn_sizes


def image(count=100, gsd=None, name="ship", at=(50.0, 50.0), longest=40.0, seed=0):
    """An image of objects 20 to ``longest`` long and half as wide."""
    rng = np.random.default_rng(seed)
    length = np.linspace(20, longest, count)
    boxes = np.stack(
        [np.full(count, at[0]), np.full(count, at[1]), length, length / 2, rng.uniform(-1.5, 1.5, count)], 1
    )
    return ImageLabels(
        "a.png",
        boxes_to_polygons(boxes),
        (name,) * count,
        np.zeros(count, np.int64),
        ({},) * count,
        size=(100, 100),
        meta={} if gsd is None else {"gsd": gsd},
        places=("",) * count,
    )


@pytest.mark.parametrize(
    ("own", "usual", "metres", "scale"),
    [
        (None, None, False, 1),
        (0.5, None, True, 0.5),
        (None, (2.0, 2.0), True, 2),  # as --gsd gives it
        (None, (1.0, 2.0), False, 1),  # which of them is not known
        (0.5, (2.0, 2.0), True, 0.5),
    ],
)
def test_limits_are_in_metres_where_the_scale_is_known(own, usual, metres, scale):
    (ship,) = learn_sizes([image(gsd=own)], ["ship"], usual).values()

    assert ship["metres"] is metres
    assert ship["objects"] == 100
    assert ship["length"] == pytest.approx([20.1 * scale / 1.5, 39.9 * scale * 1.5], rel=1e-3)
    assert ship["width"] == pytest.approx([10.05 * scale / 1.5, 19.95 * scale * 1.5], rel=1e-3)


def test_one_wrong_label_of_many_does_not_widen_them():
    wrong = image(1, longest=20.0, at=(50, 50))
    wrong = ImageLabels(**{**vars(wrong), "quads": wrong.quads * 0.9})

    many = learn_sizes([image(400), wrong], ["ship"], None)

    assert many["ship"]["length"][0] == pytest.approx(20.1 / 1.5, rel=1e-2)


@pytest.mark.parametrize(
    ("images", "known"),
    [
        ([image(49)], None),
        ([image(49), image(100, name="car")], ["car"]),
        ([image(100, at=(15, 50), longest=20.0)], ["ship"]),
        ([image(100, at=(5, 50))], None),  # cut by the edge
        ([image(0)], None),
        ([image(60), image(60, gsd=0.5)], ["ship"]),  # in pixels, for one is not known
    ],
)
def test_few_objects_and_those_at_an_edge_teach_nothing(images, known):
    found = learn_sizes(images, ["ship", "car"], None)

    assert (found and list(found)) == known
    assert not found or not any(one["metres"] for one in found.values())


def test_cards_of_runs_hold_them():
    config = TrainConfig(out="run", data="tiles", recipe="oriented-rcnn/legnet-nano", gsd=0.5)
    plan = SimpleNamespace(recipe=config.recipe, classes=("ship",), tile=512, overlap=64, own_model=False)
    data = SimpleNamespace(images=(image(),), check=SimpleNamespace(gsd=None))

    (ship,) = _card(config, plan, data).size_limits.values()

    assert ship.metres
    assert ship.length == pytest.approx((20.1 * 0.5 / 1.5, 39.9 * 0.5 * 1.5), rel=1e-3)
