"""Exported files find PyTorch's boxes, of any size and number of images, with standard operators alone."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from legnet_cli.detectors.export import box_operators
from legnet_cli.detectors.export.dense import OrientedDense, export_dense
from legnet_cli.detectors.export.file import check_export, check_network, export_file, operators
from legnet_cli.detectors.export.onnx_builder import Graph
from legnet_cli.detectors.fast.oriented_rcnn import OrientedLayers, OrientedRCNN
from legnet_cli.detectors.loader import build_detector, load_checkpoint, load_detector
from legnet_cli.detectors.metadata import OUTPUTS, ExportOptions
from legnet_cli.detectors.networks import random_checkpoint
from legnet_cli.detectors.runtimes import filled, open_exported, require
from legnet_cli.detectors.weights.fetch import EMBEDDED
from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.engine.export.parity import STRICT, measure_parity
from legnet_cli.engine.sample_tiles import synthetic_tile
from legnet_cli.errors import CheckpointError, ConfigError, DataError, DependencyError
from legnet_cli.installation import install_line
from legnet_cli.ops.iou import rotated_iou
from legnet_cli.ops.nms import nms_rotated

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(EMBEDDED)


@pytest.fixture(scope="module")
def reference(checkpoint):
    return build_detector(checkpoint, CPU)


@pytest.fixture(scope="module")
def path(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "nano.onnx"
    export_file(checkpoint, path, ExportOptions(), "0" * 64)
    return path


@pytest.fixture(scope="module")
def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def tile(height, width, seed=0):
    return synthetic_tile(height, width, seed)


def agree(reference, other, tiles):
    parity = measure_parity(reference, other, tiles, STRICT)
    assert min(parity.boxes) > 0
    assert parity.strict == parity.boxes
    return parity


def evaluate(graph, *values):
    """Run a small graph; its inputs are called a, b, …"""
    model = graph.model("test", {})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip("abcdef", values, strict=False)))


def test_graph_is_standard_and_tells_what_it_is(path, checkpoint):
    model = onnx.load(path)
    assert [(item.domain, item.version >= 17) for item in model.opset_import] == [("", True)]
    assert not [name for name in operators(path) if "." in name]
    assert {"NonMaxSuppression", "Loop", "TopK", "Conv"} <= set(operators(path))
    assert [value.name for value in model.graph.input] == ["images"]
    assert [value.name for value in model.graph.output] == list(OUTPUTS)
    card = checkpoint.card
    found = {item.key: json.loads(item.value) for item in model.metadata_props}
    assert (found["recipe"], found["classes"], found["tile"]) == (card.recipe, list(card.classes), card.tile)
    assert found["class_names"] == {str(i): name for i, name in enumerate(card.classes)}
    assert (found["model_type"], found["source_sha256"]) == ("Detector", "0" * 64)
    assert ("resolution" in found) == (card.gsd is not None)
    assert (found["score_threshold"], found["nms_threshold"], found["max_detections"]) == (0.05, 0.1, 2000)
    detector = load_detector(path, device="cpu")
    assert detector.card == card
    assert detector.precision == "fp32"


@pytest.mark.parametrize(("height", "width"), [(192, 256), (201, 163), (64, 300)])
def test_boxes_are_those_of_pytorch(path, reference, height, width):
    parity = agree(reference, load_detector(path, device="cpu"), [tile(height, width, seed) for seed in range(2)])
    assert parity.score < 1e-3
    assert parity.corner < 0.1


def test_batch_is_sorted_by_image_and_score(session, reference):
    images = np.stack([tile(192, 160, 0), np.zeros((192, 160, 3), np.uint8), tile(192, 160, 1)])
    boxes, scores, labels, batch = session.run(None, {"images": images})
    assert (boxes.dtype, scores.dtype, labels.dtype, batch.dtype) == (np.float32, np.float32, np.int64, np.int64)
    assert (np.diff(batch) >= 0).all()
    for number, want in enumerate(reference.detect(images)):
        mine = batch == number
        assert (np.diff(scores[mine]) <= 0).all()
        assert np.allclose(scores[mine], want.scores, atol=1e-3)
        assert np.array_equal(labels[mine], want.labels)
    assert (np.abs(boxes[:, 4]) <= np.pi / 2 + 1e-6).all()
    assert (boxes[:, 2] >= boxes[:, 3]).all()


def test_thresholds_and_limits(checkpoint, tmp_path, caplog):
    options = ExportOptions(score_threshold=0.3, max_detections=2)
    export_file(checkpoint, tmp_path / "few.onnx", options, "")
    every = build_detector(checkpoint, CPU, score_threshold=0.3).detect(tile(256, 256)[None])[0]
    assert len(every) > 2
    few = load_detector(tmp_path / "few.onnx", device="cpu").detect(tile(256, 256)[None])[0]
    assert np.allclose(few.scores, every.scores[:2], atol=1e-3)
    assert "0.3" in caplog.text
    none = load_detector(tmp_path / "few.onnx", device="cpu", score_threshold=1.0).detect(tile(256, 256)[None])[0]
    assert none.boxes.shape == (0, 5)


def test_no_box_at_all(checkpoint, tmp_path):
    export_file(checkpoint, tmp_path / "none.onnx", ExportOptions(score_threshold=0.9999), "")
    session = onnxruntime.InferenceSession(str(tmp_path / "none.onnx"), providers=["CPUExecutionProvider"])
    boxes, scores, labels, batch = session.run(None, {"images": np.zeros((1, 64, 64, 3), np.uint8)})
    assert boxes.shape == (0, 5)
    assert scores.shape == labels.shape == batch.shape == (0,)


def test_fixed_size_fills_up_and_refuses(checkpoint, reference, tmp_path):
    size = (128, 192)
    export_file(checkpoint, tmp_path / "fixed.onnx", ExportOptions(size=size), "")
    detector = load_detector(tmp_path / "fixed.onnx", device="cpu")
    whole, small = tile(*size), tile(100, 150)
    agree(reference, detector, [whole])
    want, got = reference.detect(filled(small[None], size))[0], detector.detect(np.stack([small, small]))
    inside = (want.boxes[:, 0] < 150) & (want.boxes[:, 1] < 100)
    assert [len(found) for found in got] == [inside.sum()] * 2
    with pytest.raises(DataError, match=r"192 × 128 pixels, not 193 × 128.*--tile 128"):
        detector.detect(np.zeros((1, 128, 193, 3), np.uint8))


def test_half_precision_and_simplified_files(checkpoint, reference, tmp_path):
    plain, half = tmp_path / "plain.onnx", tmp_path / "half.onnx"
    export_file(checkpoint, plain, ExportOptions(simplify=True), "")
    export_file(checkpoint, half, ExportOptions(precision="fp16"), "")
    agree(reference, load_detector(plain, device="cpu"), [tile(192, 256)])
    assert not [name for name in operators(plain) if "." in name]
    assert half.stat().st_size < 0.6 * plain.stat().st_size
    detector = load_detector(half, device="cpu")
    assert detector.precision == "fp16"
    found, want = detector.detect(tile(192, 256)[None])[0], reference.detect(tile(192, 256)[None])[0]
    assert abs(found.scores[0] - want.scores[0]) < 0.05


def test_int8_weights_are_int8(checkpoint, tmp_path):
    tiles = [tile(128, 128, seed) for seed in range(2)]
    export_file(checkpoint, tmp_path / "int8.onnx", ExportOptions(precision="int8"), "", tiles)
    model = onnx.load(tmp_path / "int8.onnx")
    kinds = {rank: [t.data_type for t in model.graph.initializer if len(t.dims) == rank] for rank in (2, 4)}
    assert kinds[4].count(onnx.TensorProto.INT8) > 5  # convolutions
    assert kinds[2].count(onnx.TensorProto.INT8) == 2  # the box head's hidden layers
    assert not [name for name in operators(tmp_path / "int8.onnx") if "." in name]
    assert len(load_detector(tmp_path / "int8.onnx", device="cpu").detect(tiles[0][None])[0]) > 0


def test_openvino_runs_the_same_graph(checkpoint, reference, tmp_path):
    export_file(checkpoint, tmp_path / "nano.xml", ExportOptions(), "")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["nano.bin", "nano.xml"]
    detector = load_detector(tmp_path / "nano.xml", device="cpu")
    assert detector.card == checkpoint.card
    agree(reference, detector, [tile(160, 192)])
    with pytest.raises(ConfigError, match="OpenVINO"):
        open_exported(tmp_path / "nano.xml", torch.device("cuda"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [EMBEDDED, "oriented-rcnn/legnet-tiny", "oriented-rcnn/unravelnet-tiny"])
def test_program_needs_pytorch_alone(name, tmp_path):
    checkpoint = load_checkpoint(name) if name == EMBEDDED else random_checkpoint(get_recipe(name))
    export_file(checkpoint, tmp_path / "a.pt2", ExportOptions(), "")
    detector = load_detector(tmp_path / "a.pt2", device="cpu")
    assert detector.card == checkpoint.card
    parity = measure_parity(build_detector(checkpoint, CPU), detector, [tile(192, 256), tile(201, 163)], STRICT)
    assert min(parity.boxes) > 0
    assert parity.passed, parity
    assert len(detector.detect(np.zeros((1, 40, 40, 3), np.uint8))) == 1


@pytest.mark.parametrize("kind", ["LEGNet", "UnravelNet"])
def test_convolutions_of_both_backbones(kind):
    config = model_config(get_recipe("oriented-rcnn/legnet-nano"), 2)
    config["backbone"] = {"type": kind, "stem_dim": 16, "depths": (1, 1, 1, 1)}
    names = OrientedLayers(config).state_dict()
    shapes = {k: v.shape for k, v in names.items() if not k.endswith("num_batches_tracked")}
    torch.manual_seed(0)
    state = {k: 0.1 * torch.randn(s) if len(s) != 1 else 0.5 + torch.rand(s) for k, s in shapes.items()}
    dense = export_dense(OrientedDense(OrientedRCNN(config, state, device="cpu")), None)
    network = OrientedRCNN(config, state, device="cpu")
    session = onnxruntime.InferenceSession(dense.SerializeToString(), providers=["CPUExecutionProvider"])
    for height, width in ((96, 160), (32, 64))[: 1 if kind == "UnravelNet" else 2]:
        x = torch.randn(2, 3, height, width)
        with torch.inference_mode():
            levels, outputs = network.dense(x)
        want = [*levels, *(logits for logits, _ in outputs), *(offsets for _, offsets in outputs)]
        for got, expected in zip(session.run(None, {"x": x.numpy()}), want, strict=True):
            assert got.shape == expected.shape
            assert np.abs(got - expected.numpy()).max() <= 1e-4 * expected.abs().max()


def random_boxes(count, spread, seed=0):
    rng = np.random.default_rng(seed)
    boxes = np.stack(
        [*rng.uniform(0, spread, (2, count)), *rng.uniform(3, 40, (2, count)), rng.uniform(-1.57, 1.57, count)], 1
    )
    return boxes.astype(np.float32)


def test_overlap_is_exact():
    one = np.concatenate([random_boxes(500, 50), [[10, 10, 8, 4, 0.3], [10, 10, 8, 4, 0], [0, 0, 4, 4, 0]]])
    two = np.concatenate([random_boxes(500, 50, 1), [[10, 10, 8, 4, 0.3], [10, 10, 2, 1, 0.5], [4, 0, 4, 4, 0]]])
    graph = Graph()
    sides = [graph.input(name, "f", ["n", 5]).columns(1, 5) for name in "ab"]
    columns = [[*box[:4], box[4].op("Cos"), box[4].op("Sin")] for box in sides]
    graph.output("y", box_operators.paired_iou(*columns), ["n"])
    got = evaluate(graph, one.astype(np.float32), two.astype(np.float32))[0]
    want = rotated_iou(torch.from_numpy(one), torch.from_numpy(two), aligned=True).numpy()
    assert np.abs(got - want).max() < 1e-4


@pytest.mark.parametrize(("count", "spread", "block"), [(0, 10, 8), (1, 10, 8), (300, 400, 512), (300, 60, 16)])
def test_suppression_is_greedy(count, spread, block):
    boxes, group = random_boxes(count, spread), np.random.default_rng(2).integers(0, 3, count)
    graph = Graph()
    columns, groups = graph.input("a", "f", ["n", 5]).columns(1, 5), graph.input("b", "i", ["n"])
    graph.output("y", box_operators.RotatedNms(columns, groups, 0.1, block).keep(), ["k"])
    got = evaluate(graph, boxes, group)[0]
    scores = torch.linspace(1, 0, count)
    want = nms_rotated(torch.from_numpy(boxes), scores, 0.1, torch.from_numpy(group)).numpy()
    assert got.tolist() == want.tolist()


@pytest.mark.parametrize(
    ("suffix", "options", "error", "message"),
    [
        (".onnx", {"precision": "int4"}, ConfigError, "choose fp32, fp16, int8"),
        (".pt2", {"precision": "int8"}, ConfigError, "fp32"),
        (".pt2", {"simplify": True}, ConfigError, "--simplify"),
    ],
)
def test_wrong_options(tmp_path, suffix, options, error, message):
    with pytest.raises(error, match=message):
        check_export(tmp_path / f"a{suffix}", ExportOptions(**options))


def test_other_detectors_are_refused(checkpoint):
    model = {"type": "RotatedRetinaNet", "backbone": {"type": "LEGNet", "stem_dim": 16}}
    other = replace(checkpoint, card=replace(checkpoint.card, model=model))
    with pytest.raises(ConfigError, match=r"w\.pth: RotatedRetinaNet cannot be exported: only Oriented R-CNN, .* can"):
        check_network(other, "w.pth", Path("a.onnx"))


def test_missing_extra_says_what_mends_it(monkeypatch, path):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(DependencyError, match=re.escape(f"onnxruntime is missing: run `{install_line('export')}`")):
        require("onnxruntime")
    with pytest.raises(DependencyError, match="onnxruntime"):
        load_detector(path)


def test_files_of_others_and_flags_that_do_not_apply(path, tmp_path, checkpoint):
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"bad\.onnx: is damaged"):
        load_detector(tmp_path / "bad.onnx")
    graph = Graph()
    graph.output("y", graph.input("a", "f", ["n"]) * 2, ["n"])
    onnx.save(graph.model("foreign", {}), tmp_path / "foreign.onnx")
    with pytest.raises(CheckpointError, match="not written by legnet export"):
        load_detector(tmp_path / "foreign.onnx")
    with pytest.raises(CheckpointError, match="no such file"):
        load_detector(tmp_path / "absent.onnx")
    with pytest.raises(ConfigError, match="--precision bf16"):
        load_detector(path, precision="bf16", device="cpu")
    with pytest.raises(CheckpointError, match="not of oriented-rcnn/legnet-small"):
        load_detector(path, recipe="oriented-rcnn/legnet-small", device="cpu")
    with pytest.raises(CheckpointError, match="has 8 classes, but 9 names"):
        load_detector(path, classes=["a"] * (len(checkpoint.card.classes) + 1), device="cpu")
