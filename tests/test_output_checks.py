"""Which outputs are refused before any work."""

import os
from contextlib import nullcontext

import pytest

from legnet_cli.errors import ConfigError, DataError, LegnetError
from legnet_cli.files import (
    check_folder,
    check_not_input,
    check_output,
    is_folder_output,
)

SUFFIXES = (".geojson", ".csv")


@pytest.mark.parametrize(
    ("path", "folder"),
    [("out", True), ("out/", True), ("a/b.c/", True), ("out.csv", False), ("a.b/c", True), (".hidden", True)],
)
def test_is_folder_output(path, folder):
    assert is_folder_output(path) is folder


@pytest.mark.parametrize("name", ["a.csv", "A.GeoJSON", "new/deep/a.csv", "folder", "folder/", "full", "file.csv"])
def test_check_output_passes_and_creates_nothing(tmp_path, name):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()  # not a file that would be replaced
    (tmp_path / "file.csv").touch()
    before = sorted(tmp_path.rglob("*"))
    path = f"{tmp_path}/{name}"
    check_output(path, overwrite=name == "file.csv", suffixes=SUFFIXES, folder_files="Task1_*.txt")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("a.json", ConfigError, r"unknown output format '.json': choose from .geojson, .csv or a folder for Task1_\*"),
        ("file.csv", ConfigError, "exists already.*--overwrite"),
        ("full", ConfigError, "exists already.*--overwrite"),
        ("folder.csv", ConfigError, "is a folder"),
        ("plain", ConfigError, "is a file"),
        ("file.csv/a.csv", DataError, "cannot write in .*file.csv .Not a directory"),
        ("file.csv/new/folder", DataError, "cannot write in .*file.csv .Not a directory"),
    ],
)
def test_check_output_refuses(tmp_path, name, error, message):
    for folder in ("full", "folder.csv"):
        (tmp_path / folder).mkdir()
    for file in ("full/Task1_ship.txt", "file.csv", "plain"):
        (tmp_path / file).touch()
    path = tmp_path / name
    with pytest.raises(error, match=message) as caught:
        check_output(path, overwrite=False, suffixes=SUFFIXES, folder_files="Task1_*.txt")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["s3://bucket/a.csv", "s3:/bucket/a.csv", "https://x/a.csv", "/vsis3/bucket/a.csv", "gs://b/folder"]
)
def test_places_elsewhere_cannot_be_written(path):
    with pytest.raises(ConfigError, match="to local folders"):
        check_output(path, overwrite=True, suffixes=SUFFIXES, folder_files="Task1_*.txt")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("target", ["there.csv", "nowhere.csv", "folder"])
def test_links_are_not_replaced(tmp_path, target):
    (tmp_path / "there.csv").touch()
    (tmp_path / "folder").mkdir()
    link = tmp_path / ("link" if target == "folder" else "link.csv")
    link.symlink_to(target)
    with pytest.raises(ConfigError, match=f"is a link: give its target, {target}"):
        check_output(link, overwrite=True, suffixes=SUFFIXES, folder_files="Task1_*.txt")


def test_inputs_are_not_replaced(tmp_path):
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).touch()
    inputs = [tmp_path / "a.tif", "https://x/y.tif", tmp_path / "gone.tif"]
    check_not_input([tmp_path / "b.tif", tmp_path / "c.tif"], inputs)
    (tmp_path / "there").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"there/a\.tif: is an input of this run"):
        check_not_input([tmp_path / "there" / "a.tif"], inputs)


def test_check_output_without_a_folder_form(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown output format '': choose from \.png"):
        check_output(tmp_path / "out", overwrite=False, suffixes=(".png",))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_check_output_in_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="Permission denied"):
        check_output(tmp_path / "a.csv", overwrite=False, suffixes=SUFFIXES)


@pytest.mark.parametrize(
    ("out", "overwrite", "message"),
    [
        ("src", True, "must be apart from"),
        ("src/deep/inside", True, "must be apart from"),
        (".", True, "must be apart from"),
        ("made", False, "exists already: choose another name or add --overwrite"),
        ("other", True, "not an output of legnet record: --overwrite will not replace it"),
        ("file", True, "is a file"),
        ("x" * 300, True, "cannot be written"),
        ("made", True, None),
        ("empty", False, None),
        ("new/deep", False, None),
    ],
)
def test_check_folder(tmp_path, out, overwrite, message):
    for name in ("src", "made", "other", "empty"):
        (tmp_path / name).mkdir()
    for file in ("made/record.json", "other/notes.txt", "file"):
        (tmp_path / file).touch()
    before = sorted(tmp_path.rglob("*"))
    expected = nullcontext() if message is None else pytest.raises(LegnetError, match=message)
    with expected:
        check_folder(tmp_path / out, source=tmp_path / "src", record="record.json", overwrite=overwrite)
    assert sorted(tmp_path.rglob("*")) == before
