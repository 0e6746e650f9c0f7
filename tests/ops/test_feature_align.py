import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from legnet_cli.ops.feature_align import align_plan


def bilinear(image, y, x):
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros(len(image), dtype=image.dtype)
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    low_y, low_x = min(int(y), height - 1), min(int(x), width - 1)
    total = torch.zeros(len(image), dtype=image.dtype)
    for row, share_y in ((low_y, 1 - (y - low_y)), (low_y + 1, y - low_y)):
        for column, share_x in ((low_x, 1 - (x - low_x)), (low_x + 1, x - low_x)):
            if share_x * share_y:
                total += image[:, row, column] * share_x * share_y
    return total


def case(seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64)
    boxes = torch.rand(2, 5, 6, 5, generator=generator, dtype=torch.float64)
    return features, boxes * torch.tensor([56.0, 64, 40, 20, 3]) - torch.tensor([8.0, 8, 0, 0, 1.5])


def reference(features, boxes, scale, points):
    out = features.clone()
    n, _, height, width = features.shape
    for image in range(n):
        for i in range(height):
            for j in range(width):
                # the first column runs along the height: see the module's docstring
                y, x, w, h = (boxes[image, i, j, :4] * scale).tolist()
                angle = boxes[image, i, j, 4].item()
                out[image, :, i, j] += bilinear(features[image], y, x)
                for sw, sh in ((1, 1), (-1, 1), (-1, -1), (1, -1)) if points == 5 else ():
                    dx = (sw * w * math.cos(angle) - sh * h * math.sin(angle)) / 2
                    dy = (sw * w * math.sin(angle) + sh * h * math.cos(angle)) / 2
                    out[image, :, i, j] += bilinear(features[image], y + dy, x + dx)
    return out


@pytest.mark.parametrize("points", [1, 5])
@pytest.mark.parametrize("flat", [False, True])
def test_values(points, flat):
    features, boxes = case()
    plan = align_plan(boxes.view(-1, 5) if flat else boxes, features.shape, 1 / 8, points)
    torch.testing.assert_close(plan.apply(features), reference(features, boxes, 1 / 8, points))


@pytest.mark.parametrize("points", [1, 5])
def test_gradient_is_the_transpose(points):
    features, boxes = case()
    plan = align_plan(boxes, features.shape, 1 / 8, points)
    grad = torch.randn_like(features)
    (expected,) = torch.autograd.functional.vjp(plan.apply, features, grad)[1:]
    torch.testing.assert_close(plan.transpose(grad), expected)
    # <A x, y> = <x, A' y>
    torch.testing.assert_close((plan.apply(features) * grad).sum(), (features * plan.transpose(grad)).sum())


def test_boxes_that_are_not_finite_add_nothing():
    features, boxes = case()
    boxes[0, 0, 0, 0], boxes[0, 0, 1, 4], boxes[0, 0, 2, 1] = math.nan, math.nan, math.inf
    aligned = align_plan(boxes, features.shape, 1 / 8, 1).apply(features)
    assert aligned.isfinite().all()
    torch.testing.assert_close(aligned[0, :, 0, 0], features[0, :, 0, 0])
    torch.testing.assert_close(aligned[0, :, 0, 2], features[0, :, 0, 2])


def test_other_numbers_of_points_are_refused():
    features, boxes = case()
    with pytest.raises(ValueError, match="points must be 1 or 5, not 4"):
        align_plan(boxes, features.shape, 1, 4)


def test_every_tensor_is_made_on_the_device_of_the_features():
    with FakeTensorMode():  # checks devices without having them
        features, boxes = (torch.empty_like(tensor, device="cuda") for tensor in case())
        assert align_plan(boxes, features.shape, 1 / 8, 5).apply(features).device.type == "cuda"
