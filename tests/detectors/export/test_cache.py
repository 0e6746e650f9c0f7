"""Weights are exported once for each setting, and kept."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from legnet_cli.detectors.export.cache import kept_export
from legnet_cli.detectors.loader import load_checkpoint, load_detector
from legnet_cli.detectors.weights.fetch import EMBEDDED
from legnet_cli.errors import ConfigError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEGNET_CACHE", str(tmp_path))
    return tmp_path / "engines"


def test_is_exported_once_for_each_setting(cache, caplog):
    caplog.set_level(logging.INFO)

    def load(engine, score):
        return load_detector(EMBEDDED, engine=engine, score_threshold=score, max_detections=7)

    with ThreadPoolExecutor(2) as pool:  # both at once
        list(pool.map(lambda _: load("onnxruntime", 0.3), range(2)))
    (kept,) = [record.args[1] for record in caplog.records if "once, to" in record.message]
    assert kept.parent == cache
    caplog.clear()
    before = kept.stat().st_mtime_ns
    load("openvino", 0.3)
    assert (caplog.text, kept.stat().st_mtime_ns) == ("", before)
    load("onnxruntime", 0.4)  # the same file serves
    assert caplog.text == ""
    load("onnxruntime", 0.1)
    assert len([record for record in caplog.records if record.args[1] != kept]) == 1
    assert not list(cache.glob(".legnet-*"))


def test_weights_of_other_networks_are_refused(cache, monkeypatch):
    checkpoint = load_checkpoint(EMBEDDED)
    checkpoint.card.__dict__["model"] = {"type": "CascadeRCNN", "backbone": {"type": "ResNet"}}
    with pytest.raises(ConfigError, match=r"a.pth: CascadeRCNN cannot be exported"):
        kept_export(checkpoint, "1", "a.pth", 0.05, 10)
