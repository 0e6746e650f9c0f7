import numpy as np
import pytest
from dates import spread_boxes

from legnet_cli.engine.diff.register import NONE, register


def labels(boxes):
    return np.zeros(len(boxes), np.int64)


@pytest.mark.parametrize("shift", [(0, 0), (1.85, -1.1), (-6, 7), (0.05, 9.9)])
def test_the_shift_of_most_objects(shift):
    rng = np.random.default_rng(1)
    old = spread_boxes(300, rng=rng)
    new = old + [*shift, 0, 0, 0]
    new[:90, :2] += rng.uniform(-9, 9, (90, 2))  # three tenths move
    new = rng.permutation(new[30:])
    found = register(old, new, labels(old), labels(new), 10)
    np.testing.assert_allclose(found.shift, shift, atol=0.01)
    assert found.pairs >= 200


def test_rows_of_parked_cars_are_not_mistaken_for_their_neighbours():
    places = np.arange(200)
    old = np.c_[2.8 * (places % 50), 12.0 * (places // 50), np.tile([5, 1.9, np.pi / 2 - 1e-9], (200, 1))]
    rng = np.random.default_rng(2)
    before, after = rng.random(200) < 0.8, rng.random(200) < 0.8
    found = register(old[before], old[after] + [4.2, 0.7, 0, 0, 0], labels(old[before]), labels(old[after]), 10)
    np.testing.assert_allclose(found.shift, [4.2, 0.7], atol=0.01)


@pytest.mark.parametrize("count", [3, 60])
def test_no_shift_without_agreement(count):
    rng = np.random.default_rng(3)
    old = spread_boxes(count, rng=rng)
    new = old + np.c_[rng.uniform(-10, 10, (count, 2)), np.zeros((count, 3))]
    assert register(old, new, labels(old), labels(new), 10) is NONE


def test_a_shift_beyond_the_limit_is_not_found():
    old = spread_boxes(60)
    found = register(old, old + [15, 0, 0, 0, 0], labels(old), labels(old), 10)
    assert found is NONE
