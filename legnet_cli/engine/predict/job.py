"""The folder of a search: what each unit of work found, so that nothing is lost and many workers can share it.

``job.json`` and ``kernels.txt`` say what decides the result, ``holder*.json`` who works on it and how far it has come;
``parts/<scene>/<block>.npz`` holds the boxes of a block of tiles before tiles are merged. A part appears whole or not
at all, and one that cannot be read counts as missing.
"""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Detections
from legnet_cli.engine.predict.plan import ScenePlan
from legnet_cli.errors import ConfigError, DataError, reading
from legnet_cli.files import PathLike, store_url, writable, write_whole
from legnet_cli.geo.stores import object_stamp
from legnet_cli.untrusted import open_file, parse_json, read_text

RECORD = "job.json"
SCENE = "{scene}"  # in the name of an output, of which there is then one a scene
_WRITTEN = "written.jsonl"
_KERNELS = "kernels.txt"
_HOLDER = "holder"
_FORMAT = 2
_MOST_RECORD = 1 << 28  # bytes: stamps of a million scenes


@dataclass(frozen=True)
class Part:
    """What a block of tiles holds.

    Attributes:
        found: boxes in pixels of the scene's grid.
        tile_of: number of the tile each was found in.
        seen: numbers of the tiles that were searched, those without data left out.
    """

    found: Detections
    tile_of: NDArray[np.int64]
    seen: NDArray[np.int64]


def job_folder(out: PathLike, asked: Path | None) -> Path:
    """Where a search keeps what it found: ``asked``, or a hidden folder beside its output; here, if that is remote."""
    if asked is not None:
        return asked
    target = Path(out) if store_url(out) is None else Path(Path(out).name)
    while SCENE in str(target.parent):
        target = target.parent
    return target.with_name(f".{target.name.replace(SCENE, '_scene_')}.legnet-job")


class Job:
    """An open job folder.

    Args:
        folder: its place; made if need be.
        settings: what decides the result.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder, self._settings = folder, dict(settings)
        self._record: dict[str, object] = {}
        self._note: dict[str, object] = {}
        self._holder = folder / f"{_HOLDER}.json"

    @contextmanager
    def open(self, plans: Sequence[ScenePlan], *, fresh: bool, shared: str = "") -> Iterator[None]:
        """Hold the folder; parts of an earlier run with the same settings stay.

        Args:
            plans: the scenes; parts of those that changed are refused.
            fresh: drop what an earlier run left.
            shared: name of the share, where several processes write to one folder.

        Raises:
            DataError: another process holds it, or it cannot be written.
            ConfigError: an earlier run had other settings, or a scene has changed since.
        """
        with writable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._held(shared):
            if fresh:
                shutil.rmtree(self.folder / "parts", ignore_errors=True)
                for name in (RECORD, _WRITTEN, _KERNELS):
                    (self.folder / name).unlink(missing_ok=True)
            self._check(plans)
            yield

    def agree(self, choose: Callable[[], str]) -> str:
        """How layers are computed by all processes and runs of this job: what the first of them chose.

        Raises:
            DataError: it cannot be written.
        """
        path = self.folder / _KERNELS
        with writable(self.folder), filelock.FileLock(self.folder / "lock-kernels"):
            with suppress(OSError, ValueError):
                return read_text(path)
            chosen = choose()
            write_whole(path, chosen.encode())
            return chosen

    @contextmanager
    def last(self, plans: Sequence[ScenePlan], *, shared: bool) -> Iterator[bool]:
        """Whether this process is the one that puts everything together.

        Without shares it is; of several shares the first that finds all blocks searched, and only while it is at it.
        """
        if not shared:
            yield True
            return
        lock = filelock.FileLock(self.folder / "lock")
        try:
            mine = self.complete(plans) and bool(lock.acquire(timeout=0))
        except filelock.Timeout:
            mine = False
        try:
            yield mine and self.complete(plans)  # another one may have just done so, and removed the folder
        finally:
            lock.release()

    @contextmanager
    def _held(self, shared: str) -> Iterator[None]:
        lock = filelock.FileLock(self.folder / f"lock{shared}")
        self._holder = self.folder / f"{_HOLDER}{shared}.json"
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            who = {"pid": "?", "host": "?", "since": "?"}
            with suppress(OSError, ValueError, TypeError):
                who |= parse_json(read_text(self._holder))
            raise DataError(
                f"{self.folder}: in use by process {who['pid']} on {who['host']} since {who['since']}: "
                "wait for it to end, or give another --out"
            ) from None
        try:
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            self._note = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
            write_whole(self._holder, json.dumps(self._note).encode())
            yield
        finally:
            lock.release()

    def note_progress(self, stage: str, progress: Mapping[str, object], failures: Sequence[tuple[str, str]]) -> None:
        """Note, for whoever asks the folder, what this process is at; see :func:`read_notes`.

        Raises:
            DataError: it cannot be written.
        """
        note = {**self._note, "seen": time.time(), "stage": stage, "progress": progress, "failures": failures}
        scratch = self._holder.with_suffix(".new")
        with writable(self.folder):  # which another share may have removed, and then it stays so
            scratch.write_text(json.dumps(note))
            os.replace(scratch, self._holder)

    def _check(self, plans: Sequence[ScenePlan]) -> None:
        """Compare with what an earlier run recorded, and record this one."""
        earlier = self._read_record()
        stamps = {plan.key: plan.stamp for plan in plans if plan.stamp}
        if earlier is not None:
            settings, known = earlier["settings"], earlier["scenes"]
            changed = [name for name in self._settings if settings.get(name) != self._settings[name]]
            if changed:
                was = ", ".join(f"{name} {settings.get(name)} (now {self._settings[name]})" for name in changed)
                raise ConfigError(
                    f"{self.folder}: unfinished search with other settings: {was}: repeat it with those, "
                    "or start again with --overwrite"
                )
            for plan in plans:
                before = known.get(plan.key)
                if before and plan.stamp and before != plan.stamp and self._has_parts(plan.key):
                    raise ConfigError(f"{plan.name}: has changed since its search began: start again with --overwrite")
            stamps = {**known, **stamps}
        every = {plan.key: (plan.name, len(plan.tiles), plan.km2) for plan in plans}
        self._record = {"format": _FORMAT, "settings": self._settings, "scenes": stamps, "plan": every}
        write_whole(self.folder / RECORD, json.dumps(self._record).encode())

    def _read_record(self) -> dict[str, dict[str, str]] | None:
        try:
            record = parse_json(read_text(self.folder / RECORD, _MOST_RECORD))
            if record["format"] == _FORMAT and isinstance(record["settings"], dict):
                return {key: dict(record[key]) for key in ("settings", "scenes")}
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    @functools.cached_property
    def _written(self) -> dict[str, str]:
        """Stamps of the outputs that an earlier run of this job wrote."""
        try:
            lines = read_text(self.folder / _WRITTEN, _MOST_RECORD).splitlines()
            return dict(parse_json(line) for line in lines)
        except (OSError, ValueError, TypeError):
            return {}

    def may_replace(self, out: Path) -> bool:
        """Whether ``out`` is as an earlier run of this job left it."""
        return self._written.get(str(out)) == _stamp(out)

    def note_written(self, out: Path) -> None:
        """Record an output that a later run of this job may replace.

        Raises:
            DataError: it cannot be recorded.
        """
        with writable(self.folder), (self.folder / _WRITTEN).open("a", encoding="utf-8") as file:
            file.write(json.dumps([str(out), _stamp(out)]) + "\n")

    def complete(self, plans: Sequence[ScenePlan]) -> bool:
        """Whether every block of ``plans`` has been searched."""
        return all(self.has(plan, block) for plan in plans for block in range(plan.blocks))

    def has(self, plan: ScenePlan, block: int) -> bool:
        """Whether a block has been searched."""
        return self._part(plan.key, block).exists()

    def _has_parts(self, key: str) -> bool:
        return any((self.folder / "parts" / key).glob("*.npz"))

    def _part(self, key: str, block: int) -> Path:
        return self.folder / "parts" / key / f"{block}.npz"

    def save(self, plan: ScenePlan, block: int, part: Part) -> None:
        """Keep what a block holds.

        Raises:
            DataError: it cannot be written.
        """
        content, found = io.BytesIO(), part.found
        arrays: dict[str, Any] = {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}
        arrays |= {} if found.views is None else {"views": found.views}
        np.savez(content, **arrays, tiles=part.tile_of, seen=part.seen)
        write_whole(self._part(plan.key, block), content.getvalue())

    def load(self, plan: ScenePlan, block: int) -> Part | None:
        """What a block holds; None if it was not searched, or its part is damaged."""
        try:
            # opened here: of a damaged file np.load leaves its own open
            with open_file(self._part(plan.key, block)) as raw, np.load(raw) as file:
                views = file.get("views")
                found = Detections(file["boxes"], file["scores"], file["labels"], views=views)
                return Part(found, file["tiles"], file["seen"])
        except Exception:  # of numpy, zipfile and zlib, as the damage is
            return None

    def drop(self, plan: ScenePlan) -> None:
        """Forget what was found in a scene."""
        shutil.rmtree(self.folder / "parts" / plan.key, ignore_errors=True)

    @property
    def empty(self) -> bool:
        """Whether nothing has been found so far."""
        return not any((self.folder / "parts").glob("*/*.npz"))

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class JobScene:
    """A scene of a job, as its folder has it.

    Attributes:
        name: unique in the job.
        tiles: number.
        km2: ground that they cover; None if unknown.
        done: tiles that have been searched.
    """

    name: str
    tiles: int
    km2: float | None
    done: int


def is_job(folder: Path) -> bool:
    """Whether ``folder`` is that of a job."""
    return (folder / RECORD).is_file()


def read_scenes(folder: Path) -> list[JobScene]:
    """The scenes of the last run of a job.

    Raises:
        DataError: the folder cannot be read.
    """
    with reading(folder, "name the folder of a job"):
        record = parse_json(read_text(folder / RECORD, _MOST_RECORD))
        size, scenes = int(record["settings"]["block"]), []
        for key, (name, tiles, km2) in record["plan"].items():
            blocks = [int(part.stem) for part in (folder / "parts" / key).glob("*.npz")]
            scenes.append(JobScene(name, tiles, km2, sum(min(size, tiles - block * size) for block in blocks)))
    return scenes


def read_notes(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What processes noted of themselves, by the share of the job that they have: ``3/8``, or empty for all of it."""
    for path in folder.glob(f"{_HOLDER}*.json"):
        with suppress(OSError, ValueError):
            note = parse_json(read_text(path, _MOST_RECORD))
            yield path.stem.removeprefix(_HOLDER).lstrip("-").replace("-of-", "/"), note


def _stamp(path: Path) -> str:
    if (url := store_url(path)) is not None:
        return object_stamp(url) or "absent"
    try:
        status = path.stat()
    except OSError:
        return "absent"
    return f"{status.st_size} {status.st_mtime_ns}"
