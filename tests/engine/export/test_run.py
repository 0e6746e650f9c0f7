"""An exported file is verified before it appears, and serves where weights do."""

import json
from dataclasses import replace

import numpy as np
import pytest

from legnet_cli.detectors.weights.fetch import EMBEDDED
from legnet_cli.engine.export import ExportConfig, export
from legnet_cli.engine.export import run as engine
from legnet_cli.engine.export.parity import STRICT, Parity
from legnet_cli.engine.export.stac import stac_path
from legnet_cli.engine.predict import PredictConfig, predict
from legnet_cli.engine.sample_tiles import synthetic_tile
from legnet_cli.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    import cv2

    path = tmp_path_factory.mktemp("scene") / "scene.png"
    cv2.imwrite(str(path), synthetic_tile(300, 300))
    return str(path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, scene):
    out = tmp_path_factory.mktemp("export") / "nano.onnx"
    steps = []
    result = export(ExportConfig(EMBEDDED, out=out, images=(scene,), stac=True), steps.append)
    assert len(steps) == 2
    return result


def test_result_tells_what_was_written(exported):
    assert exported.parity.passed
    assert min(exported.parity.boxes) > 0
    assert exported.parity.strict == exported.parity.boxes
    assert exported.operators["Conv"] > 50
    assert sorted(path.name for path in exported.files) == ["nano.onnx", "nano.stac.json"]
    assert {path.name: path.stat().st_size for path in exported.out.parent.iterdir()} == {
        path.name: size for path, size in exported.files.items()
    }


def test_predict_takes_it_as_weights(exported, scene, tmp_path):
    rows = []
    for name, weights in (("torch", EMBEDDED), ("onnx", str(exported.out))):
        config = PredictConfig((scene,), tmp_path / f"{name}.csv", weights=weights, score=0.1, device="cpu")
        result = predict(config)
        rows.append(result.scenes[0].detections)
        assert result.classes == exported.card.classes
    assert len(rows[0]) == len(rows[1]) > 0
    assert np.allclose(rows[0].scores, rows[1].scores, atol=1e-3)
    assert np.allclose(rows[0].boxes, rows[1].boxes, atol=0.05)


def test_stac_item_has_what_the_extension_requires(exported):
    item = json.loads(stac_path(exported.out).read_text())
    assert (item["type"], item["stac_version"], item["id"]) == ("Feature", "1.1.0", "nano")
    assert item["stac_extensions"] == ["https://stac-extensions.github.io/mlm/v1.4.0/schema.json"]
    properties = item["properties"]
    required = {"datetime", "mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output", "mlm:framework"}
    assert required <= set(properties)
    assert properties["mlm:architecture"] == "Oriented R-CNN, legnet-nano"
    (source,) = properties["mlm:input"]
    assert {"name", "bands", "input"} <= set(source)
    assert source["input"]["shape"] == [-1, -1, -1, 3]
    outputs = {output["name"]: output for output in properties["mlm:output"]}
    assert list(outputs) == ["boxes", "scores", "labels", "batch"]
    assert all({"tasks", "result"} <= set(output) for output in outputs.values())
    classes = outputs["labels"]["classification:classes"]
    assert [row["description"] for row in classes] == list(exported.card.classes)
    asset = item["assets"]["model"]
    assert asset["href"] == "./nano.onnx"
    assert "mlm:model" in asset["roles"]
    assert asset["mlm:artifact_type"] == "onnx"


def test_failed_parity_leaves_no_file(tmp_path, scene, monkeypatch):
    monkeypatch.setattr(engine, "measure_parity", lambda *_: Parity(1, STRICT, (10, 9), (10, 8), (10, 8), 0.2, 3.0))
    config = ExportConfig(EMBEDDED, out=tmp_path / "a.onnx", images=(scene,), stac=True)
    with pytest.raises(DataError, match=r"a.onnx: not written: 8 of 9 boxes agree .* 99% are needed"):
        export(config)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(engine, "measure_parity", None)
    assert export(replace(config, verify=False)).parity is None


def test_near_ties_are_told_and_odd_sizes_are_tried(tmp_path, scene, monkeypatch, caplog):
    shapes = []

    def compare(reference, other, tiles, tolerance):
        shapes.extend(tile.shape[:2] for tile in tiles)
        return Parity(len(tiles), tolerance, (100, 100), (100, 99), (100, 99), 0.0, 0.0)

    monkeypatch.setattr(engine, "export_file", lambda checkpoint, path, *_: path.write_bytes(b"model"))
    monkeypatch.setattr(engine, "operators", lambda path: {})
    monkeypatch.setattr(engine, "load_detector", lambda *_, **__: None)
    monkeypatch.setattr(engine, "measure_parity", compare)
    assert export(ExportConfig(EMBEDDED, out=tmp_path / "a.onnx", images=(scene,))).parity.passed
    assert "1 of 100 boxes unmatched: near-ties, decided by rounding" in caplog.text
    assert shapes == [(300, 300), (201, 151)]  # as it is, and of sides that are no multiples of 32


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"out": "a.engine"}, ConfigError, "choose from .onnx, .xml, .pt2"),
        ({"tile": (16, 64)}, ConfigError, "--tile 16"),
        ({"score": 1.0}, ConfigError, "--score 1.0"),
        ({"data": "d", "verify": False}, ConfigError, "--data"),
        ({"weights": "model.onnx"}, ConfigError, "is exported already"),
        ({"images": ("nowhere.tif",)}, DataError, "nowhere.tif"),
        ({"max_tiles": 0}, ConfigError, "--max-tiles"),
    ],
)
def test_faults_are_named(tmp_path, changes, error, message):
    values = {"out": tmp_path / changes.get("out", "a.onnx"), **{k: v for k, v in changes.items() if k != "out"}}
    with pytest.raises(error, match=message):
        export(ExportConfig(**{"weights": EMBEDDED} | values))
    assert list(tmp_path.iterdir()) == []
