import os

import pytest

from legnet_cli.errors import DataError
from legnet_cli.geo.inputs import expand_scenes

FILES = ["b.tif", "a.TIF", "c.jp2", "notes.md", "b.tif.ovr", "b.tif.msk", "b.tif.aux.xml", "b.tfw", ".hidden.tif"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in [*FILES, "deep/er/d.png", "deep/e.dat", "empty/readme", "odd[1].tif", "dir.tif/inside.tif"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["b.tif"], ["b.tif"]),
        (["notes.md"], ["notes.md"]),  # a file named outright is GDAL's to judge
        (["."], ["./a.TIF", "./b.tif", "./c.jp2", "./odd[1].tif"]),
        (["*"], ["a.TIF", "b.tif", "c.jp2", "odd[1].tif"]),
        (["b*"], ["b.tif"]),
        (["*.tif"], ["b.tif", "odd[1].tif"]),
        (["*.ovr"], ["b.tif.ovr"]),
        (["deep/*.dat"], ["deep/e.dat"]),
        (["**/*"], ["a.TIF", "b.tif", "c.jp2", "deep/er/d.png", "dir.tif/inside.tif", "odd[1].tif"]),
        (["**/*.png"], ["deep/er/d.png"]),
        (["odd[1].tif"], ["odd[1].tif"]),  # not a pattern where such a file exists
        (["c.jp2", "*.tif", "./c.jp2", "b.tif"], ["c.jp2", "b.tif", "odd[1].tif"]),
        (["https://x.org/a.tif?key=1"], ["/vsicurl/https://x.org/a.tif?key=1"]),
        (["https://x.org/a.tif", "/vsicurl/https://x.org/a.tif"], ["/vsicurl/https://x.org/a.tif"]),
        (["zip://b.zip!in/a.tif"], ["/vsizip/b.zip/in/a.tif"]),
        (['HDF5:"x.h5"://data'], ['HDF5:"x.h5"://data']),
        (["GTIFF_DIR:2:b.tif"], ["GTIFF_DIR:2:b.tif"]),
        ([], []),
    ],
)
def test_expands_files_folders_globs_and_urls(folder, args, expected):
    assert expand_scenes(args) == expected


@pytest.mark.parametrize(
    ("arg", "words"),
    [("missing.tif", "no such file"), ("empty", "no raster in this folder"), ("*.img", "no raster matches")],
)
def test_refuses_what_names_no_raster(folder, arg, words):
    with pytest.raises(DataError, match=words) as caught:
        expand_scenes(["b.tif", arg])
    assert str(caught.value).startswith(arg)
    assert "\n" not in str(caught.value)


def test_a_link_and_its_target_are_one_scene(folder):
    os.symlink("b.tif", "link.tif")
    assert expand_scenes(["link.tif", "b.tif"]) == ["link.tif"]
