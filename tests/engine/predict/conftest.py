import pytest
from blobs import draw
from searches import BOXES, SHAPE, VALUES

from legnet_cli.engine.predict import plan as planning


@pytest.fixture
def small_blocks(monkeypatch):
    """Scenes of several blocks, of three tiles each."""
    monkeypatch.setattr(planning, "BLOCK", 3)


@pytest.fixture
def a_day(monkeypatch):
    """The date of all that is written."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(20_000 * 86_400 + 12_345))


@pytest.fixture
def scene(write_scene):
    return write_scene("a.tif", draw(SHAPE, BOXES, VALUES))


@pytest.fixture
def scenes(write_scene):
    return [write_scene(f"s/{name}.tif", draw(SHAPE, BOXES, VALUES)) for name in "abc"]
