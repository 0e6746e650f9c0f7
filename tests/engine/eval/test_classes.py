"""Objects and predictions of the classes that are measured."""

import numpy as np

from legnet_cli.boxes import Detections, boxes_to_polygons
from legnet_cli.engine.eval.classes import select_classes
from legnet_cli.engine.eval.matching import Truths
from legnet_cli.engine.eval.predictions import ImagePredictions
from legnet_cli.engine.eval.truth import EvalSet


def test_what_is_predicted_in_ignored_regions_counts_over_objects_alone(tmp_path):
    boxes = np.array(
        [
            [50, 20, 20, 10, 0],  # over two regions with half of it in each
            [20, 50, 20, 10, 0],  # small in a large one
            [20, 80, 20, 10, 0],  # on an object of another class in a region
            [100, 20, 20, 10, 0],  # with its lesser part in a region
            [150, 20, 20, 10, 0],  # outside
        ],
        float,
    )
    quads = boxes_to_polygons(np.array([[25, 50, 50, 100, 0], [72, 50, 44, 100, 0], [20, 80, 20, 10, 0]], float))
    truths = Truths(quads, np.array([2, 2, 1]), np.zeros(3, int), np.array([True, True, False]), np.zeros(3))
    truth = EvalSet(tmp_path, ("a", "b"), (), ("ship", "car"), truths, np.full((2, 2), np.nan))
    found = Detections(boxes, np.full(5, 0.5, np.float32), np.zeros(5, int))
    predictions = ImagePredictions((found, found), ("ship", "car"))
    kept = select_classes(truth, predictions, ("ship", "car"))[1]
    assert kept.images.tolist() == [0] * 3 + [1] * 5
    np.testing.assert_array_equal(kept.boxes, np.concatenate([boxes[2:], boxes]))
