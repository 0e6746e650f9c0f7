"""A folder in the making: it takes its place when it is whole, and an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import filelock

from legnet_cli.errors import ConfigError, DataError
from legnet_cli.files import replace_folder, writable, write_whole
from legnet_cli.untrusted import parse_json, read_bytes, read_text

_JOURNAL = "journal.jsonl"
_MOST_JOURNAL = 1 << 28  # bytes: a million images


class Draft:
    """The output folder while it is written, beside its place and hidden, with a journal of the jobs that are done.

    Attributes:
        folder: to write to.
        done: what the journal says of the jobs that are done: None, or what was wrong.
    """

    def __init__(self, target: Path, fingerprint: str, *, overwrite: bool) -> None:
        """Hold the unfinished folder for ``target``: the one there if its ``fingerprint`` is the same, else a new one.

        Raises:
            ConfigError: there is an unfinished folder made otherwise, and ``overwrite`` is false.
            DataError: it cannot be written, or another process is at it.
        """
        self._target = target
        self._base = draft_place(target)
        self._hold = _hold(self._base, target)
        self.folder = self._base / target.name
        self.done: dict[str, str | None] = {}
        self._lock = threading.Lock()
        journal = self._base / _JOURNAL
        try:
            if journal.exists() and not self._resume(fingerprint):
                if not overwrite:
                    raise ConfigError(
                        f"{self._base}: holds an unfinished split of other data or with other settings: "
                        "repeat those, or add --overwrite to drop it"
                    )
                shutil.rmtree(self.folder, ignore_errors=True)
                journal.unlink()
            self.folder.mkdir(parents=True, exist_ok=True)
            if not journal.exists():
                journal.write_text(json.dumps(fingerprint) + "\n", encoding="utf-8")
            self._journal = journal.open("a", encoding="utf-8")
        except OSError as error:
            self._hold.release()
            raise DataError(f"{target}: cannot be written ({error.strerror}): choose another place") from error
        except BaseException:
            self._hold.release()
            raise

    def _resume(self, fingerprint: str) -> bool:
        """Read the journal; whether it belongs to ``fingerprint``."""
        journal = self._base / _JOURNAL
        text = read_bytes(journal, _MOST_JOURNAL).decode("utf-8", "replace") if journal.exists() else ""
        lines = text.split("\n")
        if lines[0] != json.dumps(fingerprint):
            return False
        self.done = dict(entry for line in lines[1:] if (entry := _entry(line)) is not None)
        whole = [json.dumps(fingerprint), *map(json.dumps, self.done.items())]
        journal.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
        return True

    def finish(self, job: str, fault: str | None) -> None:
        """Note that ``job`` is done, and what was wrong with it. Safe to call from many threads."""
        with self._lock:
            self.done[job] = fault
            self._journal.write(json.dumps((job, fault)) + "\n")
            self._journal.flush()

    def close(self) -> None:
        """Leave what is not published as it is, to be taken up later."""
        self._journal.close()
        self._hold.release()

    def publish(self) -> None:
        """Put the folder in its place, where an older one gives way.

        Raises:
            DataError: that cannot be done.
        """
        self._journal.close()
        replace_folder(self.folder, self._target)
        shutil.rmtree(self._base, ignore_errors=True)


def _hold(base: Path, target: Path) -> filelock.BaseFileLock:
    """The lock of the folder ``base``, which is made if need be; it says who holds it.

    Raises:
        DataError: another process does.
    """
    with writable(target):
        base.mkdir(parents=True, exist_ok=True)
    lock, holder = filelock.FileLock(base / "lock"), base / "holder.json"
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        who = {"pid": "?", "host": "?", "since": "?"}
        with suppress(OSError, ValueError, TypeError):
            who |= parse_json(read_text(holder))
        raise DataError(
            f"{target}: is being written by process {who['pid']} on {who['host']} since {who['since']}: "
            "wait for it to end, or give another --out"
        ) from None
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with writable(target):
        write_whole(holder, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode())
    return lock


def _entry(line: str) -> tuple[str, str | None] | None:
    """What a line of the journal says; None if it was cut short or damaged: its job is done again."""
    try:
        match parse_json(line):
            case [str(job), str() | None as fault]:
                return job, fault
    except ValueError:
        pass
    return None


def draft_place(target: Path) -> Path:
    """Where the draft of ``target`` lies until it is whole."""
    return target.parent / f".legnet-{target.name}.unfinished"
