import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.engine.eval.calibrate import measure_reliability
from legnet_cli.engine.eval.cases import Case
from legnet_cli.engine.eval.matching import Predictions, Truths
from legnet_cli.engine.eval.measure import compute_metrics
from legnet_cli.engine.eval.plots import plot_bars
from legnet_cli.engine.eval.report import write_report
from legnet_cli.engine.eval.robustness import Robustness
from legnet_cli.engine.html import figure_text

CLASSES = ("plane", "small <b>&vehicle", "ship")  # no object of the last


@pytest.fixture
def measured():
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(0, 500, (40, 2)), rng.uniform(5, 150, (40, 2)), rng.uniform(-1, 1, 40)])
    labels = np.arange(40) % 2
    truths = Truths(boxes_to_polygons(boxes), labels, np.arange(40) // 10, np.arange(40) == 7, np.full(40, 12.0))
    found = boxes[:30] + rng.normal(0, 1, (30, 5)) * [1, 1, 1, 1, 0.02]
    wrong = found + [300, 0, 0, 0, 0]
    predictions = Predictions(
        np.concatenate([found, wrong]),
        rng.random(60).astype(np.float32),
        np.concatenate([labels[:30], labels[:30]]),
        np.concatenate([truths.images[:30]] * 2),
        np.full(60, 12.0),
    )
    return compute_metrics(predictions, truths, CLASSES)


@pytest.fixture
def metrics(measured):
    about = {"data": "DOTA <val>", "weights": "w.safetensors", "images": 4, "rules": "dota", "robustness": None}
    raw, _ = measure_reliability(measured, {})
    return {**measured.to_dict(), **about, "reliability": {"score": raw.to_dict(), "probability": None}}


class Page(HTMLParser):
    """Tags that stay open, links and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("with_robustness", [False, True])
def test_report(tmp_path, measured, metrics, with_robustness):
    picture = np.full((30, 40, 3), (200, 20, 20), np.uint8)
    cases = [Case("miss", "P1", CLASSES[1], "not found", picture), Case("false alarm", "P2", "plane", "0.9", picture)]
    worse = None
    if with_robustness:
        mean = np.nan_to_num(measured.precisions.mean)
        worse = Robustness(mean, {"haze": tuple(mean * share for share in (0.9, 0.8, 0.7, 0.6, 0.5))})
        metrics["robustness"] = {
            "severities": [1, 2, 3, 4, 5],
            "clean": {"voc07": {"mAP50": float(mean[0, 0])}},
            "kinds": {"haze": {"voc07": {"mAP50": worse.map50["haze"]}, "relative_drop": worse.drops["haze"]}},
            "mean_relative_drop": worse.drop,
        }
    write_report(tmp_path / "run", metrics, measured, cases, worse)
    assert json.loads((tmp_path / "run/metrics.json").read_text()) == metrics
    page = Page((tmp_path / "run/report.html").read_text(encoding="utf-8"))
    assert page.open == []
    plots = sorted(path.name for path in (tmp_path / "run").glob("*.png"))
    assert plots == sorted(
        ["confusion_matrix.png", "histograms.png", "pr_curves.png", "reliability.png"]
        + with_robustness * ["robustness.png"]
    )
    assert len(page.sources) == len(plots) + 2
    assert all(re.match("data:image/(png|jpeg);base64,", source) for source in page.sources)
    assert all(min(cv2.imread(str(tmp_path / "run" / name)).shape[:2]) > 300 for name in plots)
    text = " ".join(page.text)
    for expected in (
        CLASSES[1],
        "DOTA <val>",
        "No objects, so not in any mean: ship",
        "Worst misses",
        "√area",
        "metres",
    ):
        assert expected in text
    assert ("30.0%" in text) == with_robustness


def test_report_is_the_same_bytes(tmp_path, measured, metrics):
    for name in ("a", "b"):
        write_report(tmp_path / name, metrics, measured, [])
    first, second = ([path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in ("a", "b"))
    assert first == second


def test_nothing_half_written(tmp_path, measured, metrics):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_report(tmp_path / "run", {**metrics, "images": np.nan}, measured, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.12345, "0.123"), (1234567, "1,234,567"), ("a", "a"), (1.0, "1.000")]
)
def test_cells(value, text):
    assert figure_text(value) == text


def test_bars_with_gaps(tmp_path):
    plot_bars(["a", "b"], {"one": [0.5, None], "two": [0.2, 0.9]}, "AP", tmp_path / "bars.png")
    assert cv2.imread(str(tmp_path / "bars.png")) is not None
