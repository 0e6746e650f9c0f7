"""Other runtimes find PyTorch's boxes, on a file that is exported once."""

from __future__ import annotations

import os
import re

import pytest
import torch

from legnet_cli.detectors import engines, runtimes
from legnet_cli.detectors.engines import check_engine
from legnet_cli.detectors.export.file import export_file
from legnet_cli.detectors.loader import load_checkpoint, load_detector
from legnet_cli.detectors.measured import measured_path, network_key, note_measured
from legnet_cli.detectors.metadata import ExportOptions
from legnet_cli.detectors.weights.fetch import EMBEDDED
from legnet_cli.engine.export.parity import STRICT, measure_parity
from legnet_cli.engine.sample_tiles import synthetic_tile
from legnet_cli.errors import ConfigError, DependencyError
from legnet_cli.installation import install_line

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("LEGNET_CACHE", str(folder))
        yield folder / "engines"


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_boxes_are_those_of_pytorch(cache, engine):
    reference = load_detector(EMBEDDED, device="cpu")
    other = load_detector(EMBEDDED, device="cpu", engine=engine)
    assert (reference.engine, other.engine, other.network) == ("torch", engine, None)
    assert other.card == reference.card
    parity = measure_parity(reference, other, [synthetic_tile(192, 256, 0)], STRICT)
    assert parity.strict == parity.boxes != (0, 0)


def test_the_fastest_engine_that_was_measured_is_taken(cache, monkeypatch):
    checkpoint = load_checkpoint(EMBEDDED)
    place = network_key(checkpoint.state), checkpoint.card.tile, torch.get_num_threads()
    assert load_detector(EMBEDDED, device="cpu").engine == "torch"
    for known, taken in (("onnxruntime", "onnxruntime"), ("torch", "torch"), ("rm -rf", "torch"), (3, "torch")):
        note_measured(*place, {"engine": known})
        assert load_detector(EMBEDDED, device="cpu").engine == taken
    note_measured(*place, {"engine": "onnxruntime"})
    for other in ({"engine": "torch"}, {"kernels": "direct"}, {"tile": checkpoint.card.tile // 2}):
        assert load_detector(EMBEDDED, device="cpu", **other).engine == "torch"
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else name)
        assert load_detector(EMBEDDED, device="cpu").engine == "torch"
    measured_path(*place).unlink()


def test_lower_threshold_of_the_file_is_not_seen(cache):
    tile = synthetic_tile(192, 256, 2)[None]
    both = [
        load_detector(EMBEDDED, device="cpu", engine=name, score_threshold=0.4) for name in ("torch", "onnxruntime")
    ]
    reference, other = (detector.detect(tile)[0] for detector in both)
    assert len(reference) == len(other) > 0
    assert other.scores.min() > 0.4


def test_a_device_that_the_runtime_lacks_is_refused_before_the_export(monkeypatch, tmp_path):
    monkeypatch.setenv("LEGNET_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DependencyError, match="--device cuda: this ONNX Runtime has no provider for it"):
        load_detector(EMBEDDED, device="cuda", engine="onnxruntime")
    assert not list(tmp_path.iterdir())


def test_an_onnx_file_runs_on_openvino(tmp_path):
    checkpoint = load_checkpoint(EMBEDDED)
    export_file(checkpoint, tmp_path / "a.onnx", ExportOptions(), "0" * 64)
    detectors = [load_detector(tmp_path / "a.onnx", device="cpu", engine=name) for name in ("auto", "openvino")]
    assert [detector.engine for detector in detectors] == ["onnxruntime", "openvino"]
    assert detectors[0].card == detectors[1].card
    parity = measure_parity(*detectors, [synthetic_tile(128, 160, 1)], STRICT)
    assert parity.strict == parity.boxes != (0, 0)


@pytest.mark.parametrize(
    ("engine", "changes", "message"),
    [
        ("tensorrt", {}, "--engine tensorrt: choose auto, torch, onnxruntime, openvino"),
        ("torch", {"weights": "a.onnx"}, "a.onnx is run by onnxruntime or openvino: leave the flag out"),
        ("onnxruntime", {"weights": "a.xml"}, "a.xml is run by openvino"),
        ("openvino", {"weights": "a.pt2"}, "a.pt2 is run by torch"),
        ("openvino", {"precision": "bf16"}, "leave out --precision bf16"),
        ("onnxruntime", {"compile": True}, "leave out --compile"),
        ("openvino", {"device": torch.device("cuda", 1)}, "not on cuda:1: add --device cpu"),
    ],
)
def test_what_does_not_go_together(engine, changes, message):
    settings = {"weights": "a.pth", "precision": "auto", "compile": False, "device": CPU} | changes
    with pytest.raises(ConfigError, match=message):
        check_engine(engine, settings.pop("weights"), **settings)


def test_missing_package_is_named(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(runtimes.importlib, "import_module", absent)
    with pytest.raises(
        DependencyError, match=re.escape(f"the package onnx is missing: run `{install_line('export')}`")
    ):
        check_engine("openvino", "a.pth", precision="auto", compile=False, device=CPU)


def test_compiling_needs_a_compiler_and_keeps_its_work(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LEGNET_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "my-c++")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with pytest.raises(DependencyError, match=r"no C\+\+ compiler my-c\+\+"):
        load_detector(EMBEDDED, compile=True)
    (tmp_path / "my-c++").touch(mode=0o755)
    engines.prepare_compiling()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "compiled")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
