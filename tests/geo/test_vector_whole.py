"""Vector files are replaced as a whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pyogrio
import pytest
from layers import FORMATS, GDAL_SUFFIXES, HAS_PYARROW, layer, read, square

from legnet_cli.errors import DataError
from legnet_cli.geo.vector import (
    SUFFIXES,
    write_layer,
)


@pytest.mark.parametrize("suffix", FORMATS)
def test_replaces_what_is_there(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    write_layer(path, layer(square(1, 1, 1), square(2, 2, 1)))
    write_layer(path, layer(square(5, 5, 1), crs=None))
    geometries, crs, _ = read(path)
    assert [geometry.centroid.x for geometry in geometries] == [5]
    assert crs is None or crs.is_engineering  # no .prj file of the older one
    assert all(file.stem == "out" for file in tmp_path.iterdir())


def test_stale_sidecars_go(tmp_path):
    for name in ("out.qix", "out.sbn", "out.shp.xml", "out.gpkg-wal", "out.txt"):
        (tmp_path / name).touch()
    write_layer(tmp_path / "out.shp", layer(square(1, 1, 1)))
    write_layer(tmp_path / "out.gpkg", layer(square(1, 1, 1)))
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"out.txt", "out.gpkg", *(f"out{end}" for end in (".shp", ".shx", ".dbf", ".prj", ".cpg"))}


@pytest.mark.parametrize("error", [KeyboardInterrupt, pyogrio.errors.DataSourceError("no\nway"), OSError(28, "full")])
@pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
def test_failure_leaves_the_old_file(tmp_path, suffix, error, monkeypatch):
    path = tmp_path / f"out{suffix}"
    write_layer(path, layer(square(1, 1, 1)))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(target, *args, **kwargs):
        Path(target).write_text("half")
        raise error

    monkeypatch.setattr(pyogrio.raw, "write", fail)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else DataError) as caught:
        write_layer(path, layer(square(2, 2, 1)))
    assert "\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


FULL_DISK = """
import resource, signal, sys
import numpy as np, pyproj
from legnet_cli.errors import DataError
from legnet_cli.geo import features, gdal_vector, geoparquet
from legnet_cli.geo.vector import Layer, write_layer
for module in (features, gdal_vector, geoparquet):
    module.CHUNK = int(sys.argv[1])
n = 300
corners = np.random.default_rng(0).random((n, 1, 2)) + np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
layer = Layer(corners, pyproj.CRS.from_epsg(4326), {"class": np.array(["x" * 200] * n)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
for path in sys.argv[2:]:
    write_layer(path, layer)
    with open(path.replace(".shp", ".dbf"), "rb") as file:
        size = file.seek(0, 2)
    for limit in (100, size // 2, size - 300):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
        try:
            write_layer(path, layer)
        except DataError:
            pass
        else:
            sys.exit(f"{path}: no error at {limit} of {size} bytes")
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits file sizes")
@pytest.mark.parametrize("chunk", ["1000", "100"])
def test_full_disk(tmp_path, chunk):
    """The system refuses to let a file grow: at once, in the middle, or only when it is closed."""
    paths = [str(tmp_path / f"out{suffix}") for suffix in (SUFFIXES if HAS_PYARROW else GDAL_SUFFIXES)]
    code = [sys.executable, "-c", FULL_DISK, chunk, *paths]
    done = subprocess.run(code, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]
