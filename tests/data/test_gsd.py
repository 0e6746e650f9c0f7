"""How large pixels are on the ground, as far as anybody says."""

from pathlib import Path

import numpy as np
import pytest

from legnet_cli.data.gsd import dataset_gsd, gsd_range, image_gsd, resampled
from legnet_cli.data.labels import ImageLabels
from legnet_cli.errors import ConfigError, DataError

PIXELS = np.zeros((40, 60), np.uint8)


@pytest.mark.parametrize(
    ("meta", "zoom", "expected"),
    [({}, 1, np.nan), ({"gsd": "0.3"}, 1, 0.3), ({"gsd": "0.3"}, 2, 0.3), ({"gsd": "null"}, 1, np.nan)],
)
def test_what_the_labels_say(meta, zoom, expected):
    np.testing.assert_equal(image_gsd(ImageLabels("a.png", meta=meta), zoom), [expected] * 2)


@pytest.mark.parametrize("zoom", [1, 2])
def test_the_georeference_outweighs_the_labels(write_scene, zoom):
    image = ImageLabels("a.tif", path=Path(write_scene("a.tif", PIXELS)), meta={"gsd": 7})  # of 0.5 m
    np.testing.assert_allclose(image_gsd(image, zoom), 0.5 * zoom, rtol=1e-3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([np.nan], None),
        ([0.5], (0.5, 0.5)),
        ([np.nan, 0.3, 0.3], (0.3, 0.3)),
        ([9.0] + [0.5] * 50 + [1.0] * 50 + [0.001], (0.5, 1.0)),  # a few that are wrong change nothing
    ],
)
def test_range(values, expected):
    assert gsd_range([np.full(2, value) for value in values]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"gsd": [5, 5.0]}', (5.0, 5.0)),
        *(
            (bad, None)
            for bad in ("{}", "[]", "", '{"gsd": null}', '{"gsd": ["a", 1]}', '{"gsd": [0, 1]}', "[" * 99_999)
        ),
    ],
)
def test_what_a_split_recorded(tmp_path, text, expected):
    (tmp_path / "split.json").write_text(text)
    assert dataset_gsd(tmp_path, [ImageLabels("a.png")]) == expected
    assert dataset_gsd(tmp_path, [ImageLabels("a.png", meta={"gsd": 2})]) == (2, 2)


def test_labels_of_resampled_pixels():
    quad = [[10.0, 10], [30, 10], [30, 20], [10, 20]]
    more = {"difficult": np.zeros(1, np.int64), "attributes": ({},), "places": (":1",)}
    image = ImageLabels("a.png", np.array([quad]), ("ship",), size=(101, 50), meta={"gsd": 10}, **more)
    found = resampled(image, 5)
    assert found.size == (202, 100)
    np.testing.assert_allclose(found.quads[0], np.array(quad) * 2)
    np.testing.assert_allclose(resampled(image, 20).quads[0], np.array(quad) * (50 / 101, 25 / 50))
    with pytest.raises(DataError, match=r"a\.png: its ground sampling distance is unknown: leave out --gsd"):
        resampled(ImageLabels("a.png", size=(9, 9)), 5)
    with pytest.raises(ConfigError, match="too coarse"):
        resampled(image, 0.1)
