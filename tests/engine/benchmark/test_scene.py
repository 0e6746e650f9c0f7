from contextlib import nullcontext

import numpy as np
import pytest
from blobs import BlobDetector, draw

from legnet_cli.engine.benchmark import SceneRun, scene
from legnet_cli.engine.benchmark.scene import time_scene


@pytest.mark.parametrize(("km2", "speed"), [(2.0, 0.25), (None, None)])
def test_waiting_and_ground(km2, speed):
    run = SceneRun("s", 4, 1, km2, seconds=8.0, detect_seconds=6.0, stages={})
    assert run.waiting == 0.25
    assert run.km2_per_second == speed


def test_stages_are_of_a_tile(monkeypatch, write_scene):
    stages = []

    class Tally:
        """A second for each stage, however often it is entered."""

        seconds = dict.fromkeys(("read", "detect", "merge", "write"), 1.0)

        def stage(self, name):
            stages.append(name)
            return nullcontext()

    monkeypatch.setattr(scene, "Tally", Tally)
    path = write_scene("s.tif", np.stack([draw((128, 208), [(60, 60, 40, 20, 0)], [250])] * 3))
    found = time_scene(BlobDetector(), path, 128, 1)
    assert (found.tiles, found.objects, found.detect_seconds) == (2, 1, 1.0)
    assert found.stages == {"read": 500, "merge": 500, "write": 500}
    assert sorted(set(stages)) == ["detect", "merge", "read", "write"]
    assert stages.count("read") == 2
