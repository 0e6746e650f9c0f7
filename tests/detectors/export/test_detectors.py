"""Detectors that run through mmrotate leave it as files that find the same boxes."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from legnet_cli.detectors.export.file import EXPORTABLE, PROGRAMS, check_network, export_file, operators
from legnet_cli.detectors.loader import build_detector, load_detector
from legnet_cli.detectors.metadata import OUTPUTS, ExportOptions
from legnet_cli.detectors.mmrotate.build import build_mmrotate
from legnet_cli.detectors.runtimes import filled
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import Checkpoint
from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.engine.export.parity import STRICT, measure_parity
from legnet_cli.engine.sample_tiles import synthetic_tile
from legnet_cli.errors import ConfigError

CPU = torch.device("cpu")
CLASSES = ("ship", "lorry", "plane")
THRESHOLD = 0.02


def random_checkpoint(detector):
    """Random weights whose boxes are turned and of all sizes."""
    name = f"{detector}/legnet-nano"
    torch.manual_seed(0)
    state = build_mmrotate(model_config(get_recipe(name), len(CLASSES))).state_dict()
    for key, tensor in state.items():
        if tensor.ndim > 1 and tensor.is_floating_point():
            gain = 0.3 if "reg" in key or "angle" in key else 1.0
            tensor.normal_(std=gain * tensor[0].numel() ** -0.5)
        elif "norm" in key and key.endswith("weight"):
            tensor.fill_(0.6)
        elif key == "bbox_head.conv_reg.bias":
            tensor.fill_(2.0)  # distances of FCOS, in strides: the others scale anchors
    return Checkpoint(state, ModelCard("random", name, CLASSES, 256, 64, 0.5))


pytestmark = pytest.mark.usefixtures("mmrotate")


@pytest.fixture(scope="module", params=[name for name in EXPORTABLE if name != "oriented-rcnn"])
def checkpoint(request, mmrotate):
    return random_checkpoint(request.param)


@pytest.fixture(scope="module")
def reference(checkpoint):
    return build_detector(checkpoint, CPU, score_threshold=THRESHOLD)


@pytest.fixture(scope="module")
def path(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "a.onnx"
    export_file(checkpoint, path, ExportOptions(score_threshold=THRESHOLD), "0" * 64)
    return path


def agree(reference, other, tiles):
    """Nearly all: of the boxes of random weights some have all but equal scores."""
    parity = measure_parity(reference, other, tiles, STRICT)
    assert min(parity.boxes) > 40
    assert parity.passed, parity
    return parity


def test_graph_is_standard_and_tells_what_it_is(path, checkpoint):
    model = onnx.load(path)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 18)]
    assert not [name for name in operators(path) if "." in name]
    assert {"TopK", "GatherND", "NonZero", "Loop", "Conv"} <= set(operators(path))
    assert [value.name for value in model.graph.output] == list(OUTPUTS)
    found = {item.key: json.loads(item.value) for item in model.metadata_props}
    assert (found["recipe"], found["classes"]) == (checkpoint.card.recipe, list(CLASSES))
    assert (found["score_threshold"], found["nms_threshold"], found["max_detections"]) == (THRESHOLD, 0.1, 2000)
    assert load_detector(path, device="cpu").card == checkpoint.card


@pytest.mark.parametrize(("height", "width"), [(131, 163), (64, 300)])
def test_boxes_are_those_of_mmrotate(path, reference, height, width):
    detector = load_detector(path, device="cpu", score_threshold=THRESHOLD)
    tiles = [synthetic_tile(height, width, seed) for seed in range(2)]
    parity = agree(reference, detector, tiles)
    assert parity.score < 1e-3
    for tile in tiles:
        found, want = detector.detect(tile[None])[0], reference.detect(tile[None])[0]
        assert abs(len(found) - len(want)) <= 0.01 * len(want)
        assert (found.boxes[:, 2] >= found.boxes[:, 3]).all()


def test_batch_is_sorted_by_image_and_score(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = np.stack([synthetic_tile(96, 128, 0), np.zeros((96, 128, 3), np.uint8), synthetic_tile(96, 128, 1)])
    whole = session.run(None, {"images": images})
    assert (np.diff(whole[3]) >= 0).all()
    for number, image in enumerate(images):
        alone = session.run(None, {"images": image[None]})
        mine = whole[3] == number
        assert (np.diff(whole[1][mine]) <= 0).all()
        assert np.array_equal(whole[2][mine], alone[2])
        assert np.allclose(whole[0][mine], alone[0], atol=1e-2)


@pytest.mark.parametrize("detector", ["rotated-fcos", "roi-transformer"])
def test_no_box_at_all(detector, tmp_path):
    options = ExportOptions(size=(64, 64), score_threshold=0.9999)
    export_file(random_checkpoint(detector), tmp_path / "a.onnx", options, "")
    found = load_detector(tmp_path / "a.onnx", device="cpu").detect(np.zeros((1, 64, 64, 3), np.uint8))[0]
    assert found.boxes.shape == (0, 5)


def test_openvino_and_fixed_size(checkpoint, reference, tmp_path):
    size = (128, 192)
    export_file(checkpoint, tmp_path / "a.xml", ExportOptions(size=size, score_threshold=THRESHOLD), "")
    detector = load_detector(tmp_path / "a.xml", device="cpu", score_threshold=THRESHOLD)
    assert detector.card == checkpoint.card
    agree(reference, detector, [synthetic_tile(*size)])
    small = synthetic_tile(100, 150)
    whole = detector.detect(filled(small[None], size))[0]
    inside = (whole.boxes[:, 0] < 150) & (whole.boxes[:, 1] < 100)
    assert len(detector.detect(small[None])[0]) == inside.sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_numbers_give_nearly_the_same(checkpoint, reference, path, tmp_path, precision):
    tile = synthetic_tile(128, 128)
    options = ExportOptions(precision=precision, score_threshold=THRESHOLD)
    export_file(checkpoint, tmp_path / "a.onnx", options, "", [tile])
    assert (tmp_path / "a.onnx").stat().st_size < 0.9 * path.stat().st_size
    assert not [name for name in operators(tmp_path / "a.onnx") if "." in name]
    found = load_detector(tmp_path / "a.onnx", device="cpu").detect(tile[None])[0]
    want = reference.detect(tile[None])[0]
    assert abs(found.scores[0] - want.scores[0]) < 0.2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("detector", [name for name in PROGRAMS if name != "oriented-rcnn"])
def test_programs_need_pytorch_alone(detector, tmp_path):
    checkpoint = random_checkpoint(detector)
    reference = build_detector(checkpoint, CPU, score_threshold=THRESHOLD)
    export_file(checkpoint, tmp_path / "a.pt2", ExportOptions(score_threshold=THRESHOLD), "")
    program = load_detector(tmp_path / "a.pt2", device="cpu", score_threshold=THRESHOLD)
    assert program.card == checkpoint.card
    agree(reference, program, [synthetic_tile(192, 256), synthetic_tile(131, 163)])
    assert len(program.detect(np.zeros((1, 40, 40, 3), np.uint8))) == 1


@pytest.mark.parametrize("detector", sorted(set(EXPORTABLE) - set(PROGRAMS)))
def test_what_cannot_be_exported_is_named(detector):
    card = ModelCard("random", f"{detector}/legnet-nano", CLASSES)
    with pytest.raises(ConfigError, match=r"is not exported to \.pt2: give --out with \.onnx or \.xml"):
        check_network(Checkpoint({}, card), "w.pth", Path("a.pt2"))
