"""The fast path of Oriented R-CNN gives mmrotate's boxes, whatever the size, batch or precision."""

import zlib
from typing import Any

import numpy as np
import pytest
import reference
import torch
from torch import Tensor, nn

from legnet_cli.backbones.legnet import LEGNet
from legnet_cli.backbones.unravelnet import UnravelNet
from legnet_cli.boxes import Detections
from legnet_cli.detectors.fast import decoding
from legnet_cli.detectors.fast.fold import fold_norms, regroup, scale_input
from legnet_cli.detectors.fast.kernels import kernels_of
from legnet_cli.detectors.fast.modules import FPN
from legnet_cli.detectors.fast.oriented_rcnn import OrientedLayers, OrientedRCNN
from legnet_cli.detectors.mmrotate.build import MMRotateDetector
from legnet_cli.detectors.mmrotate.door import import_mm
from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.recipes import STD, get_recipe
from legnet_cli.errors import CheckpointError
from legnet_cli.ops.iou import rotated_iou

CPU = torch.device("cpu")
CLASSES = 5
State = dict[str, Tensor]


def fill(name: str, like: Tensor) -> Tensor:
    """Values that depend on name and shape alone and keep the signal's scale, with many confident boxes."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(like.shape, generator=generator)
    if name.endswith("running_var"):
        return 0.5 + torch.rand(like.shape, generator=generator)
    if like.ndim > 1:
        gain = 5.0 if "fc_cls" in name else 0.3 if "reg" in name else 1.0
        return noise * gain * like[0].numel() ** -0.5
    return 0.6 + 0.1 * noise if name.endswith("weight") else 0.05 * noise


def randomise(model: nn.Module) -> State:
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    state = {k: fill(k, v) for k, v in state.items()}
    model.load_state_dict(state, strict=False)
    return state


def images(count: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, height // 8, width // 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return (smooth * 255).byte().permute(0, 2, 3, 1).contiguous()


@pytest.fixture(scope="module")
def weights() -> State:
    return randomise(OrientedLayers(model_config(get_recipe("oriented-rcnn/legnet-nano"), CLASSES)))


def fast(state: State, **options: Any) -> OrientedRCNN:
    config = model_config(get_recipe("oriented-rcnn/legnet-nano"), CLASSES)
    return OrientedRCNN(config, state, device="cpu", **options)


def partners(found: Detections, others: Detections, iou: float, gap: float) -> float:
    """Share of ``found`` that has a box of the same class, nearly the same shape and score among ``others``."""
    boxes, other_boxes = (torch.from_numpy(side.boxes).float() for side in (found, others))
    near = (rotated_iou(boxes, other_boxes) > iou).numpy()
    near &= found.labels[:, None] == others.labels
    near &= np.abs(found.scores[:, None] - others.scores) < gap
    return float(near.any(1).mean())


def test_given_weights_neither_change_nor_stay_in_memory(weights):
    given = {name: tensor.clone() for name, tensor in weights.items()}
    network = fast(given)
    places = {tensor.untyped_storage().data_ptr() for tensor in given.values()}
    held = [*network.named_parameters(), *network.named_buffers()]
    assert not [name for name, tensor in held if tensor.is_meta or tensor.untyped_storage().data_ptr() in places]
    assert all(torch.equal(given[name], tensor) for name, tensor in weights.items())


@pytest.mark.usefixtures("mmrotate")
@pytest.mark.parametrize(("count", "height", "width"), [(1, 160, 192), (2, 100, 75)], ids=["whole", "padded"])
def test_boxes_are_those_of_mmrotate(weights, count, height, width):
    batch = images(count, height, width)
    slow = MMRotateDetector(model_config(get_recipe("oriented-rcnn/legnet-nano"), CLASSES), weights, device=CPU)
    for got, want in zip(fast(weights).detect(batch), slow.detect(batch), strict=True):
        assert len(want) > 20
        assert abs(len(got) - len(want)) <= 0.02 * len(want)
        assert partners(got, want, 0.99, 1e-3) > 0.98
        assert partners(want, got, 0.99, 1e-3) > 0.98


@pytest.mark.parametrize(
    ("name", "recipe"),
    [(reference.LEGNET, "oriented-rcnn/legnet-tiny"), (reference.UNRAVELNET, "oriented-rcnn/unravelnet-tiny")],
)
def test_boxes_are_those_of_the_reference(name, recipe):
    state = reference.golden_state(reference.golden(name)["shapes"])
    model = OrientedRCNN(model_config(get_recipe(recipe), 15), state, device="cpu")
    rows = reference.golden_boxes(name)
    every = torch.cat(rows).numpy()
    want = Detections(every[:, :5], every[:, 5], np.repeat(np.arange(15), [len(row) for row in rows]))
    image = torch.from_numpy(reference.image())[None]
    for kernel in ("direct", "winograd", "product"):
        model.use_kernels({name: kernel for name, layer in model.choosable.items() if kernel in kernels_of(layer)})
        got = model.detect(image)[0]
        for one, other in ((want, got), (got, want)):
            assert partners(one[one.scores > 0.1], other, 0.95, 0.01) > 0.99


def test_a_batch_equals_its_images(weights):
    model, batch = fast(weights), images(2, 96, 128)
    for image, together in zip(batch, model.detect(batch), strict=True):
        alone = model.detect(image[None])[0]
        assert len(alone) == len(together) > 0
        np.testing.assert_array_equal(alone.labels, together.labels)
        np.testing.assert_allclose(alone.boxes, together.boxes, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(alone.scores, together.scores, rtol=1e-4, atol=1e-3)


def test_results_are_ranked_le90_and_limited(weights):
    found = fast(weights, score_threshold=0.2, max_detections=7).detect(images(1, 96, 96))[0]
    assert found.boxes.shape == (7, 5)
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float64, np.float32, np.int64)
    assert (found.scores > 0.2).all()
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes[:, 2] >= found.boxes[:, 3]).all()
    assert (np.abs(found.boxes[:, 4]) <= np.pi / 2 + 1e-6).all()
    every = fast(weights, score_threshold=0.2).detect(images(1, 96, 96))[0]
    np.testing.assert_array_equal(every.boxes[:7], found.boxes)


@pytest.mark.parametrize("threshold", [0.05, 1.0])
def test_a_flat_image_and_no_boxes(weights, threshold):
    found = fast(weights, score_threshold=threshold).detect(torch.zeros(1, 64, 64, 3).byte())[0]
    assert np.isfinite(found.boxes).all()
    assert threshold < 1 or len(found) == 0


def test_broken_weights_find_nothing_but_do_not_crash(weights):
    state = {k: torch.full_like(v, torch.nan) if "rpn_cls" in k else v for k, v in weights.items()}
    assert len(fast(state).detect(images(1, 64, 64))[0]) == 0


def test_bf16_features_are_close_and_boxes_float32(weights):
    half, full, image = fast(weights, dtype=torch.bfloat16), fast(weights), images(1, 96, 128)
    with torch.inference_mode():
        levels, _ = half.dense(half.prepare(image))
        for got, want in zip(levels, full.dense(full.prepare(image))[0], strict=True):
            assert got.dtype == torch.bfloat16
            assert (got - want).norm() < 0.1 * want.norm()
        rois = half.propose(half.dense(half.prepare(image))[1])
        assert all(part.dtype == torch.float32 for part in (rois, *half.classify(levels, rois)))
    assert len(half.detect(image)[0]) > 20


@pytest.mark.parametrize("fault", ["missing", "misshapen"])
def test_unfit_weights_are_refused(weights, fault):
    state = dict(weights)
    name = "rpn_head.rpn_cls.weight"
    state = {k: v for k, v in state.items() if k != name} if fault == "missing" else state | {name: torch.zeros(1)}
    with pytest.raises(CheckpointError, match="rpn_cls"):
        fast(state)


@pytest.mark.parametrize("cls", [LEGNet, UnravelNet])
def test_rewritten_backbones_give_the_same_features(cls):
    model = cls(16, (1, 1, 1, 1)).eval().requires_grad_(False)
    randomise(model)
    x = torch.randn(2, 3, 97, 128, generator=torch.Generator().manual_seed(0))
    want = model(x / torch.tensor(STD).view(3, 1, 1))
    fold_norms(model)
    regroup(model)
    scale_input(model, 1 / torch.tensor(STD))
    left = [name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(left) <= 13, left
    for a, b in zip(model(x), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_merged_pyramid_levels_are_exact_up_to_the_border():
    torch.manual_seed(0)
    neck = FPN((4, 8, 16, 32), 64, 5).requires_grad_(False)
    maps = [torch.randn(2, 4 * 2**i, 48 // 2**i, 32 // 2**i) for i in range(4)]
    want = neck(maps)
    neck.merge_levels()
    assert set(neck.merged) == {"0", "1", "2"}
    for a, b in zip(neck(maps), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("mmrotate")
def test_box_arithmetic_is_that_of_mmrotate():
    import_mm()
    from mmdet.core.anchor import AnchorGenerator
    from mmrotate.core import obb2xyxy
    from mmrotate.core.bbox.coder import DeltaXYWHAOBBoxCoder, MidpointOffsetCoder

    torch.manual_seed(0)
    grid = {"scales": [4.0, 8.0], "ratios": [0.5, 1.0, 2.0]}
    anchors = AnchorGenerator(strides=[16], **grid).grid_priors([(3, 5)], device="cpu")[0]
    centre, size = decoding.anchor_boxes(torch.arange(len(anchors)), 5, 16, **grid)
    torch.testing.assert_close(torch.cat([centre - size / 2, centre + size / 2], 1), anchors)

    # a corner of the upright box would leave a rectangle without height
    offsets = torch.randn(len(anchors), 6) * torch.tensor([1, 1, 1, 1, 0.15, 0.15])
    boxes = MidpointOffsetCoder(angle_range="le90").decode(anchors, offsets)
    got = decoding.decode_midpoint_offsets(centre, size, offsets)
    assert rotated_iou(got, boxes, aligned=True).min() > 0.9999
    torch.testing.assert_close(decoding.bounds(boxes), obb2xyxy(boxes, "le90"))

    offsets = torch.randn(len(boxes), 5)
    coder = DeltaXYWHAOBBoxCoder(angle_range="le90", edge_swap=True, proj_xy=True)
    torch.testing.assert_close(
        decoding.decode_box_offsets(boxes, offsets, 40, 60), coder.decode(boxes, offsets, max_shape=(40, 60))
    )
