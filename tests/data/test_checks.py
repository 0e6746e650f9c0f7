from pathlib import Path

import numpy as np
import pytest

from legnet_cli.data.checks import check_labels
from legnet_cli.data.labels import ImageLabels

SQUARE = np.array([[10, 10], [30, 10], [30, 20], [10, 20]], float)


def image(quads, names=None, size=(100, 80)):
    n = len(quads)
    places = tuple(f":{i}" for i in range(1, n + 1))
    return ImageLabels(
        "a.png",
        np.array(quads, float).reshape(-1, 4, 2),
        tuple(names or ["x"] * n),
        np.zeros(n, int),
        ({},) * n,
        size=size,
        source=Path("a.txt"),
        places=places,
    )


@pytest.mark.parametrize(
    ("quad", "message"),
    [
        (SQUARE, None),
        (SQUARE[::-1], None),
        (SQUARE[[0, 2, 1, 3]], "cross"),
        (SQUARE[[0, 1, 3, 2]], "cross"),
        (SQUARE + np.array([200, 0]), "outside of its image of 100 × 80"),
        (SQUARE - np.array([30, 0]), "outside of its image"),
        (SQUARE + np.array([75, 0]), "over the edge"),
        (SQUARE + np.array([70, 60]), None),  # touches the edge
    ],
)
def test_shapes(quad, message):
    found = [str(problem) for problem in check_labels([image([SQUARE]), image([SQUARE, quad])])]
    assert [text.startswith("a.txt:2: ") and message in text for text in found] == ([True] if message else [])


def test_without_a_size_nothing_is_outside():
    assert not list(check_labels([image([SQUARE + 1e6], size=None)]))
    assert not list(check_labels([]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["small-vehicle"] * 20 + ["small-vehcile"], "class 'small-vehcile': did you mean 'small-vehicle'?"),
        (["Ship", "ship", "ship"], "class 'Ship': did you mean 'ship'?"),
        (["Boeing737"] + ["Boeing747"] * 50, None),
        (["ship"] * 20 + ["shop"] * 19, None),
        (["plane"] * 99 + ["helicopter"], None),
    ],
)
def test_classes(names, message):
    found = [str(problem) for problem in check_labels([image([SQUARE] * len(names), names)])]
    assert [message in text for text in found] == ([True] if message else [])
