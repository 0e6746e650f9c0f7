"""A folder in the making: it takes its place when it is whole, and an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

from legnet_cli.errors import ConfigError, DataError
from legnet_cli.files import replace_folder
from legnet_cli.untrusted import parse_json, read_bytes

_JOURNAL = "journal.jsonl"
_MOST_JOURNAL = 1 << 28  # bytes: a million images


class Draft:
    """The output folder while it is written, beside its place and hidden, with a journal of the jobs that are done.

    Attributes:
        folder: to write to.
        done: what the journal says of the jobs that are done: None, or what was wrong.
    """

    def __init__(self, target: Path, fingerprint: str, *, overwrite: bool) -> None:
        """Take up the unfinished folder for ``target`` if its ``fingerprint`` is the same, else make a new one.

        Raises:
            ConfigError: there is an unfinished folder made otherwise, and ``overwrite`` is false.
            DataError: it cannot be written.
        """
        self._target = target
        self._base = draft_place(target)
        self.folder = self._base / target.name
        self.done: dict[str, str | None] = {}
        self._lock = threading.Lock()
        try:
            if self._base.exists() and not self._resume(fingerprint):
                if not overwrite:
                    raise ConfigError(
                        f"{self._base}: holds an unfinished split of other data or with other settings: "
                        "repeat those, or add --overwrite to drop it"
                    )
                shutil.rmtree(self._base)
            self.folder.mkdir(parents=True, exist_ok=True)
            journal = self._base / _JOURNAL
            if not journal.exists():
                journal.write_text(json.dumps(fingerprint) + "\n", encoding="utf-8")
            self._journal = journal.open("a", encoding="utf-8")
        except OSError as error:
            raise DataError(f"{target}: cannot be written ({error.strerror}): choose another place") from error

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
        """Leave the folder as it is, to be taken up later."""
        self._journal.close()

    def publish(self) -> None:
        """Put the folder in its place, where an older one gives way.

        Raises:
            DataError: that cannot be done.
        """
        replace_folder(self.folder, self._target)
        shutil.rmtree(self._base, ignore_errors=True)


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
