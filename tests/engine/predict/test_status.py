"""What is told of a search by its job folder alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from blobs import BlobDetector
from searches import Stop

from legnet_cli.engine.predict import PredictConfig, predict, read_status
from legnet_cli.engine.predict import plan as planning
from legnet_cli.errors import DataError

TILES, SCENES = 12, 3  # of 3 blocks of 5 tiles at most


@pytest.fixture(autouse=True)
def _prepared(monkeypatch):
    monkeypatch.setattr(planning, "BLOCK", 5)
    monkeypatch.setattr("legnet_cli.engine.predict.run.load_ensemble", lambda *_, **__: BlobDetector())


def search(tmp_path, scenes, watch=lambda progress: None, **values):
    return predict(PredictConfig(tuple(scenes), tmp_path / "out.gpkg", "any", **values), watch)


def stop_after(tiles):
    def watch(progress):
        if progress.tiles_done >= tiles:
            raise Stop

    return watch


def change(folder, **values):
    """Make the note of a process say something else."""
    (path,) = folder.glob("holder*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_running_search_is_told_from_elsewhere(tmp_path, scenes):
    seen = []

    def watch(progress):
        if progress.tiles_done == TILES + 5:
            seen.append(read_status(tmp_path / "out.gpkg"))

    search(tmp_path, scenes, watch)
    status = seen[-1]
    assert (status.state, status.workers, status.failures) == ("searching", 1, 0)
    assert (status.tiles_done, status.tiles_total) == (TILES + 5, SCENES * TILES)
    assert (status.scenes_done, status.scenes_total) == (1, SCENES)
    assert status.processes[0].pid == os.getpid()
    with pytest.raises(DataError, match="the output is complete"):
        read_status(tmp_path / "out.gpkg")


def test_a_stopped_search_is_as_its_parts_are(tmp_path, scenes):
    with pytest.raises(Stop):
        search(tmp_path, scenes, stop_after(18))
    folder = tmp_path / ".out.gpkg.legnet-job"
    status = read_status(folder)
    assert (status.state, status.tiles_done, status.boxes > 0) == ("stopped", 17, True)
    assert (status.workers, status.km2_per_second, status.seconds_left) == (0, 0, None)
    assert status.km2_done == pytest.approx(17 / TILES * 300 * 230 * 0.25 / 1e6, rel=0.01)
    states = []
    search(tmp_path, scenes, states.append)  # goes on: what was known is no achievement of this run
    assert (states[-1].tiles_done, states[-1].tiles_before) == (36, 17)
    assert states[-1].km2_before == pytest.approx(status.km2_done)


@pytest.mark.parametrize("where", ["killed here", "silent elsewhere"])
def test_a_search_without_a_word_is_lost(tmp_path, scenes, where):
    with pytest.raises(Stop):
        search(tmp_path, scenes, stop_after(18))
    folder = tmp_path / ".out.gpkg.legnet-job"
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    change(folder, stage="searching", **({"pid": gone.pid} if where == "killed here" else {"host": "x", "seen": 1e9}))
    status = read_status(folder)
    assert (status.state, status.processes[0].state) == ("stopped", "lost")
    change(folder, stage="searching", pid=os.getpid())
    change(folder, **({} if where == "killed here" else {"seen": 1e12}))
    assert read_status(folder).state == "searching"


def test_failures_are_told_with_their_reasons(tmp_path, scenes):
    (tmp_path / "s" / "note.tif").write_text("no raster")
    search(tmp_path, (*scenes, str(tmp_path / "s" / "note.tif")))
    status = read_status(tmp_path / "out.gpkg")
    assert (status.state, status.scenes_done, status.scenes_total, status.failures) == ("done", 3, 4, 1)
    assert "note.tif" in status.reasons["note.tif"]


def test_shares_are_counted_together(tmp_path, scenes):
    job = tmp_path / "job"
    for number, tiles in ((1, 15), (3, 6)):  # its own: the first or the last block of each scene
        progress = []
        search(tmp_path, scenes, progress.append, shard=(number, 3), job=job)
        assert progress[-1].tiles_done == progress[-1].tiles_total == tiles
    status = read_status(job)
    assert [one.share for one in status.processes] == ["1/3", "3/3"]
    assert (status.state, status.tiles_done, status.tiles_total) == ("stopped", 21, 36)
    assert status.boxes == sum(one.progress.boxes for one in status.processes)


@pytest.mark.parametrize("name", ["nothing", "s", "s/a.tif"])
def test_what_is_no_job_is_one_line(tmp_path, scenes, name):
    with pytest.raises(DataError, match="no search is running there") as caught:
        read_status(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{}", '{"settings": {"block": "3"}, "plan": {"a": 1}}'])
def test_a_damaged_record_is_one_line(tmp_path, content):
    (tmp_path / "job.json").write_text(content)
    with pytest.raises(DataError, match="cannot be read"):
        read_status(Path(tmp_path))
