"""Several views and weights in a search: the attribute, provenance, seams, workers, and turned scenes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from blobs import BlobDetector, draw
from searches import BOXES, VALUES

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.detectors.ensemble import join, turned_back
from legnet_cli.detectors.loader import Detector
from legnet_cli.engine.predict import PredictConfig, predict
from legnet_cli.engine.predict import plan as planning
from legnet_cli.engine.predict.job import Job, Part
from legnet_cli.engine.predict.spool import spool
from legnet_cli.errors import ConfigError

# 224 pixels are two tiles of 128 with the detector's overlap of 32 shared alike from either side
SIDES = (224, 320)


@pytest.fixture
def searched(monkeypatch):
    """Search a scene by the detector of bright rectangles, in several views."""

    def load(weights, views, **_):
        found = [BlobDetector() for _ in weights]
        members = [Detector(one.card, one.device, "fp32", lambda x, one=one: one.detect(x.numpy())) for one in found]
        return join(members, views)

    monkeypatch.setattr("legnet_cli.engine.predict.run.load_ensemble", load)
    return lambda scene, out, **values: predict(PredictConfig((scene,), out, overlap=32, **values))


def outlines(found):
    corners = boxes_to_polygons(found.boxes)
    corners = np.stack([one[np.lexsort(one.round(1).T)] for one in corners]).reshape(-1, 8)
    return corners[np.lexsort(corners.round(1).T)]


@pytest.mark.parametrize("turn", [(1, False), (2, False), (0, True), (3, True)])
def test_a_turned_scene_gives_the_turned_result(tmp_path, write_scene, searched, turn):
    image = draw(SIDES, BOXES, VALUES)
    quarters, mirrored = turn
    other = np.rot90(image[:, ::-1] if mirrored else image, quarters)
    plain, there = (
        searched(write_scene(f"{n}.png", one, None, None), tmp_path / f"{n}.csv", tta="full").scenes[0].detections
        for n, one in enumerate((image, other))
    )

    boxes = turned_back(there.boxes, turn, *image.shape)

    assert len(plain) == len(BOXES)
    assert np.abs(outlines(type(there)(boxes, there.scores, there.labels)) - outlines(plain)).max() < 1e-3


@pytest.mark.parametrize(
    ("values", "fused"),
    [({}, False), ({"tta": "flips"}, True), ({"scales": (1, 0.5)}, True), ({"weights": ("a", "b")}, True)],
)
def test_objects_say_which_share_of_the_views_found_them(tmp_path, write_scene, searched, values, fused):
    out = tmp_path / "out.geojson"
    searched(write_scene("a.tif", draw(SIDES, BOXES, [160] * 4)), out, **values)

    found = [one["properties"] for one in json.loads(out.read_text())["features"]]

    assert [one.get("views") for one in found] == [1.0 if fused else None] * len(BOXES)


def test_settings_of_views_are_written_and_replayed(tmp_path, write_scene, searched):
    scene = write_scene("a.tif", draw(SIDES, BOXES, VALUES))
    asked = {"weights": ("a", "b"), "tta": "flips", "scales": (0.5, 1.0), "fuse": "nms"}
    searched(scene, tmp_path / "one.geojson", **asked)
    settings = json.loads((tmp_path / "one.geojson.json").read_text())["settings"]

    assert {name: settings[name] for name in asked} == {**asked, "weights": ["a", "b"], "scales": [0.5, 1.0]}

    predict(PredictConfig(out=tmp_path / "two.geojson", replay=tmp_path / "one.geojson"))
    again = json.loads((tmp_path / "two.geojson.json").read_text())
    assert again["settings"] == settings


def test_an_unfinished_search_with_other_views_is_refused(tmp_path, write_scene, searched, monkeypatch):
    scene = write_scene("a.tif", draw(SIDES, BOXES, VALUES))
    monkeypatch.setattr(planning, "BLOCK", 2)
    real = Job.save

    def fail(self, plan, block, part):
        if block:
            raise KeyboardInterrupt
        real(self, plan, block, part)

    monkeypatch.setattr(Job, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        searched(scene, tmp_path / "a.geojson", tta="flips")
    monkeypatch.setattr(Job, "save", real)
    with pytest.raises(ConfigError, match=r'tta "flips" \(now "full"\)'):
        searched(scene, tmp_path / "a.geojson", tta="full")

    result = searched(scene, tmp_path / "a.geojson", tta="flips")  # with the part of the first block

    assert (result.scenes[0].detections.views == 1).all()


def test_shares_survive_the_job_folder_and_the_disk(tmp_path, write_scene, searched):
    result = searched(write_scene("a.tif", draw(SIDES, BOXES, VALUES)), tmp_path / "a.csv", tta="full")
    scene = result.scenes[0]
    job = Job(tmp_path / "job", {})
    plan = type("Plan", (), {"key": "k"})()
    found = type(scene.detections)(
        scene.detections.boxes, scene.detections.scores, scene.detections.labels, views=np.float32([0.1, 0.2, 0.3, 1])
    )

    job.save(plan, 0, Part(found, np.zeros(4, np.int64), np.zeros(1, np.int64)))

    assert job.load(plan, 0).found.views.tolist() == found.views.tolist()
    assert spool([scene])[0].detections.views.tolist() == scene.detections.views.tolist()


@pytest.mark.parametrize(("values", "words"), [({"scales": (0,)}, "--scales 0"), ({"tta": "some"}, "--tta some")])
def test_settings_out_of_range(values, words):
    with pytest.raises(ConfigError, match=words):
        PredictConfig(("a.tif",), "o.csv", **values)
