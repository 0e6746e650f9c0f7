"""The files in examples/cluster/ say what the command understands."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main
import yaml

from legnet_cli.engine.predict.config import read_shard
from legnet_cli.engine.predict.job import job_folder
from legnet_cli.main import app

CLUSTER = Path(__file__).parents[3] / "examples" / "cluster"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="scripts of a shell")


def read(name):
    return yaml.safe_load((CLUSTER / name).read_text())


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Runs a command with a ``legnet`` that only tells how it was called; returns what it was told."""
    stub = tmp_path / "bin" / "legnet"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$OMP_NUM_THREADS" "$@"\n')
    stub.chmod(0o755)

    def run(command, **environment):
        known = {
            "PATH": f"{stub.parent}:{os.environ['PATH']}",
            **{name: str(value) for name, value in environment.items()},
        }
        threads, *words = subprocess.run(
            command, env=known, check=True, capture_output=True, text=True
        ).stdout.splitlines()
        return threads, words

    return run


def parsed(words):
    """The options of a call, as the command line reads them."""
    verb, *rest = words
    assert verb == "predict"
    found = typer.main.get_command(app).commands["predict"].make_context("predict", rest)
    assert found.args == []
    return found.params


@pytest.mark.parametrize("first", [0, 1])
def test_tasks_of_a_slurm_array_are_all_shares(told, first):
    shares = set()
    for number in range(first, first + 3):
        slurm = {"SLURM_ARRAY_TASK_ID": number, "SLURM_ARRAY_TASK_MIN": first, "SLURM_ARRAY_TASK_COUNT": 3}
        call = [CLUSTER / "slurm.sh", "/s/**/*.tif", "/shared/boxes.gpkg", "--weights", "legnet-nano"]
        threads, words = told(call, SLURM_CPUS_PER_TASK=4, **slurm)
        given = parsed(words)
        assert (threads, given["scenes"], given["weights"]) == ("4", ["/s/**/*.tif"], ["legnet-nano"])
        assert given["job"] == job_folder(given["out"], None)  # where --status looks too
        shares.add(read_shard(given["shard"]))
    assert shares == {(1, 3), (2, 3), (3, 3)}


def test_pods_of_a_kubernetes_job_are_all_shares(told):
    spec = read("kubernetes.yaml")["spec"]
    (pod,) = spec["template"]["spec"]["containers"]
    environment = {one["name"]: one["value"] for one in pod["env"]}
    count, shares = spec["completions"], set()
    for index in range(count):
        threads, words = told([*pod["command"], *pod["args"]], JOB_COMPLETION_INDEX=index, **environment)
        given = parsed(words)
        assert (threads, given["scenes"]) == (pod["resources"]["limits"]["cpu"], ["/shared/scenes/**/*.tif"])
        assert given["job"] == job_folder(given["out"], None)
        shares.add(read_shard(given["shard"]))
    assert shares == {(number, count) for number in range(1, count + 1)}


def test_a_ray_job_searches_on_its_cluster():
    given = parsed(shlex.split(read("kuberay.yaml")["spec"]["entrypoint"])[1:])
    assert (given["cluster"], str(given["out"])) == ("auto", "s3:/bucket/boxes.parquet")


def test_ray_takes_the_cluster():
    util = pytest.importorskip("ray.autoscaler._private.util")
    pytest.importorskip("jsonschema")
    util.validate_config(util.prepare_config(read("ray.yaml")))
