"""mmrotate's transforms on this project's boxes."""

from __future__ import annotations

import pickle

import numpy as np

from legnet_cli.detectors.mmrotate.augment import Augment, stock_transforms


def test_goes_to_processes_that_are_started_afresh() -> None:
    augment = Augment(stock_transforms("le90", ("ship", "storage-tank")), "le90")
    again = pickle.loads(pickle.dumps(augment))
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    boxes, labels = np.array([[30.0, 20.0, 20.0, 8.0, 0.3], [40.0, 40.0, 9.0, 9.0, 0.0]]), np.array([0, 1])
    for seed in range(4):
        for mine, other in zip(augment(image, boxes, labels, seed), again(image, boxes, labels, seed), strict=True):
            np.testing.assert_array_equal(mine, other)
