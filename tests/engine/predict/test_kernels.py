"""Kernels of a search: measured once, the same for all of a job, kept with what was found, and taken by a replay."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from make_scene import draw_scene

from legnet_cli.detectors import tuning
from legnet_cli.detectors.fast.kernels import choice_to_text
from legnet_cli.detectors.measured import note_measured
from legnet_cli.detectors.race import Race
from legnet_cli.engine.predict import PredictConfig, predict
from legnet_cli.engine.predict.job import Job
from legnet_cli.engine.predict.provenance import read_record
from legnet_cli.engine.predict.workers import choose_workers, threads_each
from legnet_cli.errors import ConfigError


@pytest.fixture
def scene(write_scene):
    return write_scene("a.tif", draw_scene(200, 0.5, seed=11)[0].transpose(2, 0, 1))


@pytest.fixture
def races(monkeypatch, tmp_path):
    """A cache of its own, and of each layer the second kernel wins; returns the winners."""
    monkeypatch.setenv("LEGNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "WORTH", 2)
    winners = []

    def race(ways, usual, rounds, clock, all_rounds):
        winners.append(list(ways)[1])
        return Race(dict.fromkeys(ways, 1.0), winners[-1])

    monkeypatch.setattr("legnet_cli.detectors.fast.tune.race", race)
    return winners


def search(tmp_path, scene, out="out.geojson", **values):
    predict(
        PredictConfig((scene,) if scene else (), tmp_path / out, tile=128, overlap=16, **values)
        if scene
        else PredictConfig(out=tmp_path / out, **values)
    )
    return (tmp_path / out).read_bytes(), read_record(tmp_path / out)["settings"]["kernels"]


def test_many_tiles_are_measured_for_once_and_a_replay_takes_the_choice(tmp_path, scene, races):
    first, chosen = search(tmp_path, scene, "1/out.geojson")
    assert "winograd" in chosen
    assert races
    assert chosen != choice_to_text({})
    races.clear()
    assert search(tmp_path, scene, "2/out.geojson") == (first, chosen)
    assert races == []
    shutil.rmtree(tmp_path / "cache")
    assert search(tmp_path, None, "3/out.geojson", replay=tmp_path / "1/out.geojson") == (first, chosen)
    assert races == []
    assert search(tmp_path, scene, "4/out.geojson", kernels="direct")[1] == "direct"
    with pytest.raises(ConfigError, match="leave out --kernels"):
        search(tmp_path, None, "5/out.geojson", replay=tmp_path / "1/out.geojson", kernels="direct")


def test_an_interrupted_search_goes_on_with_its_kernels(tmp_path, scene, races, monkeypatch):
    job = tmp_path / "job"
    monkeypatch.setattr("legnet_cli.engine.predict.run.search_here", lambda *_: 1 / 0)
    monkeypatch.setattr("legnet_cli.engine.predict.job.Job.empty", False)
    with pytest.raises(ZeroDivisionError):
        search(tmp_path, scene, job=job)
    monkeypatch.undo()
    chosen = (job / "kernels.txt").read_text()
    assert "winograd" in chosen
    monkeypatch.setenv("LEGNET_CACHE", str(tmp_path / "another"))  # where nothing has been measured
    with pytest.raises(ConfigError, match='unfinished search with other settings: kernels "auto"'):
        search(tmp_path, scene, job=job, kernels="direct")
    assert search(tmp_path, scene, job=job)[1] == chosen


def test_shares_of_a_job_agree(tmp_path):
    first, second = (Job(tmp_path, {}) for _ in range(2))
    assert first.agree(lambda: "a=winograd") == second.agree(lambda: "direct") == "a=winograd"


@pytest.mark.parametrize(
    ("asked", "blocks", "cores", "memory", "device", "count"),
    [
        (3, 0, 4, 64, "cpu", 3),
        (0, 40, 4, 64, "cpu", 4),
        (0, 39, 4, 64, "cpu", 1),
        (0, 1000, 64, 12.5, "cpu", 4),  # by memory
        (0, 1000, 4, 0, "cpu", 1),  # unknown
        (0, 1000, 1, 64, "cpu", 1),
        (0, 1000, 4, 64, "cuda", 1),
    ],
)
def test_workers_are_chosen_by_the_work_and_by_measurement(
    monkeypatch, tmp_path, asked, blocks, cores, memory, device, count
):
    monkeypatch.setenv("LEGNET_CACHE", str(tmp_path))
    monkeypatch.setattr("legnet_cli.engine.predict.workers.processors", lambda: cores)
    monkeypatch.setattr("legnet_cli.engine.predict.workers.memory_gb", lambda: memory)
    plans = [SimpleNamespace(blocks=blocks // 2), SimpleNamespace(blocks=blocks - blocks // 2)]
    config = PredictConfig("a.tif", "o.gpkg", workers=asked)
    detector = SimpleNamespace(device=torch.device(device), key="any", card=SimpleNamespace(tile=512, overlap=100))
    assert choose_workers(config, plans, detector) == count
    note_measured("any", 512, torch.get_num_threads(), {"workers": 1})
    assert choose_workers(config, plans, detector) == (asked or 1)


def test_workers_have_a_fair_share_of_threads(monkeypatch):
    monkeypatch.setattr("legnet_cli.engine.predict.workers.processors", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_each(count) for count in (1, 3, 8, 20)] == [8, 2, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads_each(8) == 2
