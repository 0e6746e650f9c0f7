"""Weight files of every layout, and what is read off their tensors."""

import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from weight_files import CLASSES, UNRAVEL_SMALL, oriented_rcnn, save, tensors

from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import read_checkpoint
from legnet_cli.detectors.weights.recipes import DATASETS
from legnet_cli.errors import CheckpointError


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: OrderedDict(s),
        lambda s: {"state_dict": s, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        lambda s: {"model": s, "epoch": 3},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {"state_dict": {k: v.half().float() if v.numel() < 0 else v for k, v in s.items()}},
        lambda s: s | {k.replace("conv2d", "block"): v for k, v in s.items()},
        lambda s: s | {"backbone.norm0.num_batches_tracked": torch.tensor(7)},
        lambda s: s | {"ema_backbone_norm0_weight": torch.ones(2)},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_layouts(tmp_path: Path, wrap: Any, zipped: bool) -> None:
    state = oriented_rcnn()
    path = save(wrap(state), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(path, CLASSES)
    assert set(found.state) == set(state)
    assert all(torch.equal(found.state[name], tensor) for name, tensor in state.items())
    assert found.card == ModelCard("w", "oriented-rcnn/legnet-tiny", CLASSES)


HEADS: dict[str, dict[str, tuple[int, ...]]] = {
    "roi-transformer": {"roi_head.bbox_head.0.fc_cls.weight": (4, 8), "roi_head.bbox_head.1.fc_cls.weight": (4, 8)},
    "rotated-faster-rcnn": {
        "rpn_head.rpn_cls.weight": (3, 8, 1, 1),
        "rpn_head.rpn_reg.weight": (12, 8, 1, 1),
        "roi_head.bbox_head.fc_cls.weight": (4, 8),
    },
    "rotated-fcos": {"bbox_head.conv_cls.weight": (3, 8, 3, 3)},
    "s2anet": {"fam_head.retina_cls.weight": (3, 8, 1, 1), "odm_head.odm_cls.weight": (3, 8, 3, 3)},
    "r3det": {"bbox_head.retina_cls.weight": (27, 8, 3, 3), "refine_head.0.retina_cls.weight": (3, 8, 3, 3)},
}


@pytest.mark.parametrize("detector", HEADS)
def test_the_recipe_is_read_off_the_tensors(tmp_path: Path, detector: str) -> None:
    state = tensors(UNRAVEL_SMALL, "backbone.") | tensors(HEADS[detector])
    card = read_checkpoint(save(state, tmp_path / "w.pth")).card
    assert (card.recipe, len(card.classes)) == (f"{detector}/unravelnet-small", 3)


@pytest.mark.parametrize(
    ("meta", "count", "classes", "recipe"),
    [
        ({"CLASSES": CLASSES}, 3, CLASSES, ""),
        ({"CLASSES": list(CLASSES)}, 3, CLASSES, ""),
        ({"CLASSES": None}, 15, DATASETS["dota10"].classes, ""),
        ({}, 16, DATASETS["dota15"].classes, "@dota15"),
        ({}, 37, DATASETS["fair1m"].classes, "@fair1m"),
        ({"CLASSES": CLASSES}, 15, DATASETS["dota10"].classes, ""),  # a wrong list is no help
        ({}, 3, ("class_0", "class_1", "class_2"), ""),
        ({}, 1, ("class_0",), ""),
    ],
)
def test_class_names(tmp_path: Path, meta: dict[str, Any], count: int, classes: tuple[str, ...], recipe: str) -> None:
    path = save({"meta": meta, "state_dict": oriented_rcnn(classes=count)}, tmp_path / "w.pth")
    card = read_checkpoint(path).card
    assert (card.classes, card.recipe) == (classes, f"oriented-rcnn/legnet-tiny{recipe}")


def test_the_dataset_sets_the_tiles(tmp_path: Path) -> None:
    card = read_checkpoint(save(oriented_rcnn(classes=37), tmp_path / "w.pth")).card
    assert (card.tile, card.overlap) == (1024, 500)


def test_guessed_class_names_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_checkpoint(save(oriented_rcnn(classes=20), tmp_path / "w.pth"))
    assert "w.pth has no class names for its 20 classes; using those of DIOR-R" in caplog.text


def test_meta_of_mmcv_loads(tmp_path: Path) -> None:
    meta = {
        "CLASSES": CLASSES,
        "PALETTE": [(1, 2, 3)],
        "config": "model = dict(type='OrientedRCNN')\n",
        "seed": np.int64(3),
        "hook_msgs": {"best_score": np.float64(0.79), "map": np.float32(0.5), "ok": np.bool_(True)},
        "table": np.arange(3.0),
        "names": np.array(["a", "bc"]),
    }
    path = save({"meta": meta, "state_dict": oriented_rcnn()}, tmp_path / "w.pth")
    assert read_checkpoint(path).card.classes == CLASSES


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpy_scalars_of_either_numpy_load(tmp_path: Path, module: bytes) -> None:
    path = save(
        {"meta": {"CLASSES": CLASSES, "loss": np.float64(1)}, "state_dict": oriented_rcnn()}, tmp_path / "w.pth"
    )
    renamed = tmp_path / "renamed.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(renamed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl"):
                assert re.search(rb"c(numpy\._?core\.multiarray)\nscalar", content)
                content = re.sub(rb"c(numpy\._?core\.multiarray)\nscalar", b"c" + module + b"\nscalar", content)
            new.writestr(name, content)
    assert read_checkpoint(renamed).card.classes == CLASSES


def test_class_names_must_be_as_many_as_the_outputs(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has 3 classes, but 2 names were given"):
        read_checkpoint(save(oriented_rcnn(), tmp_path / "w.pth"), ("a", "b"))


def test_halves_are_read_as_float32(tmp_path: Path) -> None:
    path = save({name: tensor.half() for name, tensor in oriented_rcnn().items()}, tmp_path / "w.pth")
    assert {tensor.dtype for tensor in read_checkpoint(path, CLASSES).state.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("name", "recipe"),
    [(reference.LEGNET, "oriented-rcnn/legnet-tiny"), (reference.UNRAVELNET, "oriented-rcnn/unravelnet-tiny")],
)
def test_names_of_the_reference(tmp_path: Path, name: str, recipe: str) -> None:
    # one stored value a tensor: the layout is what matters here
    state = {key: torch.zeros(()).expand(shape) for key, shape in reference.golden(name)["shapes"].items()}
    found = read_checkpoint(save({"meta": {}, "state_dict": state}, tmp_path / "w.pth"))
    assert (found.card.recipe, len(found.card.classes)) == (recipe, 15)
    assert not any(re.search(r"(LFEA|BGA)\.block", key) for key in found.state)
