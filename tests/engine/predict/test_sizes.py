"""Objects of odd size are flagged or dropped."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pyogrio.raw
import pytest
from blobs import BlobDetector, draw

from legnet_cli.detectors.ensemble import join
from legnet_cli.detectors.loader import Detector
from legnet_cli.detectors.metadata import ExportFacts, from_metadata, to_metadata
from legnet_cli.detectors.views import Views
from legnet_cli.detectors.weights.card import CardError, checked_card
from legnet_cli.detectors.weights.sizes import SizeLimits
from legnet_cli.engine.predict import PredictConfig, predict
from legnet_cli.errors import ConfigError

BOXES = [(60, 50, 40, 12, 0.4), (128, 100, 80, 16, -0.7), (220, 180, 40, 30, 1.2), (250, 40, 24, 10, 0.0)]
VALUES = [250, 250, 250, 150]
# on pixels of half a metre: the second is too long, the third too wide, the last one of another class
METRES = {"bright": SizeLimits((15, 30), (4, 12), True, 99).to_dict()}
PIXELS = {"bright": SizeLimits((30, 60), (8, 24), False, 99).to_dict()}


@pytest.fixture
def found(tmp_path, write_scene, monkeypatch):
    def search(check, sizes, **place):
        detector = BlobDetector()
        detector.card = replace(detector.card, sizes=sizes)
        monkeypatch.setattr("legnet_cli.engine.predict.run.load_ensemble", lambda *_, **__: detector)
        scene = write_scene("a.tif", draw((230, 300), BOXES, VALUES), **place)
        result = predict(PredictConfig((scene,), tmp_path / "a.geojson", size_check=check, overwrite=True))
        rows = [one["properties"] for one in json.loads((tmp_path / "a.geojson").read_text())["features"]]
        return result, rows

    return search


@pytest.mark.parametrize(("sizes", "place"), [(METRES, {}), (PIXELS, {}), (PIXELS, {"crs": None, "transform": None})])
def test_odd_sizes_are_flagged_or_dropped(found, sizes, place, caplog):
    caplog.set_level(logging.INFO)
    length = "length_m" if place == {} else "length_px"

    plain, rows = found("off", sizes, **place)
    assert (plain.odd_sizes, len(rows)) == (None, 4)
    assert "odd_size" not in rows[0]

    flagged, rows = found("flag", sizes, **place)
    odd = [row[length] for row in rows if row["odd_size"]]
    unit = 1 if length == "length_px" else 0.5
    assert (flagged.odd_sizes, len(rows)) == (2, 4)
    assert sorted(odd) == pytest.approx([40 * unit, 80 * unit], rel=0.1)
    assert "2 objects of a size that its class had nowhere in training: odd_size is true" in caplog.text

    dropped, rows = found("drop", sizes, **place)
    assert (dropped.odd_sizes, len(rows)) == (2, 2)
    assert "left out" in caplog.text


def test_without_a_place_lengths_in_metres_tell_nothing(found):
    result, rows = found("drop", METRES, crs=None, transform=None)

    assert (result.odd_sizes, len(rows)) == (0, 4)


def test_weights_that_know_no_sizes(found):
    with pytest.raises(ConfigError, match="--size-check: blobs does not know how large"):
        found("flag", None)


@pytest.mark.parametrize(
    ("other", "known"),
    [
        (METRES, {"bright": ([15, 30], [4, 12], 198)}),
        ({"bright": SizeLimits((10, 20), (5, 15), True, 1).to_dict()}, {"bright": ([10, 30], [4, 15], 100)}),
        (PIXELS, {}),
        (None, {}),
    ],
)
def test_several_weights_join_their_limits(other, known):
    card = BlobDetector().card
    members = [
        Detector(replace(card, sizes=one, name=str(i)), None, "fp32", None) for i, one in enumerate((METRES, other))
    ]

    found = join(members, Views()).card.size_limits

    assert {name: ([*one.length], [*one.width], one.objects) for name, one in found.items()} == known


def test_exports_carry_them_and_damaged_ones_are_refused():
    card = replace(BlobDetector().card, sizes=METRES)
    text = to_metadata(card, ExportFacts("fp32", 0.05, 0.1, 2000, None, ""))

    assert from_metadata(text, "a.onnx")[0].sizes == METRES

    for wrong in ([1], {"bright": {}}, {"bright": {**METRES["bright"], "length": [3, 2]}}):
        with pytest.raises(CardError, match="sizes is"):
            checked_card(replace(card, sizes=wrong))
    assert np.isfinite(checked_card(card).size_limits["bright"].length).all()


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".shp", ".parquet"])
def test_flags_in_every_format(tmp_path, write_scene, monkeypatch, suffix):
    detector = BlobDetector()
    detector.card = replace(detector.card, sizes=METRES)
    monkeypatch.setattr("legnet_cli.engine.predict.run.load_ensemble", lambda *_, **__: detector)
    scene = write_scene("a.tif", draw((230, 300), BOXES, VALUES))
    out = tmp_path / f"a{suffix}"

    predict(PredictConfig((scene,), out, size_check="flag"))

    if suffix == ".parquet":
        import pyarrow.parquet

        flags = pyarrow.parquet.read_table(out).column("odd_size").to_pylist()
    else:
        meta, _, _, (flags,) = pyogrio.raw.read(out, layer=out.stem, columns=["odd_size"])
        assert list(meta["fields"]) == ["odd_size"]
    assert sorted(map(bool, flags)) == [False, False, True, True]
