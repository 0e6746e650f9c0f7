import numpy as np
import pytest

from legnet_cli.engine.review import choose
from legnet_cli.engine.review.selection import KINDS


def grid(count, step=200.0, size=(40, 12)):
    """Boxes (n, 5) far from each other."""
    across = int(np.ceil(np.sqrt(count)))
    middle = (np.indices((across, across)).reshape(2, -1).T[:count] + 0.5) * step
    return np.c_[middle, np.tile([*size, 0.3], (count, 1))]


def pick(boxes, scores, *, most=5, labels=0, scenes=0, **more):
    count = len(boxes)
    whole = (np.broadcast_to(np.asarray(values), (count,)).astype(np.int64) for values in (labels, scenes))
    return choose(boxes, *(next(whole), np.asarray(scores, float), next(whole)), most=most, **more)


def kinds(choice):
    return [KINDS[kind] for kind in choice.kinds]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"scores": (7, 0.3)}, "uncertain", "score 0.30, reported from 0.25"),
        ({"probabilities": (7, 0.5)}, "uncertain", "probability 0.50"),
        ({"views": (7, 0.5)}, "views disagree", "found by 50% of the views"),
        ({"boxes": (7, [3000, 3000, 400, 12, 0])}, "odd size", "unusually long"),
        ({"boxes": (7, [3000, 3000, 40, 1, 0])}, "odd size", "unusually narrow"),
        ({"scores": (7, 0.2)}, "missed", "may be missed: score 0.20, reported from 0.25"),
        ({"boxes": (7, [5000, 5000, 40, 12, 0.3])}, "isolated", "far from all others"),
    ],
)
def test_what_stands_out_comes_first_with_its_reason(change, kind, words):
    values = {"boxes": grid(30), "scores": np.full(30, 0.99), "probabilities": np.full(30, 0.99), "views": np.ones(30)}
    if "scores" in change:
        values["probabilities"][:] = np.nan
    for name, (row, value) in change.items():
        values[name][row] = value
    found = pick(**values, most=1)
    assert (found.rows.tolist(), kinds(found)) == ([7], [kind])
    assert found.reasons[0].startswith(words)


def test_of_a_class_that_the_model_hardly_knows_the_most_probable_are_uncertain():
    labels = np.repeat([0, 1, 2], 4)
    probabilities = [0.5, 0.8, 0.95, 0.99, 0.2, 0.1, 0.05, 0.01, 0.02, 0.01, 0.01, 0.01]
    more = {"labels": labels, "scenes": np.arange(12), "probabilities": np.array(probabilities)}
    found = pick(grid(12), np.full(12, 0.9), most=4, **more)
    assert found.rows.tolist() == [0, 4, 5, 1]  # those of a class with next to no chance come later


def test_of_two_boxes_on_one_object_both_are_shown_and_a_low_one_under_another_is_not():
    boxes = np.concatenate([grid(12), grid(12)[:2] + [2, 0, 0, 0, 0]])
    found = pick(boxes, [*np.full(12, 0.99), 0.98, 0.2], most=12)
    assert 13 not in found.rows
    first = dict(zip(found.rows.tolist(), kinds(found), strict=True))
    assert {first[0], first[12]} == {"overlap", "nearby"}


def test_what_lies_in_a_square_comes_along_and_counts():
    boxes = np.array([[100, 100, 20, 8, 0], [115, 100, 20, 8, 1.5], [100, 125, 12, 8, 0], [900, 900, 20, 8, 0.0]])
    found = pick(boxes, [0.3, 0.7, 0.13, 0.05], most=9)
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert found.reasons[1:3] == ("in the square of 1",) * 2
    assert np.isfinite(found.squares).all(1).tolist() == [True, False, False, True]
    assert found.squares[0].tolist() == [70, 70, 130, 130]
    assert pick(boxes[:3], [0.3, 0.7, 0.13], most=2).rows.tolist() == [2]  # a square is shown whole or not at all


def test_squares_lie_in_their_scene():
    found = pick(np.array([[5, 8, 4, 2, 0.0]]), [0.3], sizes=np.array([[30, 12]]))
    assert found.squares.tolist() == [[0, 0, 21, 12]]


def test_the_choice_is_spread_over_scenes_classes_and_ground():
    rng = np.random.default_rng(0)
    lot = np.c_[rng.uniform(0, 3000, (300, 2)), np.full((300, 3), (40, 12, 0.3))]
    boxes = np.concatenate([lot, grid(20), grid(20)])
    scenes, labels = np.repeat([0, 1, 2], [300, 20, 20]), np.repeat([0, 0, 1], [300, 20, 20])
    scores = np.repeat([0.26, 0.35, 0.4], [300, 20, 20])
    found = pick(boxes, scores, scenes=scenes, labels=labels, most=30)
    shares = np.bincount(scenes[found.rows], minlength=3)
    assert (shares >= 6).all()
    leads = found.rows[np.isfinite(found.squares[:, 0])]
    first = boxes[[row for row in leads if scenes[row] == 0], :2]
    apart = np.linalg.norm(first[:, None] - first, axis=2)[~np.eye(len(first), dtype=bool)]
    assert apart.min() > 300


def test_sizes_of_scenes_compare_on_the_ground():
    boxes, gsd = np.concatenate([grid(20), grid(20) * [1, 1, 0.5, 0.5, 1]]), np.repeat([1.0, 2.0], 20)
    scenes = np.repeat([0, 1], 20)
    assert "odd size" not in kinds(pick(boxes, np.full(40, 0.99), scenes=scenes, gsd=gsd, most=40))


def test_nothing_and_the_same_again():
    assert len(pick(np.zeros((0, 5)), [])) == 0
    rng = np.random.default_rng(1)
    boxes, scores = (
        np.c_[rng.uniform(0, 2000, (500, 2)), rng.uniform(10, 30, (500, 2)), rng.uniform(-1, 1, 500)],
        (rng.uniform(0, 1, 500)),
    )
    boxes[:, 2:4] = np.sort(boxes[:, 2:4])[:, ::-1]
    one, two = pick(boxes, scores, most=50), pick(boxes, scores, most=50)
    assert (one.rows == two.rows).all()
    assert one.reasons == two.reasons
    assert len(set(one.rows.tolist())) == len(one) <= 50


def test_another_order_has_the_same_squares():
    boxes = np.array([[100, 100, 20, 8, 0], [115, 100, 20, 8, 1.5], [900, 900, 20, 8, 0.0]])
    found = pick(boxes, [0.3, 0.7, 0.9], most=9, order=np.array([1, 0, 2]))
    assert found.rows.tolist() == [1, 0, 2]
    assert found.reasons[1] == "in the square of 1"
    assert pick(boxes, [0.3, 0.7, 0.9], most=1, order=np.array([1, 0, 2])).rows.tolist() == [2]
