import numpy as np
import pytest

from legnet_cli.errors import ConfigError
from legnet_cli.geo.stretch import Stretch, is_number, to_uint8


def stretched(image, stretch, valid=True):
    """``image`` (h, w, bands) by the limits of its ``valid`` numbers."""
    bands = np.moveaxis(image, 2, 0)
    samples = [band[is_number(band) & valid] for band in bands]
    return np.moveaxis(to_uint8(bands, stretch.limits(image.dtype, samples)), 0, 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", Stretch("auto")),
        ("none", Stretch("none")),
        ("2,98", Stretch("percent", 2, 98)),
        ("0.5,99.5", Stretch("percent", 0.5, 99.5)),
        ("0,100", Stretch("percent", 0, 100)),
        ("0,0.3", Stretch("values", 0, 0.3)),  # reflectance: a pair of percentages lies around 50
        ("60,98", Stretch("values", 60, 98)),
        ("0,255", Stretch("values", 0, 255)),
        ("-20,80", Stretch("values", -20, 80)),
        ("1e3,1e4", Stretch("values", 1000, 10000)),
        ("0:80", Stretch("values", 0, 80)),
    ],
)
def test_reads_the_command_line_form(text, expected):
    assert Stretch.parse(text) == expected


@pytest.mark.parametrize("text", ["", "fast", "2", "2,", "98,2", "5,5", "nan,2", "0,inf", "1,2,3", "2;98", "0:80,90"])
def test_refuses_other_forms_in_one_line(text):
    with pytest.raises(ConfigError, match=r"give auto, none, percentages .* or values") as caught:
        Stretch.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stretch", "dtype", "values", "expected"),
    [
        ("auto", "uint8", [0, 7, 255], [0, 7, 255]),
        ("none", "uint8", [0, 7, 255], [0, 7, 255]),
        ("none", "int16", [-5, 7, 3000], [0, 7, 255]),
        ("none", "float32", [-5, 7.4, 7.6, np.inf, -np.inf, np.nan], [0, 7, 8, 255, 0, 0]),
        ("100,200", "uint8", [0, 100, 150, 200, 255], [0, 0, 128, 255, 255]),
        ("0,1000", "uint16", [0, 500, 1000, 65535], [0, 128, 255, 255]),
        ("-1000,1000", "int16", [-32768, -1000, 0, 1000, 32767], [0, 0, 128, 255, 255]),
        ("-50:50", "int8", [-128, -50, 0, 50, 127], [0, 0, 128, 255, 255]),
        ("0,1000", "int32", [-(2**31), 500, 2**31 - 1], [0, 128, 255]),
        ("0,1000", "uint64", [0, 500, 2**60], [0, 128, 255]),
        ("0,1", "float16", [-1, 0.5, 1, np.nan], [0, 128, 255, 0]),
        ("0,1", "float64", [-1e300, 0.5, 1e300], [0, 128, 255]),
        ("0,100", "uint16", [10, 20, 30], [0, 128, 255]),
        ("0,100", "uint8", [10, 20, 30], [0, 128, 255]),
    ],
)
def test_stretches_every_type(stretch, dtype, values, expected):
    found = stretched(np.array([values], dtype)[..., None], Stretch.parse(stretch))
    assert found.dtype == np.uint8
    assert found[..., 0].tolist() == [expected]


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64"])
def test_percentages_are_of_each_band_by_itself(dtype):
    ramp = np.arange(101).reshape(1, 101)
    image = np.stack([ramp, ramp * 10 + 1000, ramp * 0 + 7], 2).astype(dtype)
    found = stretched(image, Stretch.parse("10,90"))
    expected = np.clip((np.arange(101) - 10) / 80 * 255, 0, 255)
    assert np.abs(found[0, :, 0] - expected).max() <= 0.51
    # scale and offset make no difference, but for rounding
    assert np.abs(found[..., 1].astype(int) - found[..., 0]).max() <= 1
    assert (found[..., 2] == 0).all()  # nothing to see in a constant band, and no NaN


def test_percentages_leave_out_what_is_no_data():
    image = np.arange(100, dtype=np.float32).reshape(10, 10, 1)
    plain = stretched(image, Stretch())
    dirty = np.concatenate([image, np.full((10, 10, 1), -9999, np.float32)], 1)
    dirty[0, 10:15, 0] = [np.nan, np.inf, -np.inf, -3.4028235e38, 3.4e38]
    valid = np.zeros(dirty.shape[:2], bool)
    valid[:, :10] = True
    valid[0, 10:15] = True
    assert (stretched(dirty, Stretch(), valid)[:, :10] == plain).all()


def test_bright_spots_on_a_flat_scene_stay_visible():
    image = np.zeros((100, 100, 1), np.uint16)
    image[50, 50], image[60, 60] = 4000, 2000
    found = stretched(image, Stretch())
    assert (found[50, 50], found[60, 60]) == (255, 128)
    assert np.count_nonzero(found) == 2


def test_beyond_a_constant_sample_is_white():
    found = to_uint8(np.array([[[6, 7, 8]]], np.int32), np.array([[7.0, 7.0]]))
    assert found.tolist() == [[[0, 0, 255]]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numbers_are_told_from_no_data(dtype):
    values = np.array([0, -1, 60000, np.nan, np.inf, -np.inf], dtype)
    assert is_number(values).tolist() == [True, True, True, False, False, False]


def test_without_valid_pixels_limits_are_zero():
    assert Stretch().limits(np.dtype("uint16"), [np.empty(0, np.uint16)]).tolist() == [[0, 0]]
