"""Files and folders appear whole or not at all."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from legnet_cli import files
from legnet_cli.errors import DataError
from legnet_cli.files import (
    atomic_folder,
    atomic_path,
    replace_folder,
)


def test_file_appears_only_when_done(tmp_path):
    target = tmp_path / "new" / "a.csv"
    with atomic_path(target) as scratch:
        assert scratch.name == target.name
        scratch.write_text("x")
        assert not target.exists()
        assert [p.name[0] for p in target.parent.iterdir()] == ["."]
    assert target.read_text() == "x"
    assert list(target.parent.iterdir()) == [target]


def test_permissions_are_the_usual_ones(tmp_path):
    (tmp_path / "usual").touch()
    with atomic_path(tmp_path / "a.csv") as scratch:
        scratch.write_text("x")
    assert (tmp_path / "a.csv").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("as_folder", [False, True])
def test_nothing_is_left_after_an_error(tmp_path, error, as_folder):
    target = tmp_path / "out"
    if as_folder:
        target.mkdir()
        (target / "a.txt").write_text("old")
    else:
        target.write_text("old")
    with pytest.raises(error), atomic_path(target) as scratch:  # noqa: PT012
        if as_folder:
            scratch.mkdir()
            scratch = scratch / "a.txt"
        scratch.write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == [target]
    assert (target / "a.txt" if as_folder else target).read_text() == "old"


def test_sidecars_come_along(tmp_path):
    with atomic_path(tmp_path / "a.shp") as scratch:
        for suffix in (".shp", ".dbf"):
            scratch.with_suffix(suffix).write_text(suffix)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.dbf", "a.shp"]


def several(target, text, *, kind):
    """Write an output of several files, one of which goes when it is written anew."""
    stale = list(target.glob("*.txt")) if kind == "folder" else [target.with_suffix(".old")]
    with atomic_path(target, stale=stale) as scratch:
        if kind == "folder":
            scratch.mkdir()
            for name in ("a", "b", text):
                (scratch / f"{name}.txt").write_text(text)
            scratch = scratch.with_name("out.json")
        else:
            scratch.write_text(text)
            scratch = scratch.with_suffix(".dbf")
        scratch.write_text(text)


def content(folder):
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def prepare(tmp_path, kind):
    """An output of several files, and one of somebody else; returns its path and what there must be in the end."""
    target = tmp_path / {"folder": "out", "file": "out.shp"}[kind]
    several(target, "old", kind=kind)
    if kind == "file":
        target.with_suffix(".old").write_text("old")
    (tmp_path / "notes").write_text("mine")
    if kind == "folder":
        return target, {
            "out/a.txt": "new",
            "out/b.txt": "new",
            "out/new.txt": "new",
            "out.json": "new",
            "notes": "mine",
        }
    return target, {"out.shp": "new", "out.dbf": "new", "notes": "mine"}


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_several_files_are_replaced_as_a_whole(tmp_path, kind):
    target, expected = prepare(tmp_path, kind)
    several(target, "new", kind=kind)
    assert content(tmp_path) == expected


@pytest.mark.parametrize("kind", ["folder", "file"])
@pytest.mark.parametrize("failing", range(8))
def test_several_files_stay_after_an_error(tmp_path, kind, failing, monkeypatch):
    target, expected = prepare(tmp_path, kind)
    before = content(tmp_path)
    real, left = os.replace, iter(range(failing, -1000, -1))

    def stop(source, goal):
        if next(left) == 0:
            raise KeyboardInterrupt
        real(source, goal)

    monkeypatch.setattr(os, "replace", stop)
    try:
        several(target, "new", kind=kind)
    except KeyboardInterrupt:
        assert content(tmp_path) == before
    else:
        assert failing >= 4
        assert content(tmp_path) == expected


KILLED = """
import os, pathlib, signal, sys
sys.path[:0] = [{tests!r}]
from test_files import several
real, left = os.replace, iter(range({failing}, -1000, -1))
def stop(source, goal):
    if next(left) == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, goal)
os.replace = stop
several(pathlib.Path({target!r}), "new", kind={kind!r})
"""


@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
@pytest.mark.parametrize("kind", ["folder", "file"])
@pytest.mark.parametrize("failing", range(4))
def test_several_files_are_whole_or_absent_after_a_kill(tmp_path, kind, failing):
    target, _ = prepare(tmp_path, kind)
    before = content(tmp_path)
    tests = os.path.dirname(__file__)
    code = KILLED.format(tests=tests, failing=failing, target=str(target), kind=kind)
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert not target.exists() or content(target.parent).items() >= before.items()
    files._sweep.cache_clear()
    with atomic_path(tmp_path / "other") as scratch:  # the next process, an output of any kind
        scratch.write_text("x")
    assert content(tmp_path) == before | {"other": "x"}


@pytest.mark.parametrize("name", ["out/a.txt", "out.csv", "out.json"])
def test_what_appears_meanwhile_stays(tmp_path, name):
    as_folder = name == "out/a.txt"
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="has appeared meanwhile"):  # noqa: PT012, SIM117
        with atomic_path(tmp_path / ("out" if as_folder else "out.csv"), overwrite=False) as scratch:
            if as_folder:
                scratch.mkdir()
            (scratch / "a.txt" if as_folder else scratch).write_text("new")
            scratch.with_suffix(".json").write_text("new")
            (tmp_path / name).write_text("mine")
    assert content(tmp_path) == {name: "mine"}


def test_folder_keeps_other_files(tmp_path):
    for text in ("old", "new"):
        with atomic_path(tmp_path / "out") as scratch:
            scratch.mkdir()
            (scratch / "a.txt").write_text(text)
        (tmp_path / "out" / "notes").touch()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.txt", "notes"]
    assert (tmp_path / "out" / "a.txt").read_text() == "new"


def test_rename_that_fails(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(28, "No space left on device")

    (tmp_path / "a.csv").write_text("old")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DataError, match=r"a\.csv: cannot be written \(No space left on device\)"):  # noqa: SIM117
        with atomic_path(tmp_path / "a.csv") as scratch:
            scratch.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "old"


def test_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"), atomic_path(tmp_path / "file" / "a.csv"):
        pytest.fail("the body must not run")


def test_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    steps = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (steps.append(name), real(*args)))
    with atomic_path(tmp_path / "a.csv") as scratch:
        scratch.write_text("x")
    assert steps == ["fsync", "replace"]


def _folder(path, name):
    path.mkdir()
    (path / name).touch()
    return path


@pytest.mark.parametrize("old", [False, True])
def test_folder_is_replaced_whole(tmp_path, old):
    target = _folder(tmp_path / "out", "old") if old else tmp_path / "new" / "out"
    with atomic_folder(target) as scratch:
        (scratch / "fresh").touch()
    assert [path.name for path in target.iterdir()] == ["fresh"]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_folder_stays_after_an_error(tmp_path, error):
    target = _folder(tmp_path / "out", "old")
    with pytest.raises(error), atomic_folder(target) as scratch:  # noqa: PT012
        (scratch / "half").touch()
        raise error
    assert sorted(tmp_path.rglob("*")) == [target, target / "old"]


@pytest.mark.parametrize("failing", [0, 1])
def test_folder_that_cannot_be_moved_stays(tmp_path, monkeypatch, failing):
    new, target = _folder(tmp_path / "new", "fresh"), _folder(tmp_path / "out", "old")
    real, moves = os.replace, []

    def refuse(source, goal):
        moves.append(source)
        if len(moves) == failing + 1:
            raise OSError(13, "Permission denied")
        real(source, goal)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DataError, match=r"out: cannot be written \(Permission denied\)"):
        replace_folder(new, target)
    assert sorted(tmp_path.rglob("*")) == [new, new / "fresh", target, target / "old"]


KILL = "os.kill(os.getpid(), signal.SIGKILL)"
INTERRUPTED = {
    "writing": f"with atomic_path(place / 'out') as scratch: scratch.write_text('half'); {KILL}",
    # between the two renames: the old folder is aside, the new one not yet in its place
    "replacing": "real, moves = os.replace, []\n"
    f"def stop(*names): moves.append(names); {KILL} if len(moves) == 2 else real(*names)\n"
    "os.replace = stop\n"
    "with atomic_folder(place / 'out') as scratch: (scratch / 'new').touch()",
}


@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
@pytest.mark.parametrize("when", INTERRUPTED)
def test_what_a_killed_process_left_goes_with_the_next_output(tmp_path, when):
    target = _folder(tmp_path / "out", "old")
    code = "import os, signal, pathlib\nfrom legnet_cli.files import atomic_folder, atomic_path\n"
    code += f"place = pathlib.Path({str(tmp_path)!r})\n" + INTERRUPTED[when]
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert any(path.name.startswith(".legnet-") for path in tmp_path.iterdir())
    with atomic_path(tmp_path / "other") as scratch:
        scratch.touch()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "other", target]
    assert [path.name for path in target.iterdir()] == ["old"]


def test_what_others_are_writing_stays(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = [
        f".legnet-new-{socket.gethostname()}-{os.getpid()}-abc",
        f".legnet-new-another-{gone.pid}-abc",
        f".legnet-{gone.pid}.unfinished",
        ".out.legnet-job",
        ".legnet-abc",
    ]
    for name in names:
        (tmp_path / name).mkdir()
    with atomic_path(tmp_path / "out") as scratch:
        scratch.touch()
    assert {path.name for path in tmp_path.iterdir()} == {*names, "out"}
