import tempfile

import numpy as np
import pytest

from legnet_cli.boxes import Detections
from legnet_cli.engine.predict.results import SceneResult
from legnet_cli.engine.predict.spool import spool
from legnet_cli.errors import DataError
from legnet_cli.geo.raster import Scene


@pytest.fixture
def scenes(write_scene):
    """Three scenes: of 3 boxes, of none, and of 2 boxes on a grid of half the raster's resolution."""
    rng = np.random.default_rng(0)
    with Scene.open(write_scene("a.tif", np.zeros((8, 8), np.uint8))) as scene:
        georef = scene.georef
    made = []
    for name, count, scale in (("a", 3, 1.0), ("b", 0, 1.0), ("c", 2, 2.0)):
        grid = rng.random((count, 5))
        boxes = grid if scale == 1 else grid * [2, 2, 2, 2, 1]
        found = Detections(boxes, rng.random(count).astype(np.float32), rng.integers(0, 9, count))
        made.append(SceneResult(name, name, "", found, georef, 4, 1, None, grid, (scale, scale), None))
    return made


def test_what_is_kept_on_the_disk_comes_back(scenes):
    for before, after in zip(scenes, spool(iter(scenes)), strict=True):
        kept = set(vars(before)) - {"detections", "grid_boxes"}
        assert all(vars(after)[name] is vars(before)[name] for name in kept)
        np.testing.assert_array_equal(after.grid_boxes, before.grid_boxes)
        for name in ("boxes", "scores", "labels"):
            own, theirs = (getattr(scene.detections, name) for scene in (after, before))
            np.testing.assert_array_equal(own, theirs)
            assert own.dtype == theirs.dtype
            assert own.base is not None  # a view of the file, no copy
    assert [len(scene.detections) for scene in spool(scenes[1:2])] == [0]


def test_a_full_disk_is_one_line(scenes, monkeypatch):
    class Full(tempfile.SpooledTemporaryFile):
        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(DataError, match="cannot be written"):
        spool(scenes)
