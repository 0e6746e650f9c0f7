import math

import pytest
import torch

from legnet_cli.ops import nms as module
from legnet_cli.ops.iou import rotated_iou
from legnet_cli.ops.nms import nms, nms_rotated

THRESHOLDS = (0.0, 0.1, 0.3, 0.5, 0.8, 0.95, 1.0)


def clusters(objects, copies, extent, jitter=0.1, seed=0):
    """Oriented boxes (n, 5) as a detector gives them, several an object, with scores (n,) and labels (n,)."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(objects, 5, generator=generator)
    boxes = torch.cat([u[:, :2] * extent, 8 + u[:, 2:4] * 40, u[:, 4:] * 7], 1).repeat_interleave(copies, 0)
    noise = torch.randn(len(boxes), 5, generator=generator) * jitter
    boxes[:, :2] += noise[:, :2] * boxes[:, 2:4]
    boxes[:, 2:4] *= noise[:, 2:4].exp()
    boxes[:, 4] += noise[:, 4]
    labels = torch.randint(0, 4, (len(boxes),), generator=generator)
    # coarse scores: there are ties
    return boxes, (torch.rand(len(boxes), generator=generator) * 50).floor() / 50, labels


def upright(boxes):
    return torch.cat([boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2], 1)


def upright_iou(boxes, offset=0):
    low, high = boxes[:, :2].double(), boxes[:, 2:].double() + offset
    shared = (torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)).clamp(min=0).prod(-1)
    area = (high - low).prod(-1)
    return shared / (area[:, None] + area - shared)


def one_by_one(iou, scores, threshold, labels=None):
    """The sequential loop."""
    order = scores.sort(descending=True, stable=True)[1]
    close = (iou > threshold)[order][:, order]
    if labels is not None:
        close &= labels[order][:, None] == labels[order]
    dropped, kept = torch.zeros(len(order), dtype=torch.bool), []
    for i in range(len(order)):
        if not dropped[i]:
            kept.append(i)
            dropped |= close[i]
    return order[kept].tolist()


@pytest.fixture(params=[None, 200], ids=["one block", "many blocks"])
def _blocks(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(module, "_BLOCK_PAIRS", {"cpu": request.param})
        monkeypatch.setattr(module, "_BOX_PAIRS", 0)
        monkeypatch.setattr(module, "_MIN_BLOCK", 20)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize(("seed", "labelled"), [(0, False), (1, True), (2, False)])
def test_is_the_sequential_loop(threshold, seed, labelled):
    boxes, scores, labels = clusters(25, 8, 200, (0.02, 0.1, 0.4)[seed], seed)
    labels = labels if labelled else None
    for mode in ("iou", "ios"):
        expected = one_by_one(rotated_iou(boxes.double(), boxes.double(), mode=mode), scores, threshold, labels)
        assert nms_rotated(boxes, scores, threshold, labels, mode=mode).tolist() == expected
    for offset in (0, 1):
        expected = one_by_one(upright_iou(upright(boxes), offset), scores, threshold, labels)
        assert nms(upright(boxes), scores, threshold, labels, offset).tolist() == expected
    assert 0 < len(expected) <= len(boxes)


@pytest.mark.parametrize(
    ("iou_threshold", "kept"), [(0.0, [1]), (0.2, [1]), (1 / 3, [1, 0]), (0.4, [1, 0]), (1.0, [1, 0])]
)
def test_only_a_greater_overlap_suppresses(iou_threshold, kept):
    boxes, scores = torch.tensor([[10.0, 10, 4, 4, 0], [12, 10, 4, 4, 0]]).double(), torch.tensor([0.5, 0.9])
    assert nms_rotated(boxes, scores, iou_threshold).tolist() == kept
    assert nms(upright(boxes), scores, iou_threshold).tolist() == kept


def test_touching_boxes_are_apart():
    boxes = torch.tensor([[10.0, 10, 4, 4, 0.3], [10 + 4 * math.cos(0.3), 10 + 4 * math.sin(0.3), 4, 4, 0.3]]).double()
    assert nms_rotated(boxes, torch.tensor([0.5, 0.9]), 0).tolist() == [1, 0]


def test_small_inside_large():
    boxes, scores = torch.tensor([[10.0, 10, 40, 40, 0.2], [12, 10, 4, 4, 1.0]]), torch.tensor([0.9, 0.5])
    assert nms_rotated(boxes, scores, 0.5, mode="iou").tolist() == [0, 1]
    assert nms_rotated(boxes, scores, 0.5, mode="ios").tolist() == [0]


def test_clockwise_tells_the_sense_of_angles():
    boxes = torch.tensor([[0, 0, 40, 4, math.pi / 4], [8, 8, 10, 4, math.pi / 4]])
    assert nms_rotated(boxes, torch.tensor([0.9, 0.5]), 0.1).tolist() == [0]
    assert nms_rotated(boxes, torch.tensor([0.9, 0.5]), 0.1, clockwise=False).tolist() == [0, 1]


def test_labels_need_not_be_small_or_sorted():
    boxes = torch.tensor([[10.0, 10, 4, 4, 0]]).repeat(4, 1)
    labels = torch.tensor([10**12, -5, 10**12, -5])
    assert nms_rotated(boxes, torch.tensor([0.1, 0.9, 0.2, 0.8]), 0.5, labels).tolist() == [1, 2]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", range(6))
def test_what_is_not_finite_is_dropped(bad, column):
    boxes, scores, _ = clusters(10, 5, 100)
    both = torch.cat([boxes, scores[:, None]], 1)
    broken = both[:7].clone()
    broken[:, 5] = 2.0
    broken[:, column] = bad
    mixed = torch.cat([broken, both])
    kept = nms_rotated(mixed[:, :5], mixed[:, 5], 0.3) - len(broken)
    assert kept.tolist() == nms_rotated(boxes, scores, 0.3).tolist()
    if column < 4:
        kept = nms(mixed[:, :4], mixed[:, 5], 0.3)
        assert kept.min() >= len(broken)


def test_boxes_without_area_neither_suppress_nor_fall():
    boxes = torch.tensor([[10.0, 10, 0, 4, 0], [10, 10, 4, 4, 0], [10, 10, 4, -4, 0], [10, 10, 4, 4, 0]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert nms_rotated(boxes, scores, 0.1).tolist() == [0, 1, 2]
    assert nms(upright(boxes), scores, 0.1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("n", [0, 3])
def test_nothing_to_keep(n):
    kept = nms_rotated(torch.full((n, 5), math.nan), torch.zeros(n), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64
    assert nms(torch.full((n, 4), math.nan), torch.zeros(n), 0.5, torch.zeros(n)).shape == (0,)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, math.nan])
def test_refuses_other_thresholds(threshold):
    with pytest.raises(ValueError, match="iou_threshold"):
        nms(torch.zeros(1, 4), torch.zeros(1), threshold)


def test_refuses_other_modes():
    with pytest.raises(ValueError, match="iof"):
        nms_rotated(torch.zeros(1, 5), torch.zeros(1), 0.5, mode="iof")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_dtype(dtype):
    boxes, scores, labels = clusters(20, 5, 200)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    assert torch.equal(nms_rotated(boxes, scores, 0.3, labels), nms_rotated(boxes.double(), scores, 0.3, labels))


def test_no_gradient_is_asked_for():
    boxes, scores, _ = clusters(5, 5, 100)
    assert not nms_rotated(boxes.requires_grad_(), scores.requires_grad_(), 0.3).requires_grad


# --- worst cases: each would take minutes, or gigabytes, where work or memory grew with the square -----------------


def test_identical_boxes():
    boxes = torch.tensor([[10.0, 10, 4, 4, 0.3]]).repeat(20_000, 1)
    scores = torch.linspace(0, 1, 20_000)
    assert nms_rotated(boxes, scores, 0.5).tolist() == [19_999]
    assert nms(upright(boxes), scores, 0.5).tolist() == [19_999]


def test_dense_clusters():
    boxes, scores, labels = clusters(30, 500, 3000, 0.03)
    kept = nms_rotated(boxes, scores, 0.3, labels)
    assert 30 * 4 * 0.9 <= len(kept) <= 30 * 4 * 1.2


def test_long_chain():
    # each box overlaps the next, and falls or stands by it
    boxes = torch.zeros(10_001, 5)
    boxes[:, 0] = torch.arange(10_001) * 10
    boxes[:, 2], boxes[:, 3] = 30, 10
    scores = -torch.arange(10_001).float()
    assert nms_rotated(boxes, scores, 0.45).tolist() == list(range(0, 10_001, 2))


@pytest.mark.parametrize("giant", [False, True])
def test_large_scene(giant):
    generator = torch.Generator().manual_seed(0)
    row, col = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
    spots = torch.stack([col.flatten() * 200, row.flatten() * 200], 1)
    angle = torch.rand(40_000, 1, generator=generator) * 7
    boxes = torch.cat([spots, torch.full((40_000, 2), 30.0), angle], 1).repeat(2, 1)
    boxes[40_000:, 0] += 3
    scores = torch.rand(80_000, generator=generator)
    if giant:
        boxes = torch.cat([boxes, torch.tensor([[20_000.0, 20_000, 50_000, 50_000, 0.3]])])
        scores = torch.cat([scores, torch.tensor([2.0])])
    kept = nms_rotated(boxes, scores, 0.5)
    assert len(kept) == 40_000 + giant
    best = torch.maximum(scores[:40_000], scores[40_000:80_000])
    assert torch.equal(scores[kept].sort()[0][:40_000], best.sort()[0])
