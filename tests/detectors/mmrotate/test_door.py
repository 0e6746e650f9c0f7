import importlib.util
import inspect
import re
import sys

import numpy as np
import pytest
import torch
from stock import stock_config

from legnet_cli.detectors.mmrotate import door
from legnet_cli.detectors.mmrotate.door import import_mm
from legnet_cli.errors import DependencyError
from legnet_cli.installation import install_line
from legnet_cli.ops.iou import upright_iou

STOCK = [
    "oriented_rcnn_r50_fpn_1x_dota_le90",
    "roi_trans_r50_fpn_1x_dota_le90",
    "rotated_faster_rcnn_r50_fpn_1x_dota_le90",
    "rotated_fcos_r50_fpn_1x_dota_le90",
    "s2anet_r50_fpn_1x_dota_le135",
    "r3det_r50_fpn_1x_dota_oc",
]
SIDE = 64
META = {
    "img_shape": (SIDE, SIDE, 3),
    "ori_shape": (SIDE, SIDE, 3),
    "pad_shape": (SIDE, SIDE, 3),
    "scale_factor": np.ones(4, np.float32),
    "flip": False,
}


def small_detector(stock):
    """A stock detector with a thin backbone, and few candidates so that it is quick."""
    import_mm()
    from mmcv import Config, ConfigDict
    from mmrotate.models import build_detector

    model = stock_config(stock).model
    model.pop("pretrained", None)
    model.pop("backbone")
    backbone = {"type": "ResNet", "depth": 18, "base_channels": 8, "out_indices": (0, 1, 2, 3)}
    few = {"nms_pre": 100, "max_per_img": 50}
    changes = {"backbone": backbone, "neck": {"in_channels": [8, 16, 32, 64]}, "test_cfg": {"nms_pre": 100}}
    if "rpn" in model.test_cfg:
        changes |= {"test_cfg": {"rpn": few}, "train_cfg": {"rpn_proposal": few}}
    torch.manual_seed(0)
    return build_detector(ConfigDict(Config._merge_a_into_b(changes, model)))


@pytest.mark.filterwarnings("ignore:::(mmcv|mmdet|mmrotate|torch)")
@pytest.mark.parametrize("stock", STOCK)
def test_every_detector_trains_and_predicts(stock):
    detector = small_detector(stock).train()
    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    boxes = [torch.tensor([[20.0, 25, 24, 10, 0.3], [44, 40, 16, 14, 0.9]]), torch.tensor([[30.0, 30, 40, 20, 1.2]])]
    losses = detector.forward_train(images, [META, META], boxes, [torch.tensor([1, 3]), torch.tensor([0])])
    total, _ = detector._parse_losses(losses)
    total.backward()
    assert total.isfinite()
    gradients = [p.grad for p in detector.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    # the loss reaches the first layer, through every operator
    assert detector.backbone.conv1.weight.grad.any()

    with torch.no_grad():
        (found,) = detector.eval().simple_test(images[:1], [META])
    assert len(found) == 15
    for of_class in found:
        assert of_class.shape[1] == 6
        assert np.isfinite(of_class).all()


@pytest.mark.parametrize("count", [0, 1, 30])
def test_mmdet_assigns_anchors_by_our_iou__which_is_the_same(count):
    import_mm()
    from mmdet.core.bbox.iou_calculators.iou2d_calculator import BboxOverlaps2D, bbox_overlaps

    theirs = inspect.getclosurevars(bbox_overlaps).nonlocals["theirs"]
    assert bbox_overlaps.__module__ == door.__name__
    assert theirs.__module__.startswith("mmdet.")
    torch.manual_seed(0)
    boxes, others = torch.rand(count, 4) * 50, torch.rand(999, 4) * 50
    boxes[:, 2:] += boxes[:, :2]
    others[:, 2:] = others[:, :2] + others[:, 2:] / 4
    boxes[:1, 2:] = boxes[:1, :2]  # without area
    others[:1, 2:] = others[:1, :2]
    found = BboxOverlaps2D()(boxes, others)
    assert torch.equal(found, theirs(boxes, others))
    assert torch.equal(found, upright_iou(boxes, others))
    assert float(found.sum()) > 0 or count < 2
    for mode, aligned in (("iof", False), ("giou", True)):
        pair = (boxes, others[:count]) if aligned else (boxes, others)
        assert torch.equal(bbox_overlaps(*pair, mode, aligned), theirs(*pair, mode, aligned))


def test_nothing_stays_of_the_stand_ins():
    import_mm()
    for name in ("torchvision", "e2cnn"):
        module = sys.modules.get(name)
        assert module is None or module.__file__
        importlib.util.find_spec(name)  # does not raise, whether it is installed or not


def test_redet_says_why_it_cannot_be_built():
    import_mm()
    from mmrotate.models import build_detector

    model = stock_config("redet_re50_refpn_1x_dota_le90").model
    with pytest.raises(DependencyError, match="e2cnn"):
        build_detector(model)


@pytest.mark.parametrize("error", [ImportError("No module named 'mmdet'"), AssertionError("MMCV==1.0\nis used")])
def test_a_package_that_cannot_be_imported_comes_with_the_line_to_mend_it(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(door.importlib, "import_module", fail)
    with pytest.raises(
        DependencyError, match=rf"^mmcv cannot be loaded \(.*\): run `{re.escape(install_line('mmrotate'))}`$"
    ):
        import_mm.__wrapped__()
