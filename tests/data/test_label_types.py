from pathlib import Path

import numpy as np
import pytest

from legnet_cli.data.labels import Dataset, ImageLabels, LabelError, Problem, labels_of
from legnet_cli.errors import DataError

IMAGE = ImageLabels(
    "dir/a.TIF",
    np.arange(24.0).reshape(3, 4, 2),
    ("ship", "plane", "ship"),
    np.array([0, 1, 2]),
    ({}, {"k": 1}, {}),
    source=Path("a.txt"),
    places=(":1", ":2", ":3"),
)


def test_labels_are_indices_of_the_classes():
    assert labels_of(IMAGE, ["plane", "ship"]).tolist() == [1, 0, 1]
    assert labels_of(ImageLabels("a"), ["plane"]).shape == (0,)
    with pytest.raises(DataError, match=r"^a\.txt:2: unknown class 'plane': did you mean 'planes'\?$"):
        labels_of(IMAGE, ["planes", "ship"])


@pytest.mark.parametrize("index", [np.array([False, True, True]), np.array([1, 2])])
def test_select(index):
    picked = IMAGE.select(index)
    assert (picked.names, picked.places) == (("plane", "ship"), (":2", ":3"))
    assert picked.difficult.tolist() == [1, 2]
    assert picked.attributes == ({"k": 1}, {})
    np.testing.assert_array_equal(picked.quads, IMAGE.quads[1:])
    assert (picked.stem, len(picked)) == ("dir/a", 2)


def test_counts_and_lengths():
    assert Dataset((IMAGE, IMAGE), ("plane", "car", "ship"), "dota").counts() == {"plane": 2, "car": 0, "ship": 4}
    with pytest.raises(ValueError, match="2 names with quads"):
        ImageLabels("a", names=("x", "y"))


def test_all_faults_are_counted_in_one_line():
    error = LabelError([Problem("a.txt:1", "bad", True), Problem("b.txt:2", "worse", True)])
    assert str(error) == ("a.txt:1: bad (and 1 more fault): fix the labels, or leave such objects out with --skip-bad")
