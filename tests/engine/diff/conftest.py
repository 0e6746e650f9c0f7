"""Layers of dates with known objects."""

from __future__ import annotations

import json

import numpy as np
import pyogrio
import pytest
import shapely
from dates import RECORD, UTM, on_map

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.engine.diff import DiffConfig, diff
from legnet_cli.geo.vector import About, Areas, Layer, write_layer


@pytest.fixture
def write_date(tmp_path):
    """Writer of the layer of a date; returns its path as text."""

    def write(name, boxes, classes="ship", *, crs=UTM, shift=(0, 0), seen=None, record=RECORD, **columns):
        path = tmp_path / name
        count = len(boxes)
        fields = {"class": np.broadcast_to(np.array(classes, np.str_), (count,)).copy(), "score": np.full(count, 0.9)}
        fields |= {key: np.asarray(values) for key, values in columns.items() if values is not None}
        fields = {key: values for key, values in fields.items() if key not in columns or columns[key] is not None}
        areas = None
        if seen is not None:
            area = shapely.transform(seen, lambda xy: on_map(xy, crs, shift))
            areas = Areas(np.array([area], object), {"scene": np.array(["a.tif"])})
        about = About(json.dumps(record) if record is not None else "", searched=areas)
        write_layer(path, Layer(on_map(boxes_to_polygons(boxes), crs, shift), crs, fields), about)
        return str(path)

    return write


@pytest.fixture
def compare(tmp_path):
    """``legnet diff`` of some layers; returns the result and the rows of the output."""

    def run(*dates, out="out.gpkg", **settings):
        result = diff(DiffConfig(dates=dates, out=tmp_path / out, **settings))
        return result, pyogrio.read_dataframe(tmp_path / out, layer=(tmp_path / out).stem)

    return run
