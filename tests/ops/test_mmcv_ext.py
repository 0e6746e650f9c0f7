import importlib.util
import math
import sys

import pytest
import torch
from torch.nn import functional as F

from legnet_cli.detectors.mmrotate.door import import_mm
from legnet_cli.errors import DependencyError
from legnet_cli.ops import mmcv_ext, roi_align
from legnet_cli.ops.iou import rotated_iou


@pytest.fixture(scope="module")
def ops(mmrotate):
    """mmcv's own wrappers, which hold the stand-in to its names and arguments."""
    import_mm()
    import mmcv.ops

    return mmcv.ops


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scored_boxes(n=60, seed=0):
    low, size = random(n, 2, seed=seed) * 12 + 30, random(n, 2, seed=seed + 1).abs() * 15 + 4
    return torch.cat([low, low + size], 1).float(), torch.rand(n, generator=torch.Generator().manual_seed(seed))


def iou(a, b):
    w, h = (min(a[2 + k], b[2 + k]) - max(a[k], b[k]) for k in (0, 1))
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_nms(ops):
    boxes, scores = scored_boxes()
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if all(iou(boxes[i], boxes[j]) <= 0.3 for j in kept):
            kept.append(i)
    dets, found = ops.nms(boxes, scores, 0.3)
    assert found.tolist() == kept
    torch.testing.assert_close(dets, torch.cat([boxes, scores[:, None]], 1)[kept])


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("clockwise", [False, True])
def test_nms_rotated(ops, labelled, clockwise):
    boxes, scores = scored_boxes()
    boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2], random(60, 1).float()], 1)
    labels = torch.arange(60) % 3 if labelled else None
    overlap = rotated_iou(boxes, boxes, clockwise=clockwise)
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if all(overlap[i, j] <= 0.3 or (labelled and labels[i] != labels[j]) for j in kept):
            kept.append(i)
    dets, found = ops.nms_rotated(boxes, scores, 0.3, labels, clockwise)
    assert found.tolist() == kept
    torch.testing.assert_close(dets, torch.cat([boxes, scores[:, None]], 1)[kept])


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms(ops, method):
    boxes, scores = scored_boxes(20)
    dets, found = ops.soft_nms(boxes, scores, 0.3, sigma=0.5, min_score=0.05, method=method)
    left, expected = dict(enumerate(scores.tolist())), []
    while left:
        best = max(left, key=left.__getitem__)
        expected.append((best, left.pop(best)))
        for i in list(left):
            value = float(iou(boxes[i], boxes[best]))
            weak = {"naive": 0.0, "linear": 1 - value}.get(method)
            left[i] *= math.exp(-(value**2) / 0.5) if weak is None else weak if value >= 0.3 else 1.0
            if left[i] < 0.05:
                del left[i]
    assert found.tolist() == [i for i, _ in expected]
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in expected]))
    torch.testing.assert_close(dets[:, :4], boxes[found])


def test_nms_match_groups_every_box_with_the_one_that_suppresses_it(ops):
    boxes, scores = scored_boxes(30)
    groups = [group.tolist() for group in ops.nms_match(torch.cat([boxes, scores[:, None]], 1), 0.3)]
    assert sorted(i for group in groups for i in group) == list(range(30))
    assert [group[0] for group in groups] == ops.nms(boxes, scores, 0.3)[1].tolist()
    assert all(iou(boxes[group[0]], boxes[i]) >= 0.3 for group in groups for i in group)
    assert all(scores[group].tolist() == sorted(scores[group].tolist(), reverse=True) for group in groups)


@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("clockwise", [False, True])
def test_box_iou_rotated(ops, mode, clockwise):
    boxes = torch.cat([random(8, 2) * 4, random(8, 2).abs() * 9 + 1, random(8, 1)], 1)
    expected = rotated_iou(boxes[:5], boxes[3:], mode=mode, clockwise=clockwise)
    torch.testing.assert_close(ops.box_iou_rotated(boxes[:5], boxes[3:], mode, clockwise=clockwise), expected)
    paired = ops.box_iou_rotated(boxes[:5], boxes[3:], mode, aligned=True, clockwise=clockwise)
    torch.testing.assert_close(paired, expected.diagonal())


@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("aligned", [False, True])
def test_bbox_overlaps(ops, mode, offset, aligned):
    from mmcv.ops.bbox import _bbox_overlaps_cpu

    boxes, _ = scored_boxes(10)
    found = ops.bbox_overlaps(boxes[:5], boxes[5:], mode, aligned, offset)
    torch.testing.assert_close(found, _bbox_overlaps_cpu(boxes[:5], boxes[5:], mode, aligned, offset))


ROIS = torch.tensor([[0, 8, 9, 12, 6, 0.4], [1, 6, 6, 5, 9, -1.0]]).double()
UPRIGHT = torch.tensor([[0, 1, 2, 14, 9], [1, 3, 3, 4, 12]]).double()


@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align(ops, ratio):
    maps = random(2, 2, 6, 6).requires_grad_()
    expected = roi_align.roi_align(maps, UPRIGHT, (2, 3), 0.5, ratio)
    torch.testing.assert_close(ops.roi_align(maps, UPRIGHT, (2, 3), 0.5, ratio, "avg", True), expected)
    assert torch.autograd.gradcheck(lambda value: ops.roi_align(value, UPRIGHT, (2, 3), 0.5, ratio, "avg", True), maps)
    with pytest.raises(DependencyError, match="pool_mode"):
        ops.roi_align(maps, UPRIGHT, (2, 3), 0.5, ratio, "max", True)


@pytest.mark.parametrize("clockwise", [False, True])
def test_roi_align_rotated(ops, clockwise):
    maps = random(2, 2, 6, 6).requires_grad_()
    expected = roi_align.roi_align_rotated(maps, ROIS, (2, 3), 0.5, 2, True, clockwise)
    torch.testing.assert_close(ops.roi_align_rotated(maps, ROIS, (2, 3), 0.5, 2, True, clockwise), expected)
    assert torch.autograd.gradcheck(
        lambda value: ops.roi_align_rotated(value, ROIS, (2, 3), 0.5, 2, True, clockwise), maps
    )


@pytest.mark.parametrize("points", [1, 5])
def test_rotated_feature_align(ops, points):
    maps = random(2, 2, 3, 4).requires_grad_()
    boxes = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).double() * 20
    assert torch.autograd.gradcheck(lambda value: ops.rotated_feature_align(value, boxes, 1 / 8, points), maps)


def test_deformable_convolutions(ops):
    features, weight, bias = random(2, 4, 5, 5), random(4, 2, 3, 3, seed=1), random(4, seed=2)
    offset, mask = random(2, 36, 3, 3, seed=3), random(2, 18, 3, 3, seed=4).sigmoid()
    tensors = [tensor.requires_grad_() for tensor in (features, offset, weight)]
    assert torch.autograd.gradcheck(lambda *args: ops.deform_conv2d(*args, 2, 1, 1, 2, 2), tensors, fast_mode=True)
    tensors = [tensor.requires_grad_() for tensor in (features, offset, mask, weight, bias)]
    assert torch.autograd.gradcheck(
        lambda *args: ops.modulated_deform_conv2d(*args, 2, 1, 1, 2, 2), tensors, fast_mode=True
    )


def test_active_rotated_filter(ops):
    from mmrotate.models.utils import ORConv2d

    layer = ORConv2d(3, 5, kernel_size=3, arf_config=(2, 4))
    weight, indices = layer.weight.detach().double().requires_grad_(), layer.indices
    found = ops.active_rotated_filter(weight, indices)
    expected = torch.zeros(5, 4, 3, 2 * 9, dtype=torch.float64)
    for entry, turns in enumerate(indices.flatten(0, 2).tolist()):
        for rotation, place in enumerate(turns):
            expected[:, rotation, :, place - 1] = weight.flatten(2)[:, :, entry]
    torch.testing.assert_close(found, expected.view(found.shape))
    assert torch.autograd.gradcheck(lambda value: ops.active_rotated_filter(value, indices), weight, fast_mode=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_focal_loss(ops, weighted):
    logits, target = (random(7, 3) * 4).requires_grad_(), torch.tensor([0, 1, 2, 3, 0, 3, 2])  # 3 is background
    weight = torch.tensor([0.5, 2, 3]).double() if weighted else None
    one_hot = F.one_hot(target, 4)[:, :3]
    p = torch.where(one_hot == 1, logits.sigmoid(), 1 - logits.sigmoid())
    expected = -torch.where(one_hot == 1, 0.25, 0.75) * (1 - p) ** 2 * p.log()
    if weighted:
        expected = expected * torch.cat([weight, torch.ones(1)])[target, None]
    found = ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, weight, "none")
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(
        lambda value: ops.sigmoid_focal_loss(value, target, 2.0, 0.25, weight, "mean"), logits
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sigmoid_focal_loss_of_extreme_logits(ops, dtype):
    logits = torch.tensor([[200.0, -200]], dtype=dtype).requires_grad_()
    loss = ops.sigmoid_focal_loss(logits, torch.tensor([1]), 2.0, 0.25, None, "none")
    torch.testing.assert_close(loss.float(), torch.tensor([[150.0, 50]]))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad.float(), torch.tensor([[0.75, -0.25]]))


def test_an_operator_without_substitute_says_so(ops):
    with pytest.raises(DependencyError, match="mmcv operator min_area_polygons has no substitute"):
        ops.min_area_polygons(torch.zeros(1, 18))


def test_backend_follows_the_environment(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmcv._ext", None)
    monkeypatch.delenv("LEGNET_OPS", raising=False)
    mmcv_ext.install()
    assert mmcv_ext.backend() == "torch"
    assert sys.modules["mmcv._ext"] is mmcv_ext.MODULE


def test_compiled_operators_are_used_only_if_there(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location(
        "mmcv", tmp_path / "__init__.py", submodule_search_locations=[str(tmp_path)]
    )
    monkeypatch.setattr(mmcv_ext, "find_spec", lambda name: spec)
    monkeypatch.setenv("LEGNET_OPS", "mmcv")
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    with pytest.raises(DependencyError, match="unset LEGNET_OPS"):
        mmcv_ext.install()
    (tmp_path / "_ext.py").touch()
    mmcv_ext.install()
    assert mmcv_ext.backend() == "mmcv"
    assert "mmcv._ext" not in sys.modules
