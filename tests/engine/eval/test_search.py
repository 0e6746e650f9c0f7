"""Images of one size are searched as one grid and stay apart in it."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from eval_set import config, write_dota

from legnet_cli.boxes import Detections
from legnet_cli.engine.eval import SearchPlan, Source, evaluate, load_truth, plan_grids, search_images
from legnet_cli.engine.split import SplitConfig, split
from legnet_cli.errors import DataError

SIDE = 64


class EdgeDetector:
    """Finds one box over the lower border of images whose last row is bright, one over the upper border of others."""

    card = SimpleNamespace(classes=("ship",))

    def __init__(self):
        self.batches = []

    def detect(self, images):
        self.batches.append(len(images))
        rows = [SIDE - 1 if image[-1].max() > 100 else 1 for image in images]
        boxes = [np.array([[32, row, 20, 12, 0]], float) for row in rows]
        return [Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64)) for box in boxes]


@pytest.fixture
def truth(tmp_path):
    for folder in ("images", "labelTxt"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate(("a", "b", "c")):
        pixels = np.full((SIDE, SIDE), 40, np.uint8)
        pixels[-5 if number % 2 == 0 else 5] = 200
        pixels[-1] = 40 + 160 * (number % 2 == 0)
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), pixels)
        (tmp_path / "labelTxt" / f"{name}.txt").write_text("10 10 30 10 30 20 10 20 ship 0\n")
    return load_truth(Source(tmp_path))


def plan(workers=1, batch=2, tile=SIDE, gsd=None):
    return SearchPlan(tile, 16, gsd, None, "none", batch, workers, 0)


@pytest.mark.parametrize("workers", [1, 3])
def test_boxes_over_neighbouring_borders_stay_apart(truth, workers):
    detector, counts = EdgeDetector(), []
    grids = plan_grids(truth, plan())
    found = search_images(truth, grids, detector, plan(workers), None, counts.append)
    assert [part.boxes[:, 1].tolist() for part in found.images] == [[SIDE - 1], [1], [SIDE - 1]]
    assert detector.batches == [2, 1]
    assert sum(counts) == 3


def test_missing_images_are_named(truth, tmp_path):
    (tmp_path / "images" / "b.png").unlink()
    with pytest.raises(DataError, match="image is missing"):
        plan_grids(load_truth(Source(tmp_path)), plan())


class BlockDetector:
    """Finds the bright pixels of each image as one box."""

    card = SimpleNamespace(classes=("ship",))

    def detect(self, images):
        found = []
        for image in images:
            row, col = np.nonzero(image[..., 0] > 150)
            box = [
                (col.min() + col.max() + 1) / 2,
                (row.min() + row.max() + 1) / 2,
                np.ptp(col) + 1,
                np.ptp(row) + 1,
                0,
            ]
            found.append(Detections(np.array([box]), np.ones(1, np.float32), np.zeros(1, np.int64)))
        return found


@pytest.mark.parametrize(
    ("gsd", "sizes"), [((1, 4), [(64, 64)] * 2), (1.0, [(128, 128), (64, 64)]), ((4, 8), [(32, 32), (64, 64)])]
)
def test_images_are_searched_at_the_scale_asked_for(tmp_path, gsd, sizes):
    """Whose own scale is known; what is found is in pixels of the image all the same."""
    for folder in ("images", "labelTxt"):
        (tmp_path / folder).mkdir()
    pixels = np.full((SIDE, SIDE), 40, np.uint8)
    pixels[16:32, 8:48] = 250
    for name, head in (("a", "gsd:2\n"), ("b", "")):
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), pixels)
        (tmp_path / "labelTxt" / f"{name}.txt").write_text(f"{head}8 16 48 16 48 32 8 32 ship 0\n")
    truth, how = load_truth(Source(tmp_path)), plan(tile=256, gsd=gsd)
    grids = plan_grids(truth, how)
    assert [(grid.width, grid.height) for grid in grids] == sizes
    found = search_images(truth, grids, BlockDetector(), how, None, lambda tiles: None)
    np.testing.assert_allclose([part.boxes[0] for part in found.images], [[28, 24, 40, 16, 0]] * 2, atol=2.1)


def test_padding_of_tiles_is_not_searched(tmp_path, detector):
    """Tiles of images smaller than a tile give what the images give."""
    data = write_dota(tmp_path / "dota")
    split(SplitConfig(data, tmp_path / "tiles", tile=300, overlap=100))
    grids = [plan_grids(load_truth(Source(root)), plan()) for root in (data, tmp_path / "tiles")]
    assert [(grid.height, grid.width) for grid in grids[0]] == [(grid.height, grid.width) for grid in grids[1]]
    assert [grid.file for grid in grids[1]] == [(300, 300)] * 2
    results = [
        evaluate(config(root, tmp_path / f"{root.name}-run", weights="w")) for root in (data, tmp_path / "tiles")
    ]
    assert results[0].metrics["ap"] == results[1].metrics["ap"]
    assert results[0].metrics["counts"] == results[1].metrics["counts"]
