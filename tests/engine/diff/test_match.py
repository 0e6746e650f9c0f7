import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from legnet_cli.engine.diff import match as module
from legnet_cli.engine.diff.match import Gate, assign, match, turns


@pytest.mark.parametrize("dense", [10_000, 0], ids=["written out", "sparse"])
@pytest.mark.parametrize("levels", [0, 3], ids=["all different", "many equal"])
def test_the_assignment_is_the_best_one(monkeypatch, dense, levels):
    monkeypatch.setattr(module, "_DENSE", dense)
    rng = np.random.default_rng(0)
    for _ in range(150):
        n, m = rng.integers(1, 9, 2)
        pairs = rng.choice(n * m, rng.integers(1, n * m + 1), replace=False)
        i, j = pairs // m, pairs % m
        likeness = rng.integers(1, levels + 1, len(i)) / 4 if levels else rng.random(len(i))
        matrix = np.zeros((n, m))
        matrix[i, j] = likeness
        rows, columns = assign(i, j, likeness, n, m)
        assert len(set(rows)) == len(rows)
        assert len(set(columns)) == len(columns)
        assert (matrix[rows, columns] > 0).all()
        assert matrix[rows, columns].sum() == pytest.approx(matrix[linear_sum_assignment(-matrix)].sum())


def boxes(*rows):
    return np.array(rows, float).reshape(-1, 5)


CAR = (0, 0, 5, 2, 0)


@pytest.mark.parametrize(
    ("new", "gate", "found"),
    [
        (CAR, Gate(), True),
        ((4.9, 0, 5, 2, 0), Gate(), True),  # its own length
        ((5.1, 0, 5, 2, 0), Gate(), False),
        ((5.1, 0, 5, 2, 0), Gate(reach=6), True),
        ((2.1, 0, 5, 2, 0), Gate(reach=2), False),
        ((0, 0, 9, 2, 0), Gate(), True),
        ((0, 0, 11, 2, 0), Gate(), False),  # over twice as long
        ((0, 0, 9, 2, 0), Gate(length_ratio=0.6), False),
        ((3, 0, 5, 2, 0), Gate(iou=0.2), True),  # 2 of 8 metres
        ((3, 0, 5, 2, 0), Gate(iou=0.3), False),
    ],
)
def test_the_gate(new, gate, found):
    label = np.zeros(1, np.int64)
    i, _ = match(boxes(CAR), boxes(new), label, label, gate)
    assert len(i) == found


def test_classes_are_kept_apart():
    i, j = match(boxes(CAR, CAR), boxes(CAR, CAR), np.array([0, 1]), np.array([1, 2]), Gate())
    assert (i.tolist(), j.tolist()) == ([1], [0])


def test_parked_cars_stay_where_one_leaves():
    row = boxes(*[(2.8 * place, 0, 5, 2, np.pi / 2 - 1e-9) for place in range(10)])
    i, j = match(row[:8], row[1:9], np.zeros(8, np.int64), np.zeros(8, np.int64), Gate())
    stayed = [(old, new) for old, new in zip(i.tolist(), j.tolist(), strict=True) if old == new + 1]
    assert len(stayed) == 7


@pytest.mark.parametrize(
    ("old", "new", "turn"),
    [
        ((9, 3, 0.1), (9, 3, 0.1 + np.radians(20)), 20),
        ((9, 3, 1.5), (9, 3, 1.5 + np.radians(20) - np.pi), 20),  # over the end of the range
        ((9, 3, 0), (9, 3, np.radians(-20)), -20),
        ((9, 8, 0), (9, 3, 1), np.nan),  # nearly square
    ],
)
def test_turns(old, new, turn):
    found = turns(boxes((0, 0, *old)), boxes((0, 0, *new)))
    np.testing.assert_allclose(found, [turn])
