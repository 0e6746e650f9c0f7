"""Processes of one run: who starts them, and that none outlives another."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from legnet_cli.engine.train.devices import open_fabric
from legnet_cli.engine.train.processes import local_processes
from legnet_cli.errors import ConfigError

PLACE = SimpleNamespace(
    main_address="127.0.0.1", main_port=29500, node_rank=lambda: 0, creates_processes_externally=False
)

# both processes are there, then one of them is killed; the other waits for it, or is at work that takes long
SCRIPT = """
import os, pathlib, signal, socket, sys, time
from types import SimpleNamespace
from legnet_cli.engine.train.processes import local_processes

gone, waits = int(sys.argv[1]), sys.argv[2] == "waits"
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
place = SimpleNamespace(
    main_address="127.0.0.1", main_port=port, node_rank=lambda: 0, creates_processes_externally=False
)
with local_processes(place, 2, 1):
    rank = int(os.environ["LOCAL_RANK"])
    if waits:
        import torch.distributed as dist
        dist.init_process_group("gloo", rank=rank, world_size=2)
        dist.barrier()
    elif rank != gone:
        pathlib.Path("there").touch()
    while not waits and not os.path.exists("there"):
        time.sleep(0.01)
    if rank == gone:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier() if waits else time.sleep(600)
"""


@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
@pytest.mark.parametrize(
    ("gone", "other", "code", "line"),
    [
        ("1", "waits", 4, "process 1 was ended by SIGKILL: --resume continues from the last checkpoint"),
        ("0", "works", -signal.SIGKILL, "the first process has ended: --resume continues from the last checkpoint"),
    ],
)
def test_none_waits_for_one_that_is_gone(tmp_path, gone, other, code, line):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    found = subprocess.run(  # ends when both have let go of the pipe
        [sys.executable, script, gone, other],
        stderr=subprocess.PIPE, text=True, timeout=300, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (found.returncode, found.stderr.splitlines()) == (code, [line])


@pytest.fixture
def ended(monkeypatch):
    """Codes that this process would have ended with, as another one failed."""
    codes = queue.SimpleQueue()
    monkeypatch.setattr("legnet_cli.engine.train.processes.os._exit", codes.put)
    return codes


def start(monkeypatch, code):
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", code])
    return local_processes(PLACE, 2, 1)


def test_one_that_fails_ends_all_with_its_code(monkeypatch, caplog, ended):
    before = dict(os.environ)
    with start(monkeypatch, "import os; os._exit(3 if os.environ['LOCAL_RANK'] == '1' else 5)"):
        assert os.environ["WORLD_SIZE"] == "2"
        assert ended.get(timeout=60) == 3
    assert caplog.text == ""  # it has told why
    assert dict(os.environ) == before


def test_the_first_process_leaves_last_whatever_the_code_of_the_others(monkeypatch, tmp_path, ended):
    late = tmp_path / "late"
    with start(monkeypatch, f"import time, sys; time.sleep(0.5); open({str(late)!r}, 'w').close(); sys.exit(143)"):
        pass
    assert late.exists()
    assert ended.empty()


def test_an_error_ends_the_others_at_once(monkeypatch, tmp_path, ended):
    started = tmp_path / "started"
    code = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(ConfigError), start(monkeypatch, code):  # noqa: PT012
        while not started.exists() or not started.read_text():
            time.sleep(0.01)
        raise ConfigError
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
    assert ended.empty()


@pytest.mark.parametrize(
    ("variables", "devices", "nodes"),
    [
        ({"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3", "LOCAL_RANK": "1"}, 3, 2),
        ({"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "1"}, 4, 2),
        ({"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_NAME": "interactive"}, 1, 1),
        ({}, 1, 1),
    ],
)
def test_launchers_overrule_the_number_of_devices(monkeypatch, variables, devices, nodes):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = []

    class Recorder:
        global_rank = 0

        def __init__(self, **options):
            made.append((options["devices"], options["num_nodes"], options["strategy"]))

        def launch(self):
            """Start nothing."""

    monkeypatch.setattr("legnet_cli.engine.train.devices.Fabric", Recorder)
    with open_fabric("cpu", 1, 1, "fp32"):
        assert made == [(devices, nodes, "ddp" if devices * nodes > 1 else "auto")]


def test_settings_of_slurm_that_disagree_are_one_line(monkeypatch):
    for name, value in {"SLURM_NTASKS": "8", "SLURM_JOB_NAME": "train"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    with pytest.raises(ConfigError, match=r"SLURM: .*--ntasks-per-node=8"), open_fabric("cpu", 1, 1, "fp32"):
        pass
