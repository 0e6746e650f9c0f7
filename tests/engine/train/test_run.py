"""Training from end to end, on tiles of a few rectangles: what a run leaves, takes and refuses."""

from __future__ import annotations

import json
import os
import socket
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
from forks import Fork
from runs import NANO, QUICK, curve, rows

from legnet_cli.detectors.loader import load_detector
from legnet_cli.detectors.weights.checkpoint import read_checkpoint
from legnet_cli.engine.eval import EvalConfig, evaluate
from legnet_cli.engine.eval.search import SearchPlan
from legnet_cli.engine.eval.truth import Source
from legnet_cli.engine.train import train
from legnet_cli.engine.train.state import load_run
from legnet_cli.engine.train.validation import Score, Validation
from legnet_cli.errors import CheckpointError, ConfigError, DataError, DependencyError


def test_a_run_is_what_the_other_verbs_take(whole, tiles):
    config, result, seen = whole
    assert (result.epochs, result.step, result.stopped, result.rank) == (2, 8, "", 0)
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


def test_workers_do_not_change_the_curve(config, whole):
    train(replace(config, epochs=1, workers=1))
    assert curve(config.out) == curve(whole[0].out)[:4]


def test_the_running_average_is_what_is_kept(config, monkeypatch):
    found = []
    monkeypatch.setattr(
        "legnet_cli.engine.train.validation.Validation.find",
        lambda self, state, *_: found.append({name: tensor.clone() for name, tensor in state.items()}),
    )
    monkeypatch.setattr("legnet_cli.engine.train.validation.Validation.score", lambda *_: Score(0.5, 0.2, {}))
    result = train(replace(config, epochs=1, overrides=(*QUICK, "ema=0.9", "warmup=0")))
    assert result.best == (0.5, 1)
    kept = read_checkpoint(config.out / "best.safetensors").state
    content = load_run(config.out / "last.ckpt")
    name = "backbone.Stem.LoG.conv_init.weight"
    assert not torch.equal(kept[name], content["model"][name])
    for state in (found[0], content["average"]):
        assert torch.equal(kept[name], state[name])


def on_two_processes(config, monkeypatch):
    """Train with two copies of this process; their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    for name, value in {**place, "NODE_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    processes = []
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        processes.append(Fork(train, replace(config, devices=2)))
    return [process.communicate()[0] for process in processes]


@pytest.mark.skipif(os.name == "nt", reason="starts no copies of a process")
def test_two_processes_equal_one_that_accumulates(config, monkeypatch):
    alone = replace(config, epochs=1, batch=1, accumulate=2, data=config.data / "train")
    train(alone)
    two = replace(alone, out=config.out.with_name("two"), data=config.data, accumulate=1)
    assert on_two_processes(two, monkeypatch) == [0, 0]
    losses = [[float(row["loss"]) for row in rows(run.out)] for run in (alone, two)]
    assert len(losses[0]) == 4
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert rows(alone.out)[0]["lr"] == rows(two.out)[0]["lr"]
    weights = two.out / "last.safetensors"
    assert read_checkpoint(weights).card.classes == ("bright", "dim")
    # they evaluated together
    found = evaluate(EvalConfig(data=config.data, out=two.out / "eval", weights=str(weights)))
    assert float(rows(two.out)[-1]["map50"]) == pytest.approx(found.metrics["summary"]["voc07"]["mAP50"])


@pytest.mark.skipif(os.name == "nt", reason="starts no copies of a process")
def test_processes_do_not_wait_for_gradients_that_a_pass_leaves_out(config, monkeypatch):
    """One of the images is empty: there FCOS learns no angles."""
    fcos = replace(
        config, recipe="rotated-fcos/legnet-nano", epochs=1, batch=1, overrides=(), data=config.data / "train"
    )
    assert on_two_processes(fcos, monkeypatch) == [0, 0]
    assert len(rows(config.out)) == 4


@pytest.mark.slow
def test_the_command_starts_its_other_processes(config):
    flags = ["--data", config.data, "--recipe", NANO, "--weights", "none", "--epochs", "1", "--batch", "1", "--json"]
    flags += ["--devices", "2", "--device", "cpu", "--workers", "0", "--out", config.out, "-q"]
    found = subprocess.run(
        [sys.executable, "-m", "legnet_cli", "train", *map(str, flags)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    assert json.loads(found.stdout)["steps"] == 4
    assert len(rows(config.out)) == 4


def test_validation__is_the_same_however_many_processes_share_it(tmp_path, monkeypatch):
    monkeypatch.setattr("legnet_cli.engine.train.validation.build_detector", lambda *_: BlobDetector())
    data = write_tiles(tmp_path / "blobs", (("val", 5),))
    card, plan = BlobDetector().card, SearchPlan(128, 48, None, None, "auto", 2, 1, 0)
    validation = Validation(Source(data, "val"), CLASSES, plan)
    whole = validation.find({}, card, torch.device("cpu"))
    parts = [validation.find({}, card, torch.device("cpu"), rank, 3) for rank in range(3)]
    assert [len(part) for part in parts[1].images] == [0, 2, 0, 0, 0]  # the last image is empty
    assert validation.score(parts) == validation.score([whole])
    assert validation.score(parts).map50 == 1
    assert validation.score([parts[0]] * 3).map50 < 1


def test_validation_counts_ignored_objects(tmp_path, monkeypatch):
    monkeypatch.setattr("legnet_cli.engine.train.validation.build_detector", lambda *_: BlobDetector())
    data = write_tiles(tmp_path / "blobs", (("val", 3),))
    labels = next(path for path in sorted((data / "val").rglob("*.txt")) if " bright 0" in path.read_text())
    labels.write_text(labels.read_text().replace(" bright 0", " bright 1", 1))
    validation = Validation(Source(data, "val"), CLASSES, SearchPlan(128, 48, None, None, "auto", 2, 1, 0))
    score = validation.score([validation.find({}, BlobDetector().card, torch.device("cpu"))])
    assert (score.ignored, score.ignored_in) == (1, {"bright": 1})


def test_patience_stops_early(config):
    result = train(replace(config, epochs=9, patience=1, lr=1e-12))
    assert (result.stopped, result.epochs) == ("patience", 2)
    assert result.best == (0.0, 1)


def test_a_dry_run_checks_and_writes_nothing(config, caplog):
    caplog.set_level("INFO")
    result = train(replace(config, overrides=("warmup=8",), dry_run=True))
    assert result.cost is not None
    assert (result.cost.images, result.cost.steps_per_epoch) == (2, 4)
    assert result.cost.seconds > 0
    check = result.check
    assert (check.images, check.empty, check.validation, check.sizes) == (8, 1, 2, {"96×96": 8})
    assert not config.out.exists()
    assert "learning rate 0.00025 for a global batch of 2 (published: 0.001 for 8)" in caplog.text
    assert "the warm-up of 8 steps is longer than the run (8 steps)" in caplog.text


def test_overrides_reach_the_plan_and_the_weights(config):
    overrides = (
        "model.rpn_head.anchor_generator.scales=[6]",
        "optimizer.weight_decay=0.1",
        "model.backbone.drop_path=0.3",
    )
    result = train(replace(config, data=config.data / "train", epochs=1, overrides=(*QUICK, *overrides)))
    assert result.plan.optimizer["weight_decay"] == 0.1
    checkpoint = read_checkpoint(config.out / "best.safetensors")
    assert checkpoint.card.model["rpn_head"]["anchor_generator"]["scales"] == [6]
    detector = load_detector(config.out / "best.safetensors", device="cpu", score_threshold=0.0)
    assert len(detector.detect(np.zeros((1, 96, 96, 3), np.uint8))) == 1


def test_takes_a_mmrotate_config(config, tmp_path):
    source = tmp_path / "mine.py"
    source.write_text(CONFIG)
    result = train(replace(config, recipe=None, config=source, epochs=1, batch=None, overrides=()))
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


def test_starts_from_weights_with_other_classes(config, whole, tmp_path, caplog):
    other = write_tiles(tmp_path / "one", (("train", 2),), names=("dim",))
    train(
        replace(
            config,
            data=other,
            weights=str(whole[0].out / "best.safetensors"),
            lr=1e-12,
            epochs=1,
            rename=("dim=other",),
        )
    )
    assert "the class count differs (roi_head.bbox_head.fc_cls.weight" in caplog.text
    old, new = (read_checkpoint(run / "best.safetensors").state for run in (whole[0].out, config.out))
    name = "backbone.Stem.LoG.conv_init.weight"
    assert torch.allclose(old[name], new[name], atol=1e-6)
    assert new["roi_head.bbox_head.fc_cls.weight"].shape[0] == 2


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
        ({"classes": ("bight",)}, ConfigError, "--classes: unknown class 'bight': did you mean 'bright'"),
        ({"split": "test"}, DataError, "choose from train, val"),
        ({"weights": "nowhere.pth"}, CheckpointError, "nowhere.pth"),
        ({"config": Path("nowhere.py"), "recipe": None}, ConfigError, "no such config file"),
        ({"device": "cuda:99"}, DependencyError, "cuda"),
        ({"resume": True}, DataError, "no run to resume"),
    ],
)
def test_faults_are_named_and_leave_nothing(config, changes, error, message):
    with pytest.raises(error, match=message):
        train(replace(config, **changes))
    assert not config.out.exists()


@pytest.fixture
def negatives(tmp_path):
    """Tiles without an object."""
    root = write_tiles(tmp_path / "negatives", (("train", 3), ("val", 2)))
    for file in root.rglob("labelTxt/*.txt"):
        file.write_text("")
    return root


@pytest.mark.parametrize("changes", [{"also": True}, {"weights": True}, {"also": True, "weights": True}])
def test_tiles_without_objects_are_background_for_other_data_or_weights(config, whole, negatives, changes, caplog):
    sources = {"also": whole[0].data, "weights": str(whole[0].out / "last.safetensors")}
    asked = {key: sources[key] for key in changes}
    result = train(replace(config, data=negatives, dry_run=True, **asked))
    assert result.plan.classes == ("bright", "dim")
    assert (result.check.images, result.check.empty, result.check.validation) == (3, 3, 0)
    assert result.cost is not None
    assert f"{negatives}: all of its 3 images are background" in caplog.text
    assert ("may forget what it knows: mix some in with --also" in caplog.text) == ("also" not in changes)


def test_refuses_data_that_cannot_be_trained_on(config, negatives, tmp_path):
    for also in (None, negatives):
        with pytest.raises(DataError, match=r"negatives: no object in its 3 training images: .* with --also"):
            train(replace(config, data=negatives, also=also))
    large = write_tiles(tmp_path / "large", (("train", 2),), side=2100)
    with pytest.raises(DataError, match="cut the images first with legnet split"):
        train(replace(config, data=large))


def test_a_model_that_fails_on_images_is_said_so(config):
    with pytest.raises(ConfigError, match=r"the model fails on its first images .*check its config and overrides"):
        train(replace(config, overrides=("model.neck.in_channels=[1]",)))


def test_a_loss_that_is_not_finite_names_the_images(config):
    with pytest.raises(DataError, match=r"the loss is (nan|inf) at step \d on train\d\.png, train\d\.png"):
        train(replace(config, lr=1e30))
