"""Several views and several weights as one detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from blobs import BlobDetector, draw

from legnet_cli.boxes import Detections, boxes_to_polygons, to_le90
from legnet_cli.detectors.ensemble import join, load_ensemble, turned_back
from legnet_cli.detectors.loader import Detector
from legnet_cli.detectors.networks import random_checkpoint
from legnet_cli.detectors.views import Views
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import read_checkpoint, save_checkpoint
from legnet_cli.detectors.weights.fetch import EMBEDDED, fetch
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.geo.raster import Scene
from legnet_cli.tiles import Tile

CPU = torch.device("cpu")
FULL = Views("full")
TURNS = FULL.turns
SCENE = Path(__file__).parents[2] / "examples" / "piraeus.tif"


def blobs(**card) -> Detector:
    """The detector of bright rectangles in the form that can be joined."""
    found = BlobDetector()
    return Detector(replace(found.card, **card), CPU, "fp32", lambda images: found.detect(images.numpy()))


def turned(image, turn):
    """A view of an image (h, w, 3)."""
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if turn[1] else image, turn[0]))


def outlines(found: Detections):
    """Corners (n, 8) in an order that neither the boxes' nor the corners' own decides."""
    corners = boxes_to_polygons(found.boxes)
    corners = np.stack([one[np.lexsort(one.round(1).T)] for one in corners]).reshape(-1, 8)
    return corners[np.lexsort(corners.round(1).T)]


def assert_equivariant(detector, image, turn, at_least):
    """The whole set of views of a turned image gives the turned result."""
    plain, found = (detector.detect(one[None])[0] for one in (image, turned(image, turn)))
    boxes = turned_back(found.boxes, turn, *image.shape[:2])

    assert len(plain) >= at_least
    assert np.abs(outlines(replace(found, boxes=boxes)) - outlines(plain)).max() < 1e-3
    assert np.sort(found.scores) == pytest.approx(np.sort(plain.scores), abs=1e-6)
    assert np.sort(found.views) == pytest.approx(np.sort(plain.views))


@pytest.mark.parametrize("turn", TURNS)
def test_boxes_of_views_are_turned_back(turn):
    boxes = np.array([[40.5, 30, 36, 12, np.radians(25)], [80, 20, 20, 10, 0], [20, 60, 20, 10, -np.pi / 2]])
    image = np.repeat(draw((90, 120), boxes, [150, 250, 250])[..., None], 3, 2)
    here, there = (BlobDetector().detect(one[None])[0] for one in (image, turned(image, turn)))

    back = turned_back(there.boxes, turn, 90, 120)

    assert outlines(replace(there, boxes=back)) == pytest.approx(outlines(here), abs=1e-4)
    assert (back[:, 2] >= back[:, 3]).all()
    assert ((back[:, 4] >= -np.pi / 2) & (back[:, 4] < np.pi / 2)).all()


def spots(images):
    """Boxes where a random filter, which no turn leaves as it is, answers most; their sides and angles by others."""
    rng = np.random.default_rng(0)
    found = []
    for image in images.numpy():
        maps = [cv2.filter2D(image[..., 0].astype(np.float32), -1, rng.normal(0, 0.001, (5, 5))) for _ in range(6)]
        rows, cols = np.unravel_index(np.argsort(-maps[0].ravel())[:60], maps[0].shape)
        score, x, y, w, h, angle = (one[rows, cols].astype(np.float64) for one in maps)
        boxes = np.stack([cols + np.tanh(x), rows + np.tanh(y), 9 + 3 * np.tanh(w), 5 + 3 * np.tanh(h), angle * 3], 1)
        found.append(Detections(to_le90(boxes), (1 / (1 + np.exp(-score))).astype(np.float32), np.zeros(60, np.int64)))
    return found


@pytest.mark.parametrize("fuse", ["wbf", "nms"])
@pytest.mark.parametrize("turn", TURNS[1:])
def test_turned_images_give_the_turned_result(turn, fuse):
    detector = Detector(ModelCard("spots", "oriented-rcnn/legnet-nano", ("spot",)), CPU, "fp32", spots)
    image = np.random.default_rng(1).integers(0, 256, (75, 50, 3), np.uint8)

    assert_equivariant(join([detector], Views("full", fuse=fuse)), image, turn, 20)


def test_shipped_weights_give_the_turned_result():
    with Scene.open(str(SCENE), gsd=5.0) as scene:
        image, _ = scene.read(Tile(150, 225, 90, 110))

    assert_equivariant(load_ensemble([EMBEDDED], FULL, device="cpu"), image, (1, True), 4)


@pytest.mark.parametrize("tta", ["none", "flips", "full"])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0), (0.7,)])
def test_views_and_scales_find_the_same_things(tta, scales):
    boxes = np.array([[40, 30, 36, 16, 0.4], [100, 80, 30, 20, -1.2]])
    image = np.repeat(draw((121, 143), boxes, [150, 150])[..., None], 3, 2)

    found = join([blobs()], Views(tta, scales)).detect(np.stack([image, np.zeros_like(image)]))

    assert [len(part) for part in found] == [2, 0]
    assert outlines(found[0]) == pytest.approx(outlines(replace(found[0], boxes=boxes)), abs=1.5)
    assert (found[0].views == 1).all()


@pytest.mark.parametrize(
    ("bands", "views", "score"),
    [
        (("dim", "bright"), 1.0, 0.5),  # both know and find it
        (("dim", "red"), 1.0, 0.5),  # the other one cannot know of it
        (("bright", "dim"), 0.5, 0.25),  # it calls it by another name
    ],
)
def test_classes_are_matched_by_name(bands, views, score):
    image = np.repeat(draw((120, 140), [[40, 30, 36, 16, 0.4]], [250])[..., None], 3, 2)

    detector = join([blobs(), blobs(classes=bands, name="other", tile=256, gsd=0.5)], Views())
    found = detector.detect(image[None])[0]
    known = found[found.labels == detector.card.classes.index("bright")]

    assert detector.card.classes == tuple(dict.fromkeys(("dim", "bright", *bands)))
    assert (detector.card.name, detector.card.tile, detector.card.gsd) == ("blobs + other", 256, (0.5, 0.5))
    assert (known.views.tolist(), known.scores.tolist()) == ([views], pytest.approx([score]))


@pytest.mark.parametrize(
    ("first", "second", "common", "warned"),
    [((0.1, 0.5), (0.3, 1), (0.3, 0.5), False), (None, (0.3, 1), (0.3, 1), False), (0.3, 5, None, True)],
)
def test_pixels_that_several_weights_learned_from(first, second, common, warned, caplog):
    card = join([blobs(gsd=first), blobs(gsd=second, name="other")], Views()).card

    assert card.gsd == common
    assert ("different ground sampling distances" in caplog.text) == warned


def test_a_single_view_is_the_plain_detector():
    assert load_ensemble([EMBEDDED], Views(fuse="nms"), device="cpu").network is not None


def test_calibration_goes_by_views(tmp_path, caplog):
    known = {"method": "isotonic", "objects": 9, "scores": [0.5], "probabilities": [0.5], "counts": [9]}
    plain, full = ({"Car": {"threshold": at, "precision": 1, "recall": 1, **known}} for at in (0.4, 0.6))
    checkpoint = read_checkpoint(fetch(EMBEDDED))
    card = replace(checkpoint.card, calibration=plain, view_calibration=None).calibrated(FULL.name, full)
    save_checkpoint(tmp_path / "own.safetensors", checkpoint.state, card)

    cards = {
        views: load_ensemble([str(tmp_path / "own.safetensors")], views, score_threshold=None, device="cpu").card
        for views in (Views(), FULL, Views("flips"), Views("full", (1.0,), "nms"))
    }

    at = card.classes.index("Car")
    assert [found.thresholds(None)[at] for found in cards.values()] == [0.4, 0.6, 0.25, 0.25]
    assert caplog.text.count("was not calibrated for these views") == 2
    assert ModelCard("a", "b", ("c",)).calibrated("", plain).calibration == plain


def test_joined_weights_have_views_of_all(tmp_path):
    second = random_checkpoint(get_recipe("oriented-rcnn/legnet-nano"))
    save_checkpoint(tmp_path / "b.safetensors", second.state, second.card)
    detector = load_ensemble([EMBEDDED, str(tmp_path / "b.safetensors")], Views(), device="cpu")
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)

    found = detector.detect(image[None])[0]

    assert detector.kernels == "default"  # the same in all processes of a search
    names = set(detector.card.classes)
    assert names == {*read_checkpoint(fetch(EMBEDDED)).card.classes, *second.card.classes}
    assert set(found.views) <= {0.5, 1.0}
