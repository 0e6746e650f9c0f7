"""A scene of four rectangles, searches of it, and detectors that stop a search."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import shapely
from blobs import BlobDetector

from legnet_cli.engine.predict import PredictConfig, predict

# centre x, y, length, width, angle; the second spans a seam of the 128-pixel tiles
BOXES = [(60, 50, 40, 12, 0.4), (128, 100, 44, 16, -0.7), (220, 180, 30, 14, 1.2), (250, 40, 24, 10, 0.0)]
VALUES = [160, 250, 250, 160]
SHAPE = (230, 300)
FORMATS = [".geojson", ".gpkg", ".fgb", ".shp", ".parquet", ".csv", ""]


class Stop(BaseException):
    """What no except clause expects, as a kill."""


class Dying(BlobDetector):
    """Stops the search at its n-th tile."""

    def __init__(self, tiles):
        super().__init__()
        self.left = tiles

    def detect(self, images):
        self.left -= len(images)
        if self.left < 0:
            raise Stop
        return super().detect(images)


def run(tmp_path, scenes=(), out="out.gpkg", **values):
    """Search ``scenes``, or replay what an output says."""
    scenes = (scenes,) if isinstance(scenes, str) else tuple(scenes)
    weights = {} if "replay" in values else {"weights": "any"}
    return predict(PredictConfig(scenes=scenes, out=out and tmp_path / out, **weights, **values))


def search(tmp_path, scenes, detector, monkeypatch, out="out.geojson", **values):
    """Search ``scenes`` with ``detector``."""
    monkeypatch.setattr("legnet_cli.engine.predict.run.load_ensemble", lambda *_, **__: detector)
    return run(tmp_path, scenes, out, **values)


def hidden(tmp_path):
    """Names of the job folders and drafts that were left."""
    return [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def features(tmp_path):
    """Features of the GeoJSON that :func:`search` writes."""
    return json.loads((tmp_path / "out.geojson").read_text())["features"]


def content(folder):
    """Bytes of all files below ``folder`` by path."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def rows(path, table):
    """Rows of a table of a GeoPackage."""
    with closing(sqlite3.connect(path)) as file:
        file.row_factory = sqlite3.Row
        return [dict(row) for row in file.execute(f"SELECT * FROM {table}")]


def on_ground(x0, y0, x1, y1):
    """A rectangle of pixels of a scene in map coordinates."""
    return shapely.box(500_000 + x0 / 2, 5_000_000 - y1 / 2, 500_000 + x1 / 2, 5_000_000 - y0 / 2)
