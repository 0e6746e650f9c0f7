import numpy as np
import pytest
import shapely
from dates import spread_boxes

from legnet_cli.engine.diff.probability import absence

GROUND = shapely.box(-20, -20, 700, 700)


@pytest.mark.parametrize(
    ("again", "recall", "probability"),
    [
        (0.81, None, 1 / 1.9),  # s = r = 0.9
        (0.81, 0.9, 0.1 / (0.1 + 0.9 * 0.1)),
        (0.81, 1.0, 1.0),  # nothing is missed
        (0.9, 0.8, 0.0),  # all that is not found again was missed
        (0.25, None, 1 / 1.5),
    ],
)
def test_absence_of_what_was_not_found(again, recall, probability):
    assert absence(again, recall) == pytest.approx(probability)


def simulate(stays, recall, rng, count=200_000):
    """Share of the objects found first and not again that are absent."""
    found = rng.random(count) < recall
    there = rng.random(count) < stays
    again = there & (rng.random(count) < recall)
    missed = found & ~again
    return (missed & ~there).sum() / missed.sum(), (found & again).sum() / found.sum()


@pytest.mark.parametrize(("stays", "recall"), [(0.9, 0.95), (0.7, 0.8), (0.98, 0.6)])
def test_absence_agrees_with_a_simulation(stays, recall):
    share, again = simulate(stays, recall, np.random.default_rng(0))
    assert absence(again, recall) == pytest.approx(share, abs=0.02)


def test_changes_have_probabilities_and_the_improbable_ones_can_be_left_out(write_date, compare):
    boxes, sure = spread_boxes(100), np.linspace(0.3, 1, 100)
    first = write_date("old.gpkg", boxes, seen=GROUND, probability=sure)
    kept = np.ones(100, bool)
    kept[::10] = False
    later = boxes.copy()
    later[1, 0] += 9
    second = write_date("new.gpkg", later[kept], seen=GROUND, probability=sure[kept])
    _, rows = compare(first, second, recall=0.97)
    gone = rows[rows.change == "gone"]
    total, again = sure.sum(), sure[kept].sum()
    factor = absence((again + 1) / (total + 2), 0.97)
    np.testing.assert_allclose(sorted(gone.probability), sorted(sure[~kept] * factor), atol=1e-3)
    moved = rows[rows.change == "moved"]
    np.testing.assert_allclose(moved.probability, sure[1] ** 2, atol=1e-3)
    assert rows[rows.change == "same"].probability.isna().all()
    result, fewer = compare(first, second, out="b.gpkg", recall=0.97, min_probability=0.5)
    assert set(fewer.probability.dropna()) == set(rows.probability[rows.probability >= 0.5])
    assert len(fewer) + result.left_out == len(rows)
    assert (fewer.change == "same").sum() == (rows.change == "same").sum()
