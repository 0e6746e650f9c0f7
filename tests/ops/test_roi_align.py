import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.torch_version import TorchVersion

from legnet_cli.ops import roi_align as module
from legnet_cli.ops.roi_align import roi_align, roi_align_rotated

ROTATED = torch.tensor(
    [
        [0, 20, 18, 24, 10, 0.0],
        [1, 20, 18, 24, 10, 0.7],
        [1, 9, 30, 3, 40, -1.5],
        [0, 2, 2, 30, 20, 2.4],  # partly outside
        [1, 47, 39, 9, 9, 0.3],  # over the far corner
        [0, 200, 200, 10, 10, 0.1],  # outside
        [0, 22, 21, 0.4, 0.2, 0.5],  # below a pixel
        [1, 20, 20, 0, 0, 0.0],
        [0, 24, 20, 300, 5, 1.0],
    ]
)
UPRIGHT = torch.tensor(
    [[0, 3, 4, 30, 20], [1, -9, -7, 12, 15], [0, 30, 31, 60, 60], [1, 8, 8, 8.2, 8.1], [0, 99, 99, 120, 130]]
).float()


def bilinear(image, y, x):
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros(len(image), dtype=image.dtype)
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    low_y, low_x = int(y), int(x)
    high_y, high_x = min(low_y + 1, height - 1), min(low_x + 1, width - 1)
    top = image[:, low_y, low_x] * (low_x + 1 - x) + image[:, low_y, high_x] * (x - low_x)
    bottom = image[:, high_y, low_x] * (low_x + 1 - x) + image[:, high_y, high_x] * (x - low_x)
    return top * (low_y + 1 - y) + bottom * (y - low_y)


def reference(image, centre, size, angle, bins, ratio):
    """Bins of one box, counter-clockwise ``angle``, sample by sample; all in feature pixels."""
    (cx, cy), (w, h) = centre, size
    grid_h = ratio or math.ceil(h / bins[0])
    grid_w = ratio or math.ceil(w / bins[1])
    out = torch.zeros(len(image), *bins, dtype=image.dtype)
    for i in range(bins[0]):
        for j in range(bins[1]):
            for p in range(grid_h):
                for q in range(grid_w):
                    dy = -h / 2 + (i + (p + 0.5) / grid_h) * h / bins[0]
                    dx = -w / 2 + (j + (q + 0.5) / grid_w) * w / bins[1]
                    y = dy * math.cos(angle) - dx * math.sin(angle) + cy
                    x = dy * math.sin(angle) + dx * math.cos(angle) + cx
                    out[:, i, j] += bilinear(image, y, x) / (grid_h * grid_w)
    return out


def features(dtype=torch.float64):
    return torch.randn(2, 3, 20, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("clockwise", [False, True])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("bins", "ratio"), [((2, 3), 2), ((3, 2), 0), ((1, 1), 1)])
def test_rotated_is_the_mean_of_bilinear_samples(bins, ratio, aligned, clockwise):
    maps = features()
    found = roi_align_rotated(maps, ROTATED.double(), bins, 0.5, ratio, aligned, clockwise)
    for roi, pooled in zip(ROTATED.double().tolist(), found, strict=True):
        centre = [value * 0.5 - 0.5 * aligned for value in roi[1:3]]
        size = [value * 0.5 if aligned else max(value * 0.5, 1) for value in roi[3:5]]
        angle = -roi[5] if clockwise else roi[5]
        expected = reference(maps[int(roi[0])], centre, size, angle, bins, ratio)
        torch.testing.assert_close(pooled, expected, msg=str(roi))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("bins", "ratio"), [((2, 3), 2), ((3, 2), 0)])
def test_upright_is_the_mean_of_bilinear_samples(bins, ratio, aligned):
    maps = features()
    found = roi_align(maps, UPRIGHT.double(), bins, 0.5, ratio, aligned)
    for roi, pooled in zip(UPRIGHT.double().tolist(), found, strict=True):
        x1, y1, x2, y2 = (value * 0.5 - 0.5 * aligned for value in roi[1:])
        w, h = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        expected = reference(maps[int(roi[0])], (x1 + w / 2, y1 + h / 2), (w, h), 0, bins, ratio)
        torch.testing.assert_close(pooled, expected, msg=str(roi))


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize(("align", "rois"), [(roi_align, UPRIGHT), (roi_align_rotated, ROTATED)])
def test_gradient(align, rois, ratio):
    maps = features()[:, :2, :6, :7].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda value: align(value, rois.double(), (2, 2), 0.25, ratio), maps)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_float_types(dtype, tolerance):
    expected = roi_align_rotated(features(), ROTATED.double(), (7, 7), 0.5, 2)
    maps = features(dtype).requires_grad_()
    found = roi_align_rotated(maps, ROTATED, (7, 7), 0.5, 2)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)
    found.sum().backward()
    assert maps.grad is not None
    assert maps.grad.dtype == dtype
    exact = features().requires_grad_()
    roi_align_rotated(exact, ROTATED.double(), (7, 7), 0.5, 2).sum().backward()
    torch.testing.assert_close(maps.grad.double(), exact.grad, atol=20 * tolerance, rtol=0.02)


@pytest.mark.parametrize("ratio", [0, 2])
def test_work_in_parts_gives_the_same(monkeypatch, ratio):
    maps = features(torch.float32).requires_grad_()
    whole = roi_align_rotated(maps, ROTATED, (2, 2), 0.5, ratio)
    (gradient,) = torch.autograd.grad(whole.square().sum(), maps)
    monkeypatch.setattr(module, "_CPU_ENTRIES", 1)
    parts = roi_align_rotated(maps, ROTATED, (2, 2), 0.5, ratio)
    torch.testing.assert_close(parts, whole, atol=0, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(parts.square().sum(), maps)[0], gradient)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize(("align", "columns"), [(roi_align, 5), (roi_align_rotated, 6)])
def test_no_boxes(align, columns, ratio):
    maps = features().requires_grad_()
    pooled = align(maps, torch.zeros(0, columns), (7, 5), 0.5, ratio)
    assert pooled.shape == (0, 3, 7, 5)
    pooled.sum().backward()
    assert not maps.grad.any()


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("column", range(1, 6))
def test_boxes_that_are_not_finite_give_finite_values_and_leave_the_others_alone(column, value, ratio):
    rois = ROTATED[:3].clone()
    rois[1, column] = value
    pooled = roi_align_rotated(features(torch.float32), rois, (2, 2), 0.5, ratio)
    alone = roi_align_rotated(features(torch.float32), rois[[0, 2]], (2, 2), 0.5, ratio)
    assert pooled.isfinite().all()
    torch.testing.assert_close(pooled[[0, 2]], alone)


def test_gradients_are_the_same_bits_every_time():
    maps = features(torch.float32).requires_grad_()
    first, second = (
        torch.autograd.grad(roi_align_rotated(maps, ROTATED.repeat(20, 1), (7, 7), 0.5, 2).square().sum(), maps)[0]
        for _ in range(2)
    )
    assert torch.equal(first, second)


@pytest.mark.skipif(TorchVersion(torch.__version__) < "2.9", reason="fake CUDA tensors need a GPU there")
def test_every_tensor_is_made_on_the_device_of_the_features():
    with FakeTensorMode():  # checks devices without having them
        maps, rois = torch.empty(2, 3, 8, 8, device="cuda"), torch.empty(5, 6, device="cuda")
        assert roi_align(maps, rois[:, :5], (7, 7), 0.25, 2).device.type == "cuda"
        assert roi_align_rotated(maps, rois, (7, 7), 0.25, 2).device.type == "cuda"
