import pytest
import torch

from legnet_cli.detectors.mmrotate.door import import_mm
from legnet_cli.detectors.mmrotate.training import upright_overlaps


@pytest.mark.parametrize("count", [0, 1, 30])
def test_upright_overlaps__are_those_of_mmdet(count):
    import_mm()
    from mmdet.core.bbox.iou_calculators.iou2d_calculator import bbox_overlaps

    torch.manual_seed(0)
    boxes, others = torch.rand(count, 4) * 50, torch.rand(999, 4) * 50
    boxes[:, 2:] += boxes[:, :2]
    others[:, 2:] = others[:, :2] + others[:, 2:] / 4
    boxes[:1, 2:] = boxes[:1, :2]  # without area
    others[:1, 2:] = others[:1, :2]
    found = upright_overlaps(boxes, others)
    assert torch.equal(found, bbox_overlaps(boxes, others))
    assert count == 0 or float(found.max()) > 0 or count == 1
