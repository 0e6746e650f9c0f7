"""Processes that are killed while they search, and searches by other processes, change no byte."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rasterio
import torch
from searches import hidden

from legnet_cli.engine.predict import PredictConfig, predict

ROOT = Path(__file__).parents[3]
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
def test_a_kill_of_workers_changes_no_byte(tmp_path, ships):
    check_kill(tmp_path, ships, signal.SIGKILL, -signal.SIGKILL)
    check_same(tmp_path, ships)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
def test_kills_at_any_moment_change_no_byte(tmp_path, ships):
    for sent, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        check_kill(tmp_path, ships, sent, code)
    check_same(tmp_path, ships)


@pytest.mark.slow
def test_a_ray_cluster_finds_the_same(tmp_path, ships):
    pytest.importorskip("ray")
    assert start([ships], tmp_path / "one.csv").wait() == 0
    assert start([ships], tmp_path / "two.csv", "--cluster", "local", "--workers", "2").wait() == 0
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
