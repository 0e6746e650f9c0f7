"""What tells whether a scene has changed."""

import os
import zipfile

import pytest

from legnet_cli.geo.inputs import find_scenes, find_stamps, local_stamp


def stamp_of(path):
    (stamp,) = find_stamps(find_scenes([path])).values()
    return stamp


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"12345")
    (tmp_path / "x.h5").write_bytes(b"1234567")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/a.tif", b"123")
    for name in ("a.tif", "x.h5", "a.zip"):
        os.utime(tmp_path / name, (1_000_000_000, 1_000_000_000))
    return tmp_path


@pytest.mark.parametrize(
    ("form", "file"),
    [
        ("{}/a.tif", "a.tif"),
        ("file://{}/a.tif", "a.tif"),
        ("zip://{}/a.zip!in/a.tif", "a.zip"),
        ("/vsizip/{}/a.zip/in/a.tif", "a.zip"),
        ('HDF5:"{}/x.h5"://data', "x.h5"),
    ],
)
def test_local_files_and_what_is_inside_them(files, form, file):
    path = form.format(files)
    assert stamp_of(path) == f"{(files / file).stat().st_size} 1000000000000000000"
    os.utime(files / file, (1_000_000_001, 1_000_000_001))
    assert stamp_of(path).endswith(" 1000000001000000000")


@pytest.mark.parametrize("path", ["", ".", "missing.tif", "NETCDF:a.nc:x", "/vsis3/b/a.tif", "a\0.tif"])
def test_what_has_no_local_stamp(path):
    assert local_stamp(path) == ""


def test_one_request_a_scene(files, web):
    for number in range(40):
        os.link(files / "a.tif", files / f"{number}.tif")
    scenes = find_scenes([f"{web.url}/{number}.tif" for number in range(40)])
    assert set(find_stamps(scenes).values()) == {"5 Sun, 09 Sep 2001 01:46:40 GMT"}
    assert web.busy.be(0.3) == {"GET": 40}
    assert set(find_stamps(scenes).values()) == {"5 Sun, 09 Sep 2001 01:46:40 GMT"}


def test_a_changed_file_of_a_server(files, web):
    before = stamp_of(f"{web.url}/a.tif")
    os.utime(files / "a.tif", (1_000_000_001, 1_000_000_001))
    assert stamp_of(f"{web.url}/a.tif") not in (before, "")
    assert stamp_of(f"zip://{web.url}/a.zip!in/a.tif").startswith(f"{(files / 'a.zip').stat().st_size} ")


@pytest.mark.parametrize("url", ["missing.tif", "a b.tif", "[.tif"])
def test_what_a_server_does_not_tell(files, web, url):
    assert stamp_of(f"{web.url}/{url}") == ""
