"""What there is to say of a search that runs elsewhere, or ran: from its job folder alone."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from legnet_cli.engine.predict.job import is_job, job_folder, read_notes, read_scenes
from legnet_cli.engine.predict.progress import SearchProgress
from legnet_cli.errors import DataError
from legnet_cli.files import is_alive

SILENT = 120.0  # seconds without a note, after which a process of another machine counts as lost
_AT_WORK = ("searching", "writing")


@dataclass(frozen=True)
class JobProcess:
    """A process that works, or worked, on a job.

    Attributes:
        share: which part of the job, as ``3/8``; empty for all of it.
        state: ``searching``, ``writing``, ``done``, ``stopped`` by an error or signal, or ``lost`` without a word.
        pid, host, since: which process.
        silent: seconds since it was last heard of.
        progress: how far it has come.
        reasons: why it could not search scenes, by name.
    """

    share: str
    state: str
    pid: int
    host: str
    since: str
    silent: float
    progress: SearchProgress
    reasons: dict[str, str]


@dataclass(frozen=True)
class JobStatus:
    """A job: what its folder holds, and who works on it.

    Attributes:
        folder: of the job.
        state: ``searching`` or ``writing`` while a process does so; then ``done`` (all that can be searched is), or
            ``stopped``.
        scenes_done, scenes_total, tiles_done, tiles_total: number; scenes that failed have no tiles.
        boxes: found so far, before tiles are merged.
        km2_done: ground that the tiles done cover.
        km2_per_second: ground that all processes together search in a second; 0 if none does.
        workers: that are alive.
        seconds_left: of the search; None if nobody searches.
        reasons: why scenes could not be searched, by name.
        processes: that work on it, or did so last.
    """

    folder: Path
    state: str
    scenes_done: int
    scenes_total: int
    tiles_done: int
    tiles_total: int
    boxes: int
    km2_done: float
    km2_per_second: float
    workers: int
    seconds_left: float | None
    reasons: dict[str, str]
    processes: tuple[JobProcess, ...]

    @property
    def failures(self) -> int:
        """How many scenes could not be searched."""
        return len(self.reasons)


def read_status(path: Path) -> JobStatus:
    """The state of the job in the folder ``path``, or of the one whose output is ``path``.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    folder = next(filter(is_job, (path, job_folder(path, None))), None)
    if folder is None:
        hint = (
            "the output is complete, and its job folder is removed"
            if path.exists()
            else "name a job folder, or its output"
        )
        raise DataError(f"{path}: no search is running there: {hint}")
    scenes, processes = read_scenes(folder), _read_processes(folder)
    reasons = {name: reason for one in processes for name, reason in one.reasons.items()}
    good = [scene for scene in scenes if scene.name not in reasons]
    done, total = sum(scene.done for scene in good), sum(scene.tiles for scene in good)
    searching = [one.progress for one in processes if one.state == "searching"]
    rate = sum((one.tiles_done - one.tiles_before) / max(one.seconds, 1e-9) for one in searching)
    return JobStatus(
        folder,
        _state([one.state for one in processes], all_done=done == total),
        scenes_done=sum(scene.done == scene.tiles for scene in good),
        scenes_total=len({*reasons, *(scene.name for scene in scenes)}),
        tiles_done=done,
        tiles_total=total,
        boxes=sum(one.progress.boxes for one in processes),
        km2_done=sum(scene.km2 * scene.done / max(scene.tiles, 1) for scene in good if scene.km2 is not None),
        km2_per_second=sum(one.km2_per_second for one in searching),
        workers=sum(one.progress.workers for one in processes if one.state in _AT_WORK),
        seconds_left=(total - done) / rate if rate else None,
        reasons=reasons,
        processes=tuple(processes),
    )


def _state(states: Sequence[str], *, all_done: bool) -> str:
    at_work = [state for state in _AT_WORK if state in states]
    if at_work:
        return at_work[0]
    return "done" if all_done and all(state == "done" for state in states) else "stopped"


def _read_processes(folder: Path) -> list[JobProcess]:
    """Those that share the job, or the one that came last for all of it."""
    notes = (_read_process(path, note) for path, note in read_notes(folder))
    found = sorted((one for one in notes if one is not None), key=lambda one: one.silent)
    if found and not found[0].share:
        return found[:1]
    return sorted((one for one in found if one.share), key=lambda one: [int(part) for part in one.share.split("/")])


def _read_process(share: str, note: Mapping[str, Any]) -> JobProcess | None:
    """The process that wrote a note; None for one that does not say all."""
    try:
        progress, state = SearchProgress(**note["progress"]), str(note["stage"])
        silent = max(time.time() - float(note["seen"]), 0.0)
        gone = note["host"] == socket.gethostname() and not is_alive(int(note["pid"]))
        if state in _AT_WORK and (gone or silent > SILENT):
            state = "lost"
        who = int(note["pid"]), str(note["host"]), str(note["since"])
        return JobProcess(share, state, *who, silent, progress, dict(note["failures"]))
    except (ValueError, KeyError, TypeError):
        return None
