import cv2
import numpy as np
import pytest

from legnet_cli.engine.eval.corruptions import KINDS, SEVERITIES, CorruptedGrid, Corruption, Place, corrupt
from legnet_cli.tiles import Tile


class Grid:
    """An image in memory; rows from ``end`` on hold no data."""

    def __init__(self, image, end=None):
        self.image, self.end = image, end
        self.height, self.width = image.shape[:2]

    def read(self, tile):
        window = np.s_[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
        valid = np.ones(self.image.shape[:2], bool)
        valid[self.end or self.height :] = False
        return self.image[window].copy(), valid[window].copy()


@pytest.fixture(scope="module")
def picture():
    noise = np.random.default_rng(0).integers(0, 256, (330, 410, 3)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 20, 220, cv2.NORM_MINMAX)


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_a_window_is_part_of_the_whole(picture, kind, severity):
    grid = CorruptedGrid(Grid(picture), Corruption(kind, severity), 3, "a")
    whole, _ = grid.read(Tile(0, 0, 330, 410))
    part, _ = grid.read(Tile(101, 153, 128, 200))
    assert (part == whole[101:229, 153:353]).all()
    assert (whole != picture).any()


@pytest.mark.parametrize("kind", KINDS)
def test_worse_with_severity(picture, kind):
    worse = [corrupt(picture, Corruption(kind, severity), Place(0, "a")).astype(float) for severity in SEVERITIES]
    errors = [np.abs(image - picture).mean() for image in worse]
    assert errors == sorted(errors)
    assert errors[0] > 0
    assert errors[-1] > 1.5 * errors[0]


@pytest.mark.parametrize("kind", ["gaussian-noise", "speckle-noise", "low-light", "haze", "stripes", "motion-blur"])
def test_depends_on_seed_and_image_alone(picture, kind):
    first, again, other_seed, other_image = (
        corrupt(picture, Corruption(kind, 3), Place(seed, name))
        for seed, name in [(1, "a"), (1, "a"), (2, "a"), (1, "b")]
    )
    assert (first == again).all()
    assert (first != other_seed).any()
    assert (first != other_image).any()


@pytest.mark.parametrize("kind", KINDS)
def test_grey_stays_grey(picture, kind):
    grey = np.repeat(picture[..., :1], 3, axis=2)
    worse = corrupt(grey, Corruption(kind, 4), Place(0, "a")).astype(int)
    assert np.abs(worse - worse[..., :1]).max() <= 1  # JPEG's colour transform rounds


def test_pixels_without_data_stay(picture):
    image, valid = CorruptedGrid(Grid(picture, end=200), Corruption("haze", 5), 0, "a").read(Tile(150, 0, 100, 100))
    assert (image[50:] == picture[200:250, :100]).all()
    assert valid[:50].all()
    assert not valid[50:].any()


def test_noise_has_the_strength_it_says():
    flat = np.full((256, 256, 3), 128, np.uint8)
    for severity, sigma in zip(SEVERITIES, KINDS["gaussian-noise"][1], strict=True):
        if sigma < 40:  # the strongest is clipped
            assert corrupt(flat, Corruption("gaussian-noise", severity), Place(0, "a")).std() == pytest.approx(
                sigma, rel=0.03
            )


@pytest.mark.parametrize(("kind", "severity"), [(kind, s) for kind in ("defocus-blur", "motion-blur") for s in (1, 5)])
def test_blur_keeps_a_flat_image(kind, severity):
    flat = np.full((64, 64, 3), 77, np.uint8)
    assert (corrupt(flat, Corruption(kind, severity), Place(0, "a")) == 77).all()
