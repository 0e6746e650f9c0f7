import math

import pytest
import torch

from legnet_cli.detectors.mmrotate.door import import_mm
from legnet_cli.ops.diff_iou import diff_rotated_iou, sort_vertices
from legnet_cli.ops.iou import rotated_iou

BOX = (10.0, 20.0, 8.0, 4.0, 0.3)


def pairs(n=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(n, 5, generator=generator, dtype=torch.float64)
    a = torch.cat([u[:, :2] * 50, 5 + u[:, 2:4] * 30, u[:, 4:] * 7], 1)
    noise = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    b = a + noise * torch.tensor([5.0, 5.0, 2.0, 2.0, 0.5])
    b[:, 2:4] = b[:, 2:4].clamp(min=2)
    return a, b


def test_value_is_that_of_rotated_iou():
    a, b = pairs()
    assert torch.allclose(diff_rotated_iou(a, b), rotated_iou(a, b, aligned=True), atol=1e-12)


def test_gradients_are_those_of_differences():
    a, b = (x.requires_grad_() for x in pairs(25))
    assert torch.autograd.gradcheck(diff_rotated_iou, (a, b))


def test_gradients_of_upright_and_nested_boxes():
    a = torch.tensor([[0.0, 0, 8, 4, 0], [0, 0, 8, 4, 0], [0, 0, 8, 4, 0.2]], dtype=torch.float64)
    b = torch.tensor([[3.0, 1, 6, 6, 0], [1, 0.5, 2, 1, 0.4], [0, 0, 30, 20, 1.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(diff_rotated_iou, (a.requires_grad_(), b.requires_grad_()))


@pytest.mark.parametrize(
    ("other", "iou", "still"),
    [
        (BOX, 1.0, True),
        ((10, 20, 8, 4, 0.3 + math.pi), 1.0, True),
        ((10, 20, 4, 8, 0.3 - math.pi / 2), 1.0, True),
        ((10 + 8 * math.cos(0.3), 20 + 8 * math.sin(0.3), 8, 4, 0.3), 0.0, False),
        ((10, 20, 4, 2, 0.3), 0.25, False),
        ((100, 20, 8, 4, 0.3), 0.0, True),
        ((10, 20, 0, 4, 0.3), 0.0, True),
        ((10, 20, -3, 4, 0.3), 0.0, True),
        ((10, 20, 1e-12, 1e-12, 0.3), 0.0, False),
        ((math.nan, 20, 8, 4, 0.3), 0.0, True),
        ((10, 20, math.inf, 4, 0.3), 0.0, True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hard_pairs_have_finite_gradients(other, iou, still, dtype):
    a = torch.tensor([BOX], dtype=dtype, requires_grad=True)
    b = torch.tensor([other], dtype=dtype, requires_grad=True)
    found = diff_rotated_iou(a, b)
    assert found.item() == pytest.approx(iou, abs=1e-5)
    found.sum().backward()
    for grad in (a.grad, b.grad):
        assert grad.isfinite().all()
        if still and dtype == torch.float64:
            assert grad.abs().max() < 1e-6


def test_climbing_the_gradient_fits_the_box():
    target, box = torch.tensor([BOX]), torch.tensor([[12.0, 18.0, 5.0, 6.0, 0.0]], requires_grad=True)
    for k in range(150):
        (grad,) = torch.autograd.grad(diff_rotated_iou(box, target).sum(), box)
        box = (box + grad.sign() * torch.tensor([1, 1, 1, 1, 0.1]) * 0.2 * 0.97**k).detach().requires_grad_()
    assert diff_rotated_iou(box, target).item() > 0.95


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_shape_and_dtype_are_kept(dtype):
    a, b = (x.to(dtype).view(4, 50, 5).requires_grad_() for x in pairs())
    found = diff_rotated_iou(a, b)
    assert found.shape == (4, 50)
    assert found.dtype == dtype
    found.sum().backward()
    assert a.grad.dtype == dtype


def test_empty():
    boxes = torch.zeros(0, 5, requires_grad=True)
    found = diff_rotated_iou(boxes, boxes)
    assert found.shape == (0,)
    found.sum().backward()


def test_refuses_unequal_shapes():
    with pytest.raises(ValueError, match=r"\[2, 5\] and \[3, 5\]"):
        diff_rotated_iou(torch.zeros(2, 5), torch.zeros(3, 5))


# --- the sort behind mmcv's own version ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ops(mmrotate):
    import_mm()
    import mmcv.ops

    return mmcv.ops


def polygon(angles, places):
    vertices, mask = torch.zeros(1, 1, 24, 2), torch.zeros(1, 1, 24, dtype=torch.bool)
    for angle, place in zip(angles, places, strict=True):
        vertices[0, 0, place] = torch.tensor([math.cos(angle), math.sin(angle)])
        mask[0, 0, place] = True
    return vertices, mask, mask.sum(-1).int()


@pytest.mark.parametrize(
    ("angles", "places", "expected"),
    [
        ((0.1, 2.0, -2.0), (0, 9, 4), [4, 0, 9, 4, 8, 8, 8, 8, 8]),
        ((3.0, 1.0, -1.0, -3.0), (8, 9, 10, 23), [23, 10, 9, 8, 23, 11, 11, 11, 11]),
        ((-2.9, -2, -1, 0, 0.5, 1, 2, 3), range(8), [0, 1, 2, 3, 4, 5, 6, 7, 0]),
        ((1.0, 2.0), (0, 1), [8] * 9),
        ((), (), [8] * 9),
    ],
)
def test_sort_vertices(angles, places, expected):
    found = sort_vertices(*polygon(angles, places))
    assert found.dtype == torch.int64
    assert found.shape == (1, 1, 9)
    assert found.flatten().tolist() == expected


def test_of_many_vertices_only_repeats_are_left_out():
    angles = (-3.0, -1.0, 1.0, 2.5)
    found = sort_vertices(*polygon(angles * 3, range(12)))
    corners = [index % 4 for index in found.flatten().tolist()]
    assert [c for k, c in enumerate(corners) if k == 0 or c != corners[k - 1]] == [0, 1, 2, 3, 0]


def test_mmcv_agrees(ops):
    a, b = pairs(500)
    a[:20] = b[:20]
    a[20:30, :2] += 1000
    expected = rotated_iou(a, b, aligned=True)
    assert torch.allclose(ops.diff_iou_rotated_2d(a[None], b[None])[0], expected, atol=1e-4)
    # in float32 mmcv itself loses corners of boxes that coincide
    found = ops.diff_iou_rotated_2d(a[None, 20:].float(), b[None, 20:].float())[0]
    assert torch.allclose(found.double(), expected[20:], atol=1e-4)
