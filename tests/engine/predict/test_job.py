"""What a search that ends early leaves, and what goes on from there."""

import os
import shutil
from pathlib import Path

import filelock
import pytest
from blobs import BlobDetector, draw
from searches import BOXES, VALUES, Dying, Stop, features, hidden, search

from legnet_cli.engine.predict.job import Job, job_folder
from legnet_cli.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("small_blocks")


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


def test_two_scenes_of_one_name_keep_apart_in_the_layer(tmp_path, write_scene, monkeypatch):
    every = [write_scene(f"{folder}/ortho.tif", draw((230, 300), BOXES, VALUES)) for folder in ("n", "s")]
    search(tmp_path, every, BlobDetector(), monkeypatch)
    assert {feature["properties"]["scene"] for feature in features(tmp_path)} == {"n/ortho.tif", "s/ortho.tif"}


def test_a_job_without_parts_counts_as_empty(tmp_path):
    job = Job(tmp_path / "job", {"score": "1"})
    with job.open([], fresh=False):
        assert job.empty
    shutil.rmtree(tmp_path / "job")
