"""Reports of two benchmarks: what makes them comparable, and what is slower."""

import copy
import json
from pathlib import Path

import pytest

from legnet_cli.engine.benchmark.compare import Change, Comparison, check_comparable, compare_reports, read_report
from legnet_cli.errors import ConfigError, DataError

OLD = Path("old.json")
REPORT = {
    "machine": {"cpu": "a", "gpu": None, "threads": 2},
    "settings": {"device": "cpu", "engine": "torch", "size": 64, "tiles": "synthetic", "model": "m", "recipe": "r"},
    "runs": [
        {"precision": "fp32", "batch": 1, "latency_ms": {"p50": 100.0}},
        {"precision": "bf16", "batch": 4, "latency_ms": {"p50": 50.0}},
    ],
}
RUNS = {("fp32", 1), ("bf16", 4)}


def changed(**values):
    report = copy.deepcopy(REPORT)
    for key, value in values.items():
        report["machine" if key in report["machine"] else "settings"][key] = value
    return report


@pytest.mark.parametrize(("key", "value"), [("cpu", "another"), ("size", 1024), ("tiles", "b.tif"), ("threads", 999)])
def test_unlike_reports_are_not_judged(key, value):
    with pytest.raises(ConfigError, match=f"cannot be compared: different .*{value}"):
        check_comparable(OLD, changed(**{key: value}), REPORT, RUNS)
    shown = compare_reports(OLD, changed(**{key: value}), REPORT, None)
    assert len(shown.differences) == 1
    assert str(value) in shown.differences[0]


def test_runs_that_are_missing():
    check_comparable(OLD, REPORT, REPORT, RUNS)
    with pytest.raises(ConfigError, match="has no run of bf16 with batch 1"):
        check_comparable(OLD, REPORT, REPORT, {*RUNS, ("bf16", 1)})


def test_only_runs_of_both_are_compared():
    now = changed()
    now["runs"] = [
        {"precision": "bf16", "batch": 4, "latency_ms": {"p50": 75.0}},
        {"precision": "fp16", "batch": 1, "latency_ms": {"p50": 1.0}},
    ]
    assert compare_reports(OLD, REPORT, now, 0.1).changes == (Change("bf16", 4, 50.0, 75.0),)


def test_limits_of_a_comparison():
    changes = Change("fp32", 1, 100.0, 111.0), Change("bf16", 1, 100.0, 109.0)
    assert changes[0].slower == pytest.approx(0.11)
    assert Comparison(OLD, (), changes, 0.1).too_slow == changes[:1]
    assert Comparison(OLD, (), changes, None).too_slow == ()


def test_reading(tmp_path):
    (tmp_path / "old.json").write_text(json.dumps(REPORT))
    assert read_report(tmp_path / "old.json") == REPORT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"machine": {}, "settings": {}, "runs": [{}]}',
        json.dumps({**REPORT, "runs": [{"precision": "fp32", "batch": 1, "latency_ms": {"p50": 0}}]}),
        "\xff",
    ],
)
def test_files_that_are_not_reports(tmp_path, text):
    path = tmp_path / "old.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match="not a report of legnet benchmark"):
        read_report(path)
