"""One sentence on objects that cannot be, which names the pixels that the model is for."""

import numpy as np
import pyproj
import pytest
import shapely
from rasterio.transform import Affine

from legnet_cli.boxes import Detections
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.engine.predict.results import SceneResult
from legnet_cli.engine.predict.sanity import impossible
from legnet_cli.geo.georef import Georef

CARD = ModelCard("nano", "oriented-rcnn/legnet-nano", ("ship", "small-vehicle", "bridge", "car"), gsd=(0.1, 0.8))


def scene(pixel, lengths, labels, size=(400, 400), name="a.tif", epsg=32631, origin=(3e5, 5e6)):
    """Objects of some lengths in pixels, in a scene of pixels of ``pixel`` metres or degrees."""
    n = len(lengths)
    boxes = np.column_stack([np.full((n, 2), 200.0), lengths, np.full(n, 4.0), np.zeros(n)])
    transform = Affine(pixel, 0, origin[0], 0, -pixel, origin[1])
    georef = Georef("affine", *size, transform=transform, crs=pyproj.CRS.from_epsg(epsg))
    found = Detections(boxes, np.full(n, 0.9, np.float32), np.array(labels))
    return SceneResult(name, name, "", found, georef, 1, 0, None, boxes, (1.0, 1.0), shapely.box(0, 0, 1, 1))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (scene(300, [15.7], [0]), "1 object too large to be true, such as a ship of 4.7"),
        (
            scene(300, [15.7, 20, 3], [0, 1, 2]),
            "2 objects too large to be true, such as a small-vehicle of 6 km on pixels of 300",
        ),
        (scene(5, [15], [3]), "such as a car of 75 m on pixels of 5 m in a.tif"),
        (scene(1e-5, [20], [0], epsg=4326, origin=(0, 95)), "objects of a.tif have no length on the ground"),
        (scene(0.5, [], [], size=(2, 2)), "a.tif has 2 × 2 pixels, too few to show an object"),
    ],
)
def test_objects_that_cannot_be(made, words):
    sentence = impossible([made, scene(0.5, [30], [1], name="b.tif")], CARD, frozenset())
    assert sentence.startswith(words) or words in sentence
    assert sentence.endswith("; nano was made for a ground sampling distance of 0.1 to 0.8 m")
    assert "\n" not in sentence


def test_all_faults_are_one_sentence():
    scenes = [
        scene(300, [15.7], [0]),
        scene(0.5, [], [], size=(400, 3), name="b.tif"),
        scene(200, [9], [1], name="c.tif"),
    ]
    sentence = impossible(scenes, CARD, frozenset())
    assert sentence.count("made for") == 1
    assert "2 objects too large" in sentence
    assert "b.tif has 400 × 3 pixels" in sentence


@pytest.mark.parametrize(
    "made",
    [scene(0.5, [900, 100], [0, 1]), scene(10, [60, 2000], [0, 2]), scene(0.5, [], [])],
)
def test_objects_that_can_be(made):
    assert impossible([made], CARD, frozenset()) is None


def test_scenes_whose_pixels_have_been_told_of():
    assert impossible([scene(300, [15.7], [0])], CARD, frozenset({"a.tif"})) is None


def test_a_card_without_a_ground_sampling_distance():
    sentence = impossible(
        [scene(300, [15.7], [0])], ModelCard("m", "r", CARD.classes, trained_on="harbours"), frozenset()
    )
    assert sentence.endswith("; m, trained on harbours, does not say its ground sampling distance")
