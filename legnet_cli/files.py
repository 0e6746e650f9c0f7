"""Output files that are either whole or absent: checked before the work starts, written aside, then renamed."""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from legnet_cli.errors import ConfigError, DataError

PathLike = str | os.PathLike[str]

_SCRATCH = re.compile(r"\.legnet-(?P<use>new|old)-(?P<host>.+)-(?P<pid>\d+)-[^-]+")
_BESIDE = ".beside"  # folder of what lay beside an output that was put aside
_STORE = re.compile(r"(?P<scheme>s3|gs|az):/+(?P<key>.+)")
_ELSEWHERE = re.compile(r"/vsi\w+/|[A-Za-z][A-Za-z0-9+.-]+:/")  # a letter alone is a disk


def is_folder_output(path: PathLike) -> bool:
    """Whether ``path`` names a folder to be written: it ends with a separator or has no suffix."""
    text = os.fspath(path)
    return text.endswith(("/", os.sep)) or Path(text).suffix == ""


def store_url(path: PathLike) -> str | None:
    """The address in an object store (``s3://bucket/key``) that a path stands for, for which two slashes are one."""
    found = _STORE.fullmatch(Path(path).as_posix())
    return f"{found['scheme']}://{found['key']}" if found else None


def check_output(
    path: PathLike, *, overwrite: bool, suffixes: Sequence[str] = (), folder_files: str | None = None
) -> None:
    """Refuse an output that could not be written, before any work is done; creates nothing.

    Args:
        path: the file to be written, or a folder (see :func:`is_folder_output`).
        overwrite: existing files may be replaced.
        suffixes: the file formats to choose from, lower case with the dot.
        folder_files: glob pattern of the files a folder output consists of; None if a folder makes no sense.

    Raises:
        ConfigError: unknown suffix, a folder in place of a file or the reverse, a symbolic link, or the output exists
            and ``overwrite`` is false.
        DataError: the place cannot be written.
    """
    target = Path(path)
    if _ELSEWHERE.match(os.fspath(path)):
        raise ConfigError(f"{path}: outputs can only be written to local folders: choose one and copy it afterwards")
    if target.is_symlink():
        raise ConfigError(f"{path}: is a link: give its target, {os.readlink(target)}")
    as_folder = folder_files is not None and is_folder_output(path)
    known = ", ".join(suffixes) + (f" or a folder for {folder_files}" if folder_files else "")
    if not as_folder and target.suffix.lower() not in suffixes:
        raise ConfigError(f"{path}: unknown output format {target.suffix!r}: choose from {known}")
    place = target if as_folder else target.parent
    try:
        if target.exists() and target.is_dir() != as_folder:
            raise ConfigError(f"{path}: is a {'file' if as_folder else 'folder'}: choose another name")
        if not overwrite and (any(target.glob(folder_files)) if as_folder and folder_files else target.exists()):
            raise ConfigError(f"{path}: exists already: choose another name or add --overwrite")
        while not place.exists():
            place = place.parent
        tempfile.TemporaryFile(dir=place).close()  # os.access does not know read-only mounts or quotas
    except OSError as error:
        raise DataError(f"{path}: cannot write in {place} ({error.strerror}): choose another folder") from error


def check_not_input(outputs: Iterable[PathLike], inputs: Iterable[PathLike]) -> None:
    """Refuse outputs that would replace what the work reads.

    Raises:
        ConfigError: one is the same file as an input.
    """
    files = {_identity(path): path for path in inputs}
    for path in outputs:
        known = _identity(path)
        if known is not None and known in files:
            raise ConfigError(f"{path}: is an input of this run ({files[known]}): choose another name")


def _identity(path: PathLike) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def check_folder(path: Path, *, source: Path, record: str, overwrite: bool) -> None:
    """Refuse a folder that is to be made from ``source`` but must not take its place; creates nothing.

    Args:
        path: the folder.
        source: what it is made from.
        record: name of the file in it that marks it as an output, which may be replaced; the verb's, and a suffix.
        overwrite: replace such an output.

    Raises:
        ConfigError: one of both lies in the other, or there is something that must stay.
        DataError: the place cannot be written.
    """
    try:
        one, other = source.resolve(), path.resolve()
        if one == other or other in one.parents or one in other.parents:
            raise ConfigError(f"{path}: must be apart from {source}: choose a folder beside it")
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path}: is a file: choose another name")
        if path.is_dir() and any(path.iterdir()):
            if not overwrite:
                raise ConfigError(f"{path}: exists already: choose another name or add --overwrite")
            if not (path / record).is_file():
                verb = Path(record).stem
                raise ConfigError(
                    f"{path}: not an output of legnet {verb}: --overwrite will not replace it: choose another name"
                )
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}): choose another name") from error


@contextmanager
def atomic_path(path: PathLike, *, overwrite: bool = True, stale: Sequence[Path] = ()) -> Iterator[Path]:
    """A path to write to that takes the place of ``path`` when the ``with`` body ends without an error.

    The path has the same name, in a hidden folder beside the target. The body may make it a file, with sidecar
    files beside it, or a folder of files. They are forced to the disk, then take the place of the old ones as a
    whole; but in a folder with files of somebody else, which stay, one by one. After any error or interrupt the old
    ones are there, and nothing is left of what the body wrote.

    Args:
        path: of the output.
        overwrite: replace what has appeared there meanwhile.
        stale: files that belong to the old output and go with it.

    Raises:
        DataError: for an OSError, be it in the body or in here: the output cannot be written.
    """
    target = Path(path)
    with _scratch(target) as scratch:
        yield scratch
        for file in scratch.parent.rglob("*"):
            if file.is_file():
                _sync(file)
        pairs = [(file, target.with_name(file.name)) for file in sorted(set(scratch.parent.iterdir()) - {scratch})]
        inside = [(file, target / file.name) for file in sorted(scratch.iterdir())] if scratch.is_dir() else []
        known = {*stale, *(goal for _, goal in inside)}
        if not overwrite:
            _refuse_newcomers([*known, *(goal for _, goal in pairs), *([] if inside else [target])])
        mixed = bool(inside) and target.is_dir() and not known.issuperset(target.iterdir())
        _install(pairs + (inside if mixed else [(scratch, target)]), stale)


def _refuse_newcomers(paths: Iterable[Path]) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise DataError(f"{path}: has appeared meanwhile: move it away and repeat the command")


def _install(moves: Sequence[tuple[Path, Path]], stale: Sequence[Path] = ()) -> None:
    """Move files and folders to their places, the last one being the output itself; all, or after an error none.

    Old ones are put aside before, the output itself first: after a crash there is the old output, the new one, or
    none, and then the next output written in the same folder moves the old one back.
    """
    main = moves[-1][1]
    goals = dict.fromkeys([*(goal for _, goal in reversed(moves)), *stale])
    old = [path for path in goals if os.path.lexists(path) and path.parent != main]  # a folder takes its own along
    if not old or (len(moves) == 1 and old == [main] and not main.is_dir()):
        for source, goal in moves:
            os.replace(source, goal)
        return
    aside = _make_scratch(main.parent, "old")
    done: list[tuple[Path, Path]] = []
    try:
        (aside / _BESIDE).mkdir()
        away = [(path, (aside if path == main else aside / _BESIDE) / path.name) for path in old]
        for source, goal in (*away, *moves):
            os.replace(source, goal)
            done.append((source, goal))
    except BaseException:
        for source, goal in reversed(done):
            os.replace(goal, source)
        raise
    finally:
        if main.exists():
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def atomic_folder(path: PathLike) -> Iterator[Path]:
    """An empty folder that takes the place of ``path``, old files and all, when the body ends without an error.

    After any error or interrupt the old folder is as it was.

    Raises:
        DataError: for an OSError, be it in the body or in here: the output cannot be written.
    """
    target = Path(path)
    with _scratch(target) as scratch:
        scratch.mkdir()
        yield scratch
        replace_folder(scratch, target)


def replace_folder(new: Path, target: Path) -> None:
    """Move the folder ``new`` to ``target``, on the same disk; what is there is removed once that has worked.

    After a crash in between, the next output written beside ``target`` moves the old folder back.

    Raises:
        DataError: it cannot be moved; the old folder is as it was.
    """
    with writable(target):
        _install([(new, target)])


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file that other processes read at any time: they see the old content or the new.

    It is not forced to the disk: for what can be checked when it is read, and made again.

    Raises:
        DataError: it cannot be written.
    """
    scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with writable(path):
        try:
            try:
                scratch.write_bytes(content)
            except FileNotFoundError:  # asked for only then: on a network share each question takes its time
                path.parent.mkdir(parents=True, exist_ok=True)
                scratch.write_bytes(content)
            os.replace(scratch, path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A path of the target's name in a hidden folder beside it, which is removed in the end."""
    with writable(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = _make_scratch(target.parent, "new")
        try:
            yield folder / target.name
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _make_scratch(place: Path, use: str) -> Path:
    """A hidden folder in ``place`` named after its process: for a ``new`` output, or an ``old`` one put aside."""
    _sweep(place.resolve())
    return Path(tempfile.mkdtemp(prefix=f".legnet-{use}-{_host()}-{os.getpid()}-", dir=place))


@functools.cache
def _sweep(place: Path) -> None:
    """Remove what killed processes of this machine left in ``place``; an old output goes back to its name."""
    for folder in place.glob(".legnet-*"):
        made = _SCRATCH.fullmatch(folder.name)
        if made is None or made["host"] != _host() or is_alive(int(made["pid"])):
            continue
        with suppress(OSError):  # another process sweeps too
            for old in folder.iterdir() if made["use"] == "old" else ():
                if old.name != _BESIDE and not (place / old.name).exists():
                    for beside in folder.glob(f"{_BESIDE}/*"):
                        os.replace(beside, place / beside.name)
                    os.replace(old, place / old.name)
            shutil.rmtree(folder, ignore_errors=True)


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname())


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs; on Windows, where asking would end it, always."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


@contextmanager
def writable(target: Path) -> Iterator[None]:
    """Any OSError of the body as a DataError: ``target`` cannot be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{target}: cannot be written ({reason}): free some space or choose another place") from error


def _sync(file: Path) -> None:
    """Force ``file`` to the disk: after a power failure a rename may be there without the content."""
    with file.open("r+b") as opened:
        try:
            os.fsync(opened.fileno())
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that cannot
                raise
