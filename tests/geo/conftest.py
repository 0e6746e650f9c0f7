import pytest

from legnet_cli.geo import features, gdal_vector, geoparquet


@pytest.fixture
def small_chunks(monkeypatch):
    """Files are written three features at a time."""
    for module in (features, gdal_vector, geoparquet):
        monkeypatch.setattr(module, "CHUNK", 3)
