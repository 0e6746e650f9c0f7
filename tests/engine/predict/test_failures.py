"""Scenes and workers that fail cost themselves alone, and what was found before stays."""

import json
from pathlib import Path

import numpy as np
import pytest
from blobs import BlobDetector, draw
from searches import BOXES, VALUES, Dying, Stop, features, hidden, search

from legnet_cli.engine.predict import PredictConfig, workers
from legnet_cli.engine.predict.job import Job
from legnet_cli.engine.predict.plan import plan_scene
from legnet_cli.engine.predict.search import search_block, search_by_crew
from legnet_cli.errors import DataError, DependencyError
from legnet_cli.geo.inputs import local_stamp

pytestmark = pytest.mark.usefixtures("small_blocks")


def damage(path):
    raw = Path(path).read_bytes()
    Path(path).write_bytes(raw[: len(raw) - 30_000])


def test_a_scene_that_fails_costs_itself_alone(tmp_path, write_scene, scenes, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 100, (600, 600), np.uint8)
    bad = write_scene("s/bad.tif", noise, compress="deflate", tiled=True, blockxsize=128, blockysize=128)
    whole = Path(bad).read_bytes()
    damage(bad)
    (tmp_path / "s" / "note.tif").write_text("no raster")
    every = [scenes[0], bad, str(tmp_path / "s" / "note.tif"), *scenes[1:]]
    result = search(tmp_path, every, BlobDetector(), monkeypatch)
    assert [failure.name for failure in result.failures] == ["note.tif", "bad.tif"]
    assert "cannot read rows" in result.failures[1].reason
    assert [scene.name for scene in result.scenes] == ["a.tif", "b.tif", "c.tif"]
    assert len(json.loads((tmp_path / "out.geojson").read_text())["features"]) == 12
    assert hidden(tmp_path) == [".out.geojson.legnet-job"]

    Path(bad).write_bytes(whole)  # put right; the other one is left out
    again = BlobDetector()
    every.remove(str(tmp_path / "s" / "note.tif"))
    result = search(tmp_path, every, again, monkeypatch)
    assert result.failures == ()
    assert sum(again.batches) == 49  # of this scene alone
    assert len({feature["properties"]["scene"] for feature in features(tmp_path)}) == 3  # noise has no objects
    assert hidden(tmp_path) == []


def test_scenes_of_a_list_that_are_not_there_are_failures(tmp_path, scenes, monkeypatch):
    (tmp_path / "scenes.txt").write_text("s/a.tif\nmissing.tif\ns/b.tif\nvrt://s/c.tif\n")
    result = search(tmp_path, [str(tmp_path / "scenes.txt")], BlobDetector(), monkeypatch)
    assert [failure.name for failure in result.failures] == ["missing.tif", "c.tif"]
    assert all("no such file" in failure.reason for failure in result.failures)
    assert [scene.name for scene in result.scenes] == ["a.tif", "b.tif"]


def test_settings_that_one_scene_cannot_have_cost_that_scene(tmp_path, scenes, write_scene, monkeypatch):
    write_scene("s/rgb.tif", np.stack([draw((230, 300), BOXES, VALUES)] * 3))
    result = search(tmp_path, [str(tmp_path / "s")], BlobDetector(), monkeypatch, bands=(2,))
    assert [failure.name for failure in result.failures] == ["a.tif", "b.tif", "c.tif"]
    assert [scene.name for scene in result.scenes] == ["rgb.tif"]


def test_strict_stops_at_the_first(tmp_path, scenes, monkeypatch):
    (tmp_path / "s" / "note.tif").write_text("no raster")
    with pytest.raises(DataError, match=r"note\.tif"):
        search(tmp_path, [*scenes, str(tmp_path / "s" / "note.tif")], BlobDetector(), monkeypatch, strict=True)
    assert not (tmp_path / "out.geojson").exists()


def test_no_scene_at_all_leaves_nothing(tmp_path, write_scene, monkeypatch):
    bad = write_scene("bad.tif", np.zeros((600, 600), np.uint8) + np.arange(600, dtype=np.uint8), compress="deflate")
    Path(bad).write_bytes(Path(bad).read_bytes()[:400])
    with pytest.raises(DataError, match=r"bad\.tif"):
        search(tmp_path, [bad], BlobDetector(), monkeypatch)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tif"]


class Careless:
    """A crew that loses every block 1 once, with all that is under way, and one block always."""

    def __init__(self, detector, config, curse):
        self.detector, self.config, self.curse, self.lost, self.capacity = detector, config, curse, [], 4

    def submit(self, plan, block):
        return (plan.name, block, plan, len(self.lost))

    def wait(self, handles):
        name, block, plan, _ = handles[0]
        if (name, block) == self.curse or (block == 1 and (name, block) not in self.lost):
            self.lost.append((name, block))
            return [(handle, None) for handle in handles]
        return [(handles[0], search_block(plan, block, self.config, self.detector))]


@pytest.mark.parametrize("curse", [None, ("b.tif", 2)])
def test_lost_workers_cost_a_second_search_and_a_cursed_block_its_scene(tmp_path, scenes, curse):
    detector = BlobDetector()
    config = PredictConfig(tuple(scenes), tmp_path / "o.gpkg")
    plans = [plan_scene(path, Path(path).name, "", config, detector.card, None) for path in scenes]
    job = Job(tmp_path / "job", {})

    crew = Careless(detector, config, curse)
    units = [(plan, block) for plan in plans for block in range(plan.blocks)]
    with job.open(plans, fresh=False):
        ended = list(search_by_crew(units, job, crew))
    failed = [done for done in ended if done.error]
    assert [done.plan.name for done in failed] == ([] if curse is None else ["b.tif"])
    good = [plan for plan in plans if curse is None or plan.name != "b.tif"]
    assert all(job.has(plan, block) for plan in good for block in range(plan.blocks))
    if curse:
        assert "lost 3 times" in failed[0].error


SHORT = (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))


@pytest.mark.parametrize("error", SHORT)
def test_a_worker_short_of_memory_counts_as_lost(scenes, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(workers, "load_ensemble", lambda *_, **__: BlobDetector())
    monkeypatch.setattr(workers, "search_block", fail)
    worker = workers.Worker(PredictConfig(tuple(scenes), Path("o.csv")), "cpu", 1)
    what = (scenes[0], "a.tif", local_stamp(scenes[0]), 0)
    assert worker.search(*what) is None
    error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        worker.search(*what)


@pytest.mark.parametrize("error", SHORT)
def test_a_search_short_of_memory_ends_with_one_line_and_keeps_what_it_found(tmp_path, scenes, monkeypatch, error):
    class Hungry(Dying):
        def detect(self, images):
            try:
                return super().detect(images)
            except Stop:
                raise error from None

    with pytest.raises(DependencyError, match=r"b\.tif: out of memory: give a smaller --batch or --tile"):
        search(tmp_path, scenes, Hungry(14), monkeypatch)
    assert len(list(tmp_path.glob(".out*/parts/*/*.npz"))) == 4
    search(tmp_path, scenes, BlobDetector(), monkeypatch)
    assert hidden(tmp_path) == []
