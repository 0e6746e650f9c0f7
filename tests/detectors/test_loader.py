"""From a weight file to detections."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from legnet_cli.boxes import Detections
from legnet_cli.detectors import loader
from legnet_cli.detectors.fast.oriented_rcnn import OrientedLayers
from legnet_cli.detectors.loader import Detector, load_detector
from legnet_cli.detectors.mmrotate.build import build_mmrotate
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import save_checkpoint
from legnet_cli.detectors.weights.fetch import WEIGHTS, WeightFile
from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.errors import CheckpointError, DependencyError

CLASSES = ("ship", "plane", "car")
CPU = torch.device("cpu")
OPTIONS = {"device": "cpu", "score_threshold": 0.01}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of two small detectors, the second one of mmrotate's where that is installed."""
    path = tmp_path_factory.mktemp("weights")
    for detector, build in (("oriented-rcnn", OrientedLayers), ("r3det", build_mmrotate)):
        if detector == "r3det" and not importlib.util.find_spec("mmrotate"):
            continue
        recipe = get_recipe(f"{detector}/legnet-nano")
        torch.manual_seed(0)
        state = build(model_config(recipe, 3)).state_dict()
        save_checkpoint(path / f"{detector}.safetensors", state, ModelCard("mine", recipe.name, CLASSES, gsd=0.5))
        torch.save({"meta": {"CLASSES": CLASSES}, "state_dict": state}, path / f"{detector}.pth")
    return path


@pytest.fixture(params=["oriented-rcnn", "r3det"])
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "r3det":
        request.getfixturevalue("mmrotate")
    return str(request.param)


def images(count: int = 2, height: int = 30, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def test_both_formats_detect_the_same(folder: Path, name: str) -> None:
    ours, theirs = (load_detector(folder / f"{name}.{end}", **OPTIONS) for end in ("safetensors", "pth"))
    assert ours.card == ModelCard("mine", f"{name}/legnet-nano", CLASSES, gsd=0.5)
    assert theirs.card == ModelCard(name, f"{name}/legnet-nano", CLASSES)
    assert (ours.device, ours.precision) == (CPU, "fp32")
    for a, b in zip(ours.detect(images()), theirs.detect(images()), strict=True):
        assert len(a) > 0
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.scores, b.scores)
        assert a.boxes.dtype == np.float64
        assert a.labels.dtype == np.int64


def test_limits(folder: Path, name: str) -> None:
    detector = load_detector(folder / f"{name}.pth", **{**OPTIONS, "max_detections": 3})
    assert [len(found) for found in detector.detect(images())] == [3, 3]
    assert detector.detect(images(0)) == []
    detector = load_detector(folder / f"{name}.pth", **{**OPTIONS, "score_threshold": 0.99})
    assert [len(found) for found in detector.detect(images())] == [0, 0]


def test_views_of_arrays_are_taken(folder: Path) -> None:
    detector = load_detector(folder / "oriented-rcnn.pth", **OPTIONS)
    flipped = images()[:, ::-1, :, ::-1]
    np.testing.assert_array_equal(
        detector.detect(flipped)[0].boxes, detector.detect(np.ascontiguousarray(flipped))[0].boxes
    )


def test_class_names_can_be_given(folder: Path) -> None:
    assert load_detector(folder / "oriented-rcnn.pth", classes=("a", "b", "c"), **OPTIONS).card.classes == (
        "a",
        "b",
        "c",
    )


def test_named_weights_carry_their_name_and_licence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WEIGHTS, "test-model", WeightFile("http://localhost/x.pth"))
    monkeypatch.setattr(loader, "fetch", lambda source, progress: folder / "oriented-rcnn.pth")
    card = load_detector("test-model", **OPTIONS).card
    assert (card.name, card.licence) == ("test-model", "CC BY-NC 4.0")


def test_backbones_are_refused_before_they_are_fetched() -> None:
    with pytest.raises(CheckpointError, match="legnet-tiny-imagenet: holds only a backbone"):
        load_detector("legnet-tiny-imagenet")


def test_weights_of_another_recipe_are_refused(folder: Path) -> None:
    path = folder / "oriented-rcnn.pth"
    assert load_detector(path, recipe="oriented-rcnn/legnet-nano@dior-r", **OPTIONS)
    for other in ("s2anet/legnet-nano", "oriented-rcnn/legnet-tiny"):
        with pytest.raises(CheckpointError, match=rf"cnn\.pth: weights of oriented-rcnn/legnet-nano, not of {other}"):
            load_detector(path, recipe=other, **OPTIONS)


def test_tensors_that_do_not_fit_are_named_with_the_file(folder: Path, tmp_path: Path, name: str) -> None:
    state = torch.load(folder / f"{name}.pth")["state_dict"]
    state["neck.fpn_convs.0.conv.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth: .*1 of another shape \(neck\.fpn_convs\.0\.conv\.bias \[3\]"):
        load_detector(tmp_path / "w.pth", **OPTIONS)


def test_cards_name_the_model_by_its_file(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "harbour.pth"
    path.write_bytes((folder / "oriented-rcnn.pth").read_bytes())
    card = load_detector(path, **OPTIONS).card
    assert card == replace(card, name="harbour")


def test_out_of_memory_says_which_flags_help() -> None:
    def full(_: torch.Tensor) -> list[Detections]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    detector = Detector(ModelCard("m", "oriented-rcnn/legnet-nano", CLASSES), torch.device("meta"), "fp32", full)
    with pytest.raises(DependencyError, match="4 tiles of 96 × 64: give a smaller --batch or --tile"):
        detector.detect(np.zeros((4, 64, 96, 3), np.uint8))
