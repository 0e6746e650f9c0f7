"""The example that shows what is found of known changes."""

import numpy as np
import pytest
from diff_proof import Setting, compare, make_cars, make_ships


@pytest.mark.parametrize("make", [make_ships, make_cars])
@pytest.mark.parametrize("shift", [0, 8])
def test_without_noise_all_changes_are_found_and_nothing_else(tmp_path, make, shift):
    error, counts = compare(make(np.random.default_rng(0)), Setting(shift=shift), tmp_path, 0)
    assert error < 0.01
    told, right, there = zip(*counts.values(), strict=True)
    assert told == right == there
    assert sum(there) > 150


def test_noise_is_not_taken_for_changes(tmp_path):
    _, counts = compare(make_ships(np.random.default_rng(0)), Setting(noise=0.1, shift=1.85), tmp_path, 0)
    precision = {kind: right / told for kind, (told, right, _) in counts.items()}
    recall = {kind: right / there for kind, (_, right, there) in counts.items()}
    assert min(precision.values()) > 0.9
    assert min(recall.values()) > 0.85
