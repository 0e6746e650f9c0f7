"""mmrotate's detectors in training: they learn, in their own angles, from weights that fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from blobs import draw
from torch import Tensor

from legnet_cli.boxes import boxes_to_polygons, to_le90
from legnet_cli.detectors.mmrotate.training import TrainableDetector
from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.recipes import DETECTORS, get_recipe
from legnet_cli.errors import CheckpointError, ConfigError

BOXES = [[(24, 24, 30, 16, 0.4), (68, 66, 34, 18, -1.2)], [(48, 40, 40, 24, 1.0)]]
LABELS = [[0, 1], [1]]


def batch() -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Two images (2, 3, 96, 96) of rectangles told apart by their brightness, their boxes and labels."""
    images = [
        draw((96, 96), boxes, [(150, 250)[i] for i in labels]) for boxes, labels in zip(BOXES, LABELS, strict=True)
    ]
    pixels = torch.from_numpy(np.stack(images))[:, None].repeat(1, 3, 1, 1)
    return pixels, [torch.tensor(boxes) for boxes in BOXES], [torch.tensor(labels) for labels in LABELS]


def made(name: str) -> TrainableDetector:
    recipe = get_recipe(name)
    config = model_config(recipe, 2)
    train = config["train_cfg"]
    if train and "rpn_proposal" in train:
        train["rpn_proposal"] |= {"nms_pre": 100, "max_per_img": 50}
    torch.manual_seed(0)
    return TrainableDetector(config, recipe.angle)


@pytest.mark.parametrize(
    "name",
    [
        *(f"{detector}/legnet-nano" for detector in DETECTORS),
        "oriented-rcnn/legnet-tiny",
        "oriented-rcnn/unravelnet-tiny",
        pytest.param("oriented-rcnn/legnet-small", marks=pytest.mark.slow),
        pytest.param("oriented-rcnn/unravelnet-small", marks=pytest.mark.slow),
    ],
)
def test_every_recipe_learns(name: str) -> None:
    model = made(name).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-4)
    losses = []
    for _ in range(10):
        torch.manual_seed(0)  # the same anchors each time
        np.random.seed(0)  # noqa: NPY002 - mmdet's samplers draw from the global generator
        found = model(*batch())
        assert all(name.startswith("loss") or ".loss" in name for name in found)
        total = torch.stack(list(found.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert np.isfinite(losses).all()
    assert min(losses[-2:]) < 0.8 * losses[0], losses


@pytest.mark.parametrize("detector", ["oriented-rcnn", "roi-transformer", "rotated-faster-rcnn"])
def test_two_stages_learn_with_all_weights_even_without_objects(detector: str) -> None:
    """Several processes wait for each other's gradients."""
    model = made(f"{detector}/legnet-nano").train()
    pixels, boxes, labels = batch()
    losses = model(pixels[:1], [boxes[0][:0]], [labels[0][:0]])
    torch.stack(list(losses.values())).sum().backward()
    assert [name for name, tensor in model.named_parameters() if tensor.grad is None] == []


@pytest.mark.parametrize("detector", DETECTORS)
def test_ignored_ground_is_neither_positive_nor_negative(detector: str) -> None:
    """An object in it costs nothing, and nothing outside of it changes."""
    model = made(f"{detector}/legnet-nano").train()
    assert model.ignores
    pixels, boxes, labels = batch()
    none = [boxes[0][:0]], [labels[0][:0]]

    def losses(boxes: list[Tensor], labels: list[Tensor], ignored: Tensor | None) -> dict[str, float]:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - mmdet's samplers draw from the global generator
        found = model(pixels[:1], boxes, labels, ignored)
        model.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        return {name: float(value.detach()) for name, value in found.items()}

    everything = torch.ones(1, 96, 96, dtype=torch.bool)
    assert not any(losses(*none, everything).values())
    assert not any(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None)
    assert not [name for name, p in model.named_parameters() if p.grad is None and "fc_" in name]
    if detector == "rotated-fcos":  # its head has nothing random: half the ground is at most as much
        half = everything.clone()
        half[..., 48:] = False
        assert 0 < losses(*none, half)["loss_cls"] < losses(*none, None)["loss_cls"]
    assert losses(*none, ~everything) == pytest.approx(losses(*none, None))
    objects = losses([boxes[0]], [labels[0]], everything)
    assert any(value for name, value in objects.items() if name.endswith("loss_bbox"))  # they count wherever they lie


@pytest.mark.parametrize("name", ["s2anet/legnet-nano", "r3det/legnet-nano"])
def test_boxes_reach_the_head_in_its_own_angles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, taken = made(name), []
    monkeypatch.setattr(
        model.detector, "forward_train", lambda x, metas, boxes, labels: taken.append((x, boxes, labels)) or {}
    )
    pixels, boxes, labels = batch()
    model(pixels, boxes, labels)
    ((x, own, same),) = taken
    assert same == labels
    assert not torch.equal(boxes[0], own[0])
    for ours, theirs in zip(boxes, own, strict=True):
        assert theirs.dtype == torch.float32
        np.testing.assert_allclose(
            boxes_to_polygons(to_le90(theirs.double().numpy())), boxes_to_polygons(ours.double().numpy()), atol=1e-4
        )
        low, high = {"le135": (-np.pi / 4, 3 * np.pi / 4), "oc": (0, np.pi / 2)}[model.angle]
        assert ((theirs[:, 4] >= low - 1e-6) & (theirs[:, 4] <= high + 1e-6)).all()
    # ImageNet's mean and deviation, whatever the brightness
    ground = (torch.tensor([30.0]) - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    torch.testing.assert_close(x[0, :, 0, 95], ground)


def test_halves_stay_out_of_the_losses() -> None:
    model = made("oriented-rcnn/legnet-nano").train()
    seen = []
    model.detector.backbone.register_forward_hook(lambda *parts: seen.append(parts[-1][-1].dtype))
    model.detector.rpn_head.register_forward_pre_hook(lambda module, args: seen.append(args[0][0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*batch())
    assert seen == [torch.bfloat16, torch.float32]
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


def test_weights_to_start_from(caplog: pytest.LogCaptureFixture) -> None:
    model = made("oriented-rcnn/legnet-nano")
    stem, neck, head = "backbone.Stem.LoG.conv_init.weight", "neck.fpn_convs.0.conv.weight", "roi_head.bbox_head.fc_cls"
    backbone = {name: torch.full_like(t, 0.25) for name, t in model.detector.backbone.state_dict().items()}
    before = model.weights()[neck].clone()
    model.start_from(backbone | {"head.fc.weight": torch.ones(1)}, "file")  # of a classifier
    assert float(model.weights()[stem].mean()) == 0.25
    assert torch.equal(model.weights()[neck], before)
    whole = {name: torch.full_like(t, 0.5) for name, t in model.weights().items()}
    model.start_from(whole, "file")
    assert float(model.weights()[neck].mean()) == float(model.weights()[f"{head}.weight"].mean()) == 0.5
    assert caplog.text == ""
    model.start_from({name: t * 2 for name, t in whole.items()} | {f"{head}.weight": torch.ones(9, 256)}, "file")
    assert float(model.weights()[neck].mean()) == 1
    assert float(model.weights()[f"{head}.weight"].mean()) == 0.5
    assert f"the class count differs ({head}.weight)" in caplog.text
    for wrong in ({stem: torch.ones(1)}, {neck: torch.ones(1)}):
        with pytest.raises(CheckpointError, match=r"file: 1 tensors are missing or of another shape"):
            model.start_from(whole | wrong, "file")


def test_a_model_that_cannot_be_built_is_the_users() -> None:
    config = model_config(get_recipe("oriented-rcnn/legnet-nano"), 2)
    with pytest.raises(ConfigError, match=r"mmrotate cannot build this model \(.*FPNN"):
        TrainableDetector(config | {"neck": {"type": "FPNN"}}, "le90")
