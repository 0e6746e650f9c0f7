import csv
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from blobs import CLASSES, BlobDetector, write_tiles

from legnet_cli.detectors.loader import load_detector
from legnet_cli.detectors.mmrotate.training import TrainableDetector
from legnet_cli.detectors.weights.checkpoint import read_checkpoint
from legnet_cli.detectors.weights.recipes import BACKBONES, DETECTORS
from legnet_cli.engine.eval import EvalConfig, evaluate
from legnet_cli.engine.eval.search import SearchPlan
from legnet_cli.engine.train import TrainConfig, train
from legnet_cli.engine.train.data import GlobalBatchSampler
from legnet_cli.engine.train.validation import open_validation
from legnet_cli.errors import CheckpointError, ConfigError, DataError, DependencyError

NANO = "oriented-rcnn/legnet-nano"


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return write_tiles(tmp_path_factory.mktemp("tiles") / "blobs")


@pytest.fixture
def config(mmrotate, tiles, tmp_path):
    return TrainConfig(
        data=tiles, out=tmp_path / "run", recipe=NANO, weights="none", epochs=2, batch=2, workers=0, device="cpu"
    )


def rows(out):
    with (out / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def curve(out):
    """What must not depend on how a run was interrupted or spread over processes."""
    return [(row["step"], row["epoch"], row["lr"], row["loss"], row["map50"]) for row in rows(out)]


def test_train__leaves_a_run_that_the_other_verbs_take(config, tiles):
    seen = []
    result = train(config, seen.append)
    assert (result.epochs, result.step, result.stopped) == (2, 8, "")
    assert [step.step for step in seen] == list(range(1, 9))
    assert {"loss", "loss_cls", "loss_bbox", "loss_rpn_cls", "loss_rpn_bbox"} <= set(seen[0].losses)
    terms = [value for name, value in seen[0].losses.items() if name != "loss"]
    assert seen[0].losses["loss"] == pytest.approx(sum(terms))
    assert all(step.images_per_second > 0 and 0 <= step.waiting <= 1 and step.memory_mb > 0 for step in seen)
    assert [step.score is not None for step in seen] == [False, False, False, True] * 2
    run = config.out
    for name in ("config.yaml", "metrics.csv", "curves.png", "best.safetensors", "last.safetensors", "last.ckpt"):
        assert (run / name).stat().st_size > 0
    assert cv2.imread(str(run / "curves.png")).shape[0] > 500
    assert len(rows(run)) == 8
    card = read_checkpoint(run / "best.safetensors").card
    assert (card.classes, card.recipe, card.name) == (("bright", "dim"), NANO, "run")
    assert card.data_sha256 is not None
    assert card.trained_on == "blobs, 8 images"
    stored = yaml.safe_load((run / "config.yaml").read_text())
    assert stored["plan"]["classes"] == ["bright", "dim"]
    assert stored["data"]["objects"] == {"bright": 7, "dim": 7}
    metrics = evaluate(EvalConfig(data=tiles, out=run / "eval", weights=str(run / "last.safetensors"))).metrics
    assert metrics["summary"]["voc07"]["mAP50"] == pytest.approx(float(rows(run)[-1]["map50"]))


@pytest.mark.parametrize("detector", DETECTORS)
def test_train__every_detector_lowers_its_loss(config, detector):
    assert_loss_falls(config, f"{detector}/legnet-nano")


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "legnet-nano"])
def test_train__every_backbone_lowers_its_loss(config, backbone):
    few = ("rcnn.sampler.num=32", "rpn_proposal.nms_pre=64", "rpn_proposal.max_per_img=64")
    assert_loss_falls(config, f"oriented-rcnn/{backbone}", *(f"model.train_cfg.{text}" for text in few))


def assert_loss_falls(config, recipe, *overrides):
    seen = []
    overrides = ("transforms=[]", "warmup=0", "schedule=cosine", *overrides)
    train(replace(config, recipe=recipe, epochs=3, lr=5e-4, overrides=overrides, data=only_train(config)), seen.append)
    losses = [step.losses["loss"] for step in seen]
    assert len(losses) == 12
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])


def only_train(config):
    """The training part alone: nothing to evaluate."""
    return config.data / "train"


def test_train__resumed_run_equals_an_uninterrupted_one(config):
    train(config)
    stopped = replace(config, out=config.out.with_name("stopped"))

    def stop(step):
        if step.step in (3, 6):
            os.kill(os.getpid(), signal.SIGTERM)

    result = train(stopped, stop)
    # the signal of a step ends training after the next one at the latest
    assert result.stopped == "signal"
    assert 3 <= result.step <= 4
    again = train(TrainConfig(out=stopped.out, resume=True, workers=0, device="cpu"), stop)
    assert again.stopped == "signal"
    train(TrainConfig(out=stopped.out, resume=True, workers=0, device="cpu"))
    assert curve(stopped.out) == curve(config.out)
    one, two = (read_checkpoint(c.out / "last.safetensors").state for c in (config, stopped))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_train__killed_run_goes_on_from_its_last_checkpoint(config):
    train(config)
    killed = replace(config, out=config.out.with_name("killed"))

    def die(step):
        if step.step == 6:
            raise RuntimeError("power failure")

    with pytest.raises(RuntimeError, match="power failure"):
        train(killed, die)
    assert len(rows(killed.out)) == 4  # of the epoch that was finished
    train(TrainConfig(out=killed.out, resume=True, workers=0, device="cpu"))
    assert curve(killed.out) == curve(config.out)


def test_train__workers_do_not_change_the_curve(config):
    train(replace(config, epochs=1))
    train(replace(config, epochs=1, workers=1, out=config.out.with_name("workers")))
    assert curve(config.out) == curve(config.out.with_name("workers"))


def test_train__two_processes_equal_one_that_accumulates(config):
    plain = replace(config, epochs=1, batch=1, accumulate=2, data=only_train(config))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of another order would choose other proposals of an untrained network
    try:
        train(plain)
    finally:
        torch.set_num_threads(threads)
    two = config.out.with_name("two")
    flags = ["--data", str(config.data), "--recipe", NANO, "--weights", "none", "--epochs", "1", "--batch", "1"]
    flags += ["--devices", "2", "--device", "cpu", "--workers", "0", "--out", str(two)]
    found = subprocess.run(
        [sys.executable, "-m", "legnet_cli", "train", *flags],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert found.returncode == 0, found.stderr
    losses = [[float(row["loss"]) for row in rows(out)] for out in (plain.out, two)]
    assert len(losses[0]) == 4
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert rows(plain.out)[0]["lr"] == rows(two)[0]["lr"]
    weights = two / "last.safetensors"
    assert read_checkpoint(weights).card.classes == ("bright", "dim")
    found = evaluate(EvalConfig(data=config.data, out=two / "eval", weights=str(weights)))  # they evaluated together
    assert float(rows(two)[-1]["map50"]) == pytest.approx(found.metrics["summary"]["voc07"]["mAP50"])


def test_validation__is_the_same_however_many_processes_share_it(tmp_path, monkeypatch):
    monkeypatch.setattr("legnet_cli.engine.train.validation.build_detector", lambda *_: BlobDetector())
    data = write_tiles(tmp_path / "blobs", (("val", 5),))
    card, plan = BlobDetector().card, SearchPlan(128, 48, None, "auto", 2, 1, 0)
    validation = open_validation(data, "val", CLASSES, plan, labels=None, skip_bad=False)
    whole = validation.find({}, card, torch.device("cpu"))
    parts = [validation.find({}, card, torch.device("cpu"), rank, 3) for rank in range(3)]
    assert [len(part) for part in parts[1].images] == [0, 2, 0, 0, 0]  # the last image is empty
    assert validation.score(parts) == validation.score([whole])
    assert validation.score(parts).map50 == 1
    assert validation.score([parts[0]] * 3).map50 < 1


def test_train__patience_stops_early(config):
    result = train(replace(config, epochs=9, patience=1, lr=1e-12))
    assert (result.stopped, result.epochs) == ("patience", 2)
    assert result.best == (0.0, 1)


def test_train__dry_run_checks_and_writes_nothing(config):
    result = train(replace(config, dry_run=True))
    assert result.cost is not None
    assert (result.cost.images, result.cost.steps_per_epoch) == (2, 4)
    assert result.cost.seconds > 0
    check = result.check
    assert (check.images, check.empty, check.validation, check.sizes) == (8, 1, 2, {"96×96": 8})
    assert not config.out.exists()


@pytest.mark.parametrize(
    ("changes", "rate"),
    [
        ({}, 1e-3 * 2 / 8),
        ({"accumulate": 4}, 1e-3),
        ({"lr": 3e-4}, 3e-4),
        ({"overrides": ("optimizer.lr=7e-5",)}, 7e-5),
    ],
)
def test_train__rate_follows_the_global_batch(config, changes, rate):
    result = train(replace(config, dry_run=True, **changes))
    assert result.plan.optimizer["lr"] == pytest.approx(rate)


def test_train__overrides_reach_the_plan_and_the_weights(config, tiles):
    overrides = (
        "model.rpn_head.anchor_generator.scales=[6]",
        "optimizer.weight_decay=0.1",
        "model.backbone.drop_path=0.3",
    )
    result = train(replace(config, epochs=1, overrides=overrides))
    assert result.plan.optimizer["weight_decay"] == 0.1
    checkpoint = read_checkpoint(config.out / "best.safetensors")
    assert checkpoint.card.model["rpn_head"]["anchor_generator"]["scales"] == [6]
    detector = load_detector(config.out / "best.safetensors", device="cpu", score_threshold=0.0)
    assert len(detector.detect(np.zeros((1, 96, 96, 3), np.uint8))) == 1


def test_train__takes_a_mmrotate_config(config, tmp_path):
    source = tmp_path / "mine.py"
    source.write_text(CONFIG)
    result = train(replace(config, recipe=None, config=source, epochs=1, batch=None))
    assert (result.plan.recipe, result.plan.batch, result.plan.optimizer["type"]) == ("mine", 4, "SGD")
    assert result.plan.warmup == 2
    assert [step["type"] for step in result.plan.transforms] == ["RResize", "RRandomFlip"]
    detector = load_detector(config.out / "best.safetensors", device="cpu")
    assert detector.card.classes == ("bright", "dim")
    assert len(detector.detect(np.zeros((1, 96, 96, 3), np.uint8))) == 1


# mmrotate's own backbone and a single-stage head
CONFIG = """
angle_version = "le90"
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
model = dict(
    type="RotatedRetinaNet",
    backbone=dict(type="ResNet", depth=18, base_channels=8, num_stages=4, out_indices=(0, 1, 2, 3), style="pytorch",
                  init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet18")),
    neck=dict(type="FPN", in_channels=[8, 16, 32, 64], out_channels=16, start_level=1, add_extra_convs="on_input",
              num_outs=5),
    bbox_head=dict(
        type="RotatedRetinaHead", num_classes=15, in_channels=16, stacked_convs=1, feat_channels=16,
        assign_by_circumhbbox=None,
        anchor_generator=dict(type="RotatedAnchorGenerator", octave_base_scale=4, scales_per_octave=1, ratios=[1.0],
                              strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type="DeltaXYWHAOBBoxCoder", angle_range="le90", norm_factor=None, edge_swap=True,
                        proj_xy=True, target_means=(0, 0, 0, 0, 0), target_stds=(1, 1, 1, 1, 1)),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0)),
    train_cfg=dict(assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0,
                                 ignore_iof_thr=-1, iou_calculator=dict(type="RBboxOverlaps2D")),
                   allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(nms_pre=200, min_bbox_size=0, score_thr=0.05, nms=dict(iou_thr=0.1), max_per_img=100))
data = dict(samples_per_gpu=4, train=dict(pipeline=[
    dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RResize", img_scale=(128, 128)),
    dict(type="RRandomFlip", flip_ratio=[0.25, 0.25, 0.25], direction=["horizontal", "vertical", "diagonal"],
         version="le90"),
    dict(type="Normalize", **norm), dict(type="Pad", size_divisor=32), dict(type="DefaultFormatBundle"),
    dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"])]))
optimizer = dict(type="SGD", lr=0.0025, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy="step", warmup="linear", warmup_iters=2, warmup_ratio=1.0 / 3, step=[8, 11])
runner = dict(type="EpochBasedRunner", max_epochs=12)
"""


def test_train__starts_from_weights_with_other_classes(config, tmp_path, caplog):
    train(replace(config, epochs=1))
    other = write_tiles(tmp_path / "one", (("train", 4),), names=("dim",))
    train(
        replace(
            config, data=other, out=tmp_path / "next", weights=str(config.out / "best.safetensors"), lr=1e-12, epochs=1
        )
    )
    assert "the class count differs (roi_head.bbox_head.fc_cls.weight" in caplog.text
    old, new = (read_checkpoint(run / "last.safetensors").state for run in (config.out, tmp_path / "next"))
    assert torch.allclose(
        old["backbone.Stem.LoG.conv_init.weight"], new["backbone.Stem.LoG.conv_init.weight"], atol=1e-6
    )
    assert new["roi_head.bbox_head.fc_cls.weight"].shape[0] == 2


def test_train__starts_from_a_backbone(config, tmp_path):
    model = TrainableDetector(train(replace(config, dry_run=True)).plan.model, "le90")
    backbone = {name: torch.full_like(tensor, 0.25) for name, tensor in model.detector.backbone.state_dict().items()}
    model.start_from(backbone, "file")
    assert float(model.weights()["backbone.Stem.LoG.conv_init.weight"].mean()) == 0.25
    assert float(model.weights()["neck.fpn_convs.0.conv.weight"].mean()) != 0.25
    backbone.pop("Stem.LoG.conv_init.weight")
    with pytest.raises(CheckpointError, match=r"file: 1 tensors are missing .*conv_init"):
        model.start_from(backbone, "file")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"recipe": None}, ConfigError, "--recipe or --config"),
        ({"recipe": "oriented-rcnn/legnet-huge"}, ConfigError, "did you mean"),
        ({"data": None}, ConfigError, "--data"),
        ({"batch": 0}, ConfigError, "--batch 0"),
        ({"precision": "int8"}, ConfigError, "--precision int8"),
        ({"precision": "fp16"}, ConfigError, "needs a CUDA GPU"),
        ({"overrides": ("optimizer.weigth_decay",)}, ConfigError, "key=value"),
        ({"overrides": ("optimiser.weight_decay=1",)}, ConfigError, "did you mean optimizer"),
        ({"overrides": ("optimizer.type=Adamm",)}, ConfigError, "unknown to PyTorch"),
        ({"overrides": ("optimizer.momentumm=1",)}, ConfigError, "momentumm"),
        ({"overrides": ("transforms=[{type: Blur}]",)}, ConfigError, "Blur"),
        ({"overrides": ("model.neck.type=FPNN",)}, ConfigError, "mmrotate cannot build .*FPNN"),
        ({"overrides": ("schedule=linear",)}, ConfigError, "step or cosine"),
        ({"classes": ("bright",)}, DataError, "unknown class 'dim'"),
        ({"split": "test"}, DataError, "choose from train, val"),
        ({"weights": "nowhere.pth"}, CheckpointError, "nowhere.pth"),
        ({"config": Path("nowhere.py"), "recipe": None}, ConfigError, "no such config file"),
        ({"device": "cuda:99"}, DependencyError, "cuda"),
        ({"resume": True}, DataError, "no run to resume"),
    ],
)
def test_train__faults_are_named_and_leave_nothing(config, changes, error, message):
    with pytest.raises(error, match=message):
        train(replace(config, **changes))
    assert not config.out.exists()


def test_train__refuses_data_that_cannot_be_trained_on(config, tmp_path):
    empty = write_tiles(tmp_path / "empty", (("train", 2),))
    for file in (empty / "train" / "labelTxt").iterdir():
        file.write_text("")
    with pytest.raises(DataError, match="no object"):
        train(replace(config, data=empty))
    large = write_tiles(tmp_path / "large", (("train", 2),), side=2100)
    with pytest.raises(DataError, match="cut the images first with legnet split"):
        train(replace(config, data=large))


def test_train__existing_run_is_kept(config):
    train(replace(config, epochs=1))
    with pytest.raises(ConfigError, match="--overwrite"):
        train(replace(config, epochs=1))
    with pytest.raises(ConfigError, match=r"--seed 5: the run in .* has 0"):
        train(TrainConfig(out=config.out, resume=True, seed=5))
    (config.out / "last.ckpt").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(CheckpointError, match="is damaged"):
        train(TrainConfig(out=config.out, resume=True))


def test_train__model_that_fails_on_images_is_said_so(config):
    with pytest.raises(ConfigError, match=r"the model fails on its first images .*check its config and overrides"):
        train(replace(config, overrides=("model.neck.in_channels=[1]",)))


def test_train__loss_that_is_not_finite_names_the_images(config):
    with pytest.raises(DataError, match=r"the loss is (nan|inf) at step \d on train\d\.png, train\d\.png"):
        train(replace(config, lr=1e30))


@pytest.mark.parametrize(("images", "batch", "accumulate", "processes"), [(10, 2, 1, 1), (10, 1, 1, 3), (3, 4, 1, 1)])
def test_order__processes_share_each_epoch(images, batch, accumulate, processes):
    parts = []
    for rank in range(processes):
        order = GlobalBatchSampler(images, batch, accumulate, rank, processes, seed=3)
        order.end = 2 * order.steps
        parts.append(list(order))
        assert len(parts[-1]) == len(order)
    for epoch in range(2):
        seen = [index for part in parts for group in part for number, index in group if number == epoch]
        assert len(seen) == max(1, images // (batch * processes)) * batch * processes
        assert len(set(seen)) == min(images, len(seen))
    order.start = order.steps
    assert list(order) == parts[-1][order.steps :]
