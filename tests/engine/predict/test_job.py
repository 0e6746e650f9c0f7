"""What a search that ends early leaves, and what goes on from there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pytest
import rasterio
import torch
from blobs import BlobDetector, draw

from legnet_cli.engine.predict import PredictConfig, predict, workers
from legnet_cli.engine.predict import plan as planning
from legnet_cli.engine.predict.job import Job, job_folder
from legnet_cli.engine.predict.plan import plan_scene, scene_names
from legnet_cli.engine.predict.search import search_block, search_by_crew
from legnet_cli.errors import ConfigError, DataError, DependencyError
from legnet_cli.geo.inputs import local_stamp

ROOT = Path(__file__).parents[3]
BOXES = [(60, 50, 40, 12, 0.4), (128, 100, 44, 16, -0.7), (220, 180, 30, 14, 1.2), (250, 40, 24, 10, 0.0)]
VALUES = [160, 250, 250, 160]


class Stop(BaseException):
    """What no except clause expects, as a kill."""


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(planning, "BLOCK", 3)


@pytest.fixture
def scenes(write_scene):
    return [write_scene(f"s/{name}.tif", draw((230, 300), BOXES, VALUES)) for name in "abc"]


class Dying(BlobDetector):
    """Stops the search at its n-th tile."""

    def __init__(self, tiles):
        super().__init__()
        self.left = tiles

    def detect(self, images):
        self.left -= len(images)
        if self.left < 0:
            raise Stop
        return super().detect(images)


def search(tmp_path, scenes, detector, monkeypatch, out="out.geojson", **values):
    monkeypatch.setattr("legnet_cli.engine.predict.run.load_ensemble", lambda *_, **__: detector)
    return predict(PredictConfig(tuple(scenes), tmp_path / out, weights="any", **values))


def hidden(tmp_path):
    return [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("tiles", [1, 4, 7, 13, 20, 33])
def test_a_search_goes_on_where_it_stopped_to_the_same_bytes(tmp_path, scenes, monkeypatch, tiles):
    whole = BlobDetector()
    search(tmp_path, scenes, whole, monkeypatch, "whole.geojson")
    with pytest.raises(Stop):
        search(tmp_path, scenes, Dying(tiles), monkeypatch)
    assert not (tmp_path / "out.geojson").exists()
    again = BlobDetector()
    result = search(tmp_path, scenes, again, monkeypatch)
    named = (tmp_path / "whole.geojson").read_text().replace('"whole"', '"out"')
    assert (tmp_path / "out.geojson").read_text() == named
    # the block under way, of 3 tiles, is all that is searched twice
    assert sum(again.batches) <= sum(whole.batches) - tiles + 3
    assert len(result.scenes) == 3
    assert hidden(tmp_path) == []


def test_a_damaged_part_is_searched_again(tmp_path, scenes, monkeypatch):
    with pytest.raises(Stop):
        search(tmp_path, scenes, Dying(20), monkeypatch)
    parts = sorted((tmp_path / ".out.geojson.legnet-job" / "parts").glob("*/*.npz"))
    parts[0].write_bytes(parts[0].read_bytes()[:-40])
    parts[1].write_bytes(b"")
    search(tmp_path, scenes, BlobDetector(), monkeypatch)
    search(tmp_path, scenes, BlobDetector(), monkeypatch, "whole.geojson")
    named = (tmp_path / "whole.geojson").read_text().replace('"whole"', '"out"')
    assert (tmp_path / "out.geojson").read_text() == named


@pytest.mark.parametrize(
    ("values", "words"),
    [({"score": 0.4}, r"score 0\.25 \(now 0\.4\)"), ({"gsd": 1.0}, "gsd null"), ({"overlap": 10}, "overlap null")],
)
def test_other_settings_are_refused_and_named(tmp_path, scenes, monkeypatch, values, words):
    with pytest.raises(Stop):
        search(tmp_path, scenes, Dying(20), monkeypatch)
    with pytest.raises(ConfigError, match=words):
        search(tmp_path, scenes, BlobDetector(), monkeypatch, **values)
    search(tmp_path, scenes, BlobDetector(), monkeypatch, overwrite=True, **values)
    assert hidden(tmp_path) == []


def test_a_changed_scene_is_refused(tmp_path, scenes, monkeypatch):
    with pytest.raises(Stop):
        search(tmp_path, scenes, Dying(20), monkeypatch)
    os.utime(scenes[0], (1, 1))
    with pytest.raises(ConfigError, match=r"a\.tif: has changed since"):
        search(tmp_path, scenes, BlobDetector(), monkeypatch)


@pytest.mark.parametrize("kind", ["http", "s3"])
def test_a_changed_scene_of_a_network_is_refused(tmp_path, scenes, web, bucket, monkeypatch, kind):
    for path in scenes:
        bucket.put(f"new/{Path(path).name}", Path(path).read_bytes())
    folder = f"{web.url}/s" if kind == "http" else "s3://scenes/new"
    every = [f"{folder}/{Path(path).name}" for path in scenes]
    with pytest.raises(Stop):
        search(tmp_path, every, Dying(20), monkeypatch)
    again = Dying(7)
    with pytest.raises(Stop):  # as it was: goes on
        search(tmp_path, every, again, monkeypatch)
    assert again.batches
    os.utime(scenes[0], (1, 1))
    bucket.put("new/a.tif", Path(scenes[0]).read_bytes() + b" ")
    with pytest.raises(ConfigError, match=r"a\.tif: has changed since"):
        search(tmp_path, every, BlobDetector(), monkeypatch)
    monkeypatch.setattr("legnet_cli.geo.inputs.stamps._remote_stamp", lambda path: "")
    assert len(search(tmp_path, every, BlobDetector(), monkeypatch).scenes) == 3  # nothing said of a change


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


def features(tmp_path):
    return json.loads((tmp_path / "out.geojson").read_text())["features"]


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


def test_an_output_of_somebody_else_stays(tmp_path, scenes, monkeypatch):
    (tmp_path / "s" / "note.tif").write_text("no raster")
    every = [*scenes, str(tmp_path / "s" / "note.tif")]
    search(tmp_path, every, BlobDetector(), monkeypatch)
    (tmp_path / "out.geojson").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        search(tmp_path, every, BlobDetector(), monkeypatch)


def test_who_holds_a_job_is_told(tmp_path, scenes, monkeypatch):
    folder = job_folder(tmp_path / "out.geojson", None)
    folder.mkdir()
    (folder / "holder.json").write_text('{"pid": 7, "host": "node3", "since": "2026-01-01"}')
    with (
        filelock.FileLock(folder / "lock"),
        pytest.raises(DataError, match="in use by process 7 on node3 since 2026-01-01"),
    ):
        search(tmp_path, scenes, BlobDetector(), monkeypatch)


@pytest.mark.parametrize("count", [2, 5])
def test_shares_in_any_order_make_the_whole(tmp_path, scenes, monkeypatch, count):
    search(tmp_path, scenes, BlobDetector(), monkeypatch, "whole.geojson")
    for number in reversed(range(1, count + 1)):
        result = search(tmp_path, scenes, BlobDetector(), monkeypatch, shard=(number, count), job=tmp_path / "job")
        assert (result.out is None) == (number > 1)  # the last share sees that all is done
    named = (tmp_path / "whole.geojson").read_text().replace('"whole"', '"out"')
    assert (tmp_path / "out.geojson").read_text() == named
    assert not (tmp_path / "job").exists()


def test_of_two_last_shares_one_writes(tmp_path, scenes, monkeypatch):
    search(tmp_path, scenes, BlobDetector(), monkeypatch, shard=(1, 2), job=tmp_path / "job")
    with filelock.FileLock(tmp_path / "job" / "lock"):  # as the other one holds while it writes
        result = search(tmp_path, scenes, BlobDetector(), monkeypatch, shard=(2, 2), job=tmp_path / "job")
    assert result.out is None
    assert not (tmp_path / "out.geojson").exists()


def test_a_share_that_fails_leaves_the_folder_to_others(tmp_path, scenes, monkeypatch):
    with pytest.raises(Stop):
        search(tmp_path, scenes, Dying(0), monkeypatch, shard=(2, 2), job=tmp_path / "job")
    assert (tmp_path / "job" / "job.json").exists()


def test_a_last_run_without_shard_writes_what_shares_found(tmp_path, scenes, monkeypatch):
    search(tmp_path, scenes, BlobDetector(), monkeypatch, shard=(1, 2), job=tmp_path / "job")
    rest = BlobDetector()
    search(tmp_path, scenes, rest, monkeypatch, job=tmp_path / "job")
    assert 0 < sum(rest.batches) < 3 * 12
    assert len(features(tmp_path)) == 12


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.tif", "b/y.tif"], ["x.tif", "y.tif"]),
        (["n/ortho.tif", "s/ortho.tif", "s/b.tif"], ["n/ortho.tif", "s/ortho.tif", "b.tif"]),
        (["1/n/o.tif", "2/n/o.tif", "2/s/o.tif"], ["1/n/o.tif", "2/n/o.tif", "s/o.tif"]),
        (["/vsis3/b/o.tif", "o.tif"], ["b/o.tif", "o.tif"]),
        (["/vsicurl/https://x/a.tif?key=b/c", "/vsis3/b/d.tif"], ["a.tif", "d.tif"]),
        (["/vsicurl/https://x/a?band=1", "/vsicurl/https://x/a?band=2"], ["a?band=1", "a?band=2"]),
    ],
)
def test_names_are_the_shortest_that_tell_scenes_apart(paths, names):
    assert scene_names(paths) == names


def test_two_scenes_of_one_name_keep_apart_in_the_layer(tmp_path, write_scene, monkeypatch):
    every = [write_scene(f"{folder}/ortho.tif", draw((230, 300), BOXES, VALUES)) for folder in ("n", "s")]
    search(tmp_path, every, BlobDetector(), monkeypatch)
    assert {feature["properties"]["scene"] for feature in features(tmp_path)} == {"n/ortho.tif", "s/ortho.tif"}


COMMAND = (sys.executable, "-m", "legnet_cli", "predict", "--device", "cpu", "--tile", "64", "--overlap", "0", "-q")


def start(scenes, out, *more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*COMMAND, *scenes, "--out", str(out), "--score", "0.05", *more]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def wait_for_a_part(process, folder):
    def count():
        return len(list(folder.glob("parts/*/*.npz")))

    before = count()
    while process.poll() is None and count() == before:
        time.sleep(0.01)


def has_group(process):
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def ships(write_scene):
    with rasterio.open(ROOT / "examples" / "scene.tif") as example:
        return write_scene("ships.tif", example.read(window=((0, 384), (0, 1024))))


def check_kill(tmp_path, ships, sent, code, *more):
    """Kill a search by two workers once it has found something; repeated, it gives the bytes of one that was not."""
    folder = tmp_path / ".two.csv.legnet-job"
    process = start([ships], tmp_path / "two.csv", "--workers", "2", *more)
    wait_for_a_part(process, folder)
    process.send_signal(sent)
    assert process.wait() == code
    assert any(folder.glob("parts/*/*.npz"))
    end = time.monotonic() + 60
    while has_group(process) and time.monotonic() < end:  # no worker outlives its parent
        time.sleep(0.05)
    assert not has_group(process)


def check_same(tmp_path, ships):
    torch.set_num_threads(1)
    config = PredictConfig(ships, tmp_path / "one.csv", tile=64, overlap=0, score=0.05, device="cpu")
    predict(config)
    assert start([ships], tmp_path / "two.csv").wait() == 0
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert (tmp_path / "one.csv").read_text().count("\n") > 50
    assert hidden(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
def test_a_kill_of_workers_changes_no_byte(tmp_path, ships, monkeypatch):
    monkeypatch.undo()  # blocks as large as in the processes
    check_kill(tmp_path, ships, signal.SIGKILL, -signal.SIGKILL)
    check_same(tmp_path, ships)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
def test_kills_at_any_moment_change_no_byte(tmp_path, ships, monkeypatch):
    monkeypatch.undo()
    for sent, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        check_kill(tmp_path, ships, sent, code)
    check_same(tmp_path, ships)


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


@pytest.mark.slow
def test_a_ray_cluster_finds_the_same(tmp_path, ships):
    pytest.importorskip("ray")
    assert start([ships], tmp_path / "one.csv").wait() == 0
    assert start([ships], tmp_path / "two.csv", "--cluster", "local", "--workers", "2").wait() == 0
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_a_job_without_parts_counts_as_empty(tmp_path):
    job = Job(tmp_path / "job", {"score": "1"})
    with job.open([], fresh=False):
        assert job.empty
    shutil.rmtree(tmp_path / "job")
