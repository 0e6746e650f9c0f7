"""Fixtures that several test modules share."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import warnings
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # tests run side by side, and each has one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell: tests send that signal
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest
import rasterio
import rasterio.errors
from blobs import HALF_METRE, BlobDetector
from servers import Bucket, file_server, s3_server


@pytest.fixture(autouse=True)
def _fresh_logging():
    """A command sets up the package's logger for the rest of the process; the next test starts without that."""
    logger = logging.getLogger("legnet_cli")
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture(scope="session")
def mmrotate():
    """mmrotate's folder; a test that needs mmcv, mmdet or mmrotate uses this, and is skipped where they are absent."""
    package = importlib.util.find_spec("mmrotate")
    if package is None:
        pytest.skip("mmrotate is not installed")  # .ci/run accepts no such skip on its main Python
    return Path(package.origin).parent


@pytest.fixture
def blobs(monkeypatch):
    """The detector above, in place of any weights."""
    detector = BlobDetector()
    monkeypatch.setattr("legnet_cli.engine.predict.run.load_ensemble", lambda *_, **__: detector)
    return detector


@pytest.fixture
def write_scene(tmp_path):
    """Writer of a raster (bands, h, w) or (h, w) under a temporary folder; returns its path as text."""

    def write(name, image, crs="EPSG:32631", transform=HALF_METRE, **profile):
        image = np.atleast_3d(image.T).T
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        driver = {"png": "PNG", "jpg": "JPEG"}.get(path.suffix[1:], "GTiff")
        count, height, width = image.shape
        where = {} if transform is None else {"transform": transform}
        options = {"driver": driver, "count": count, "height": height, "width": width, "dtype": image.dtype}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(path, "w", crs=crs, **options, **where, **profile) as file:
                file.write(image)
        return str(path)

    return write


@pytest.fixture(scope="session")
def _s3():
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(_s3, monkeypatch):
    """An empty bucket of an S3 server, which the environment names as GDAL has it."""
    from legnet_cli.geo import stores

    for name, value in {
        "AWS_S3_ENDPOINT": _s3,
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "GDAL_HTTP_RETRY_DELAY": "0.01",
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    stores.open_store.cache_clear()
    yield Bucket(_s3)
    stores.open_store.cache_clear()


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A server of the files in the temporary folder."""
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with file_server(tmp_path) as server:
        yield server
