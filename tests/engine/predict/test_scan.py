import threading

import numpy as np
import pytest

from legnet_cli.boxes import Detections
from legnet_cli.engine.predict.scan import scan_tiles
from legnet_cli.tiles import tile_grid

SIZE = 300


class Grid:
    """A dark grid with bright squares; the detector below finds them by their brightness."""

    height = width = SIZE

    def __init__(self, centres, invalid=None, broken=False):
        self.image = np.zeros((SIZE, SIZE, 3), np.uint8)
        for x, y in centres:
            self.image[y - 5 : y + 5, x - 5 : x + 5] = 255
        self.valid = np.ones((SIZE, SIZE), bool)
        if invalid is not None:
            self.valid[invalid] = False
        self.broken = broken

    def read(self, tile):
        if self.broken and tile.row > 0:
            raise OSError("damaged block")
        window = np.s_[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
        return self.image[window], self.valid[window]


class Detector:
    def __init__(self):
        self.batches = []

    def detect(self, images):
        self.batches.append(len(images))
        return [self._one(image[..., 0] > 0) for image in images]

    def _one(self, bright):
        boxes = []
        for y in range(4, bright.shape[0]):
            for x in range(4, bright.shape[1]):
                # the upper left corner of a square, or what a tile's border left of it
                if bright[y, x] and not (y and bright[y - 1, x]) and not (x and bright[y, x - 1]):
                    w, h = bright[y, x : x + 10].sum(), bright[y : y + 10, x].sum()
                    boxes.append(
                        (x + w / 2, y + h / 2, w, h, 0) if w >= h else (x + w / 2, y + h / 2, h, w, -np.pi / 2)
                    )
        n = len(boxes)
        return Detections(np.array(boxes, float).reshape(-1, 5), np.full(n, 0.9, np.float32), np.zeros(n, np.int64))


CENTRES = [(20, 20), (97, 50), (130, 130), (200, 97), (280, 280), (105, 203)]


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_objects_on_seams_are_found_once_at_scene_coordinates(batch):
    found = scan_tiles(Grid(CENTRES), Detector(), tile_grid(SIZE, SIZE, 100, 30), batch)
    assert sorted(map(tuple, found.boxes[:, :2])) == sorted(CENTRES)
    np.testing.assert_allclose(found.boxes[:, 2:4], 10)


def test_batches_and_progress_add_up():
    detector, counts = Detector(), []
    tiles = tile_grid(SIZE, SIZE, 100, 30)
    scan_tiles(Grid(CENTRES), detector, tiles, 4, counts.append)
    plain = sum(Grid(CENTRES).read(tile)[0].max() == 0 for tile in tiles)  # not searched
    assert sum(detector.batches) == sum(counts) - plain == len(tiles) - plain
    assert max(detector.batches) == 4


def test_invalid_tiles_are_not_searched():
    detector, counts = Detector(), []
    tiles = tile_grid(SIZE, SIZE, 100, 0)
    scan_tiles(Grid([(250, 50), (250, 150), (250, 250)], invalid=np.s_[:, :200]), detector, tiles, 1, counts.append)
    assert len(detector.batches) == 3
    assert sum(counts) == len(tiles) == 9


@pytest.mark.parametrize(("column", "kept"), [(130, 0), (128, 1), (133, 0), (125, 1)])
def test_boxes_on_invalid_pixels_are_dropped(column, kept):
    """A square at 125..135 of which the columns from ``column`` on, or up to it, are invalid."""
    invalid = np.s_[:, column:] if column >= 130 else np.s_[:, :column]
    found = scan_tiles(Grid([(130, 130)], invalid=invalid), Detector(), tile_grid(SIZE, SIZE, SIZE, 0), 1)
    assert len(found) == {130: 0, 133: 1}.get(column, kept)


class Fixed(Detector):
    """Finds one box of score 0.5 in each image."""

    def __init__(self, *box):
        super().__init__()
        self.box = box

    def _one(self, bright):
        return Detections(np.array([self.box], float), np.array([0.5], np.float32), np.zeros(1, np.int64))


@pytest.mark.parametrize(("x", "kept"), [(0, 1), (25, 1), (245, 0)])
def test_a_box_over_the_border_is_judged_by_what_lies_inside(x, kept):
    grid = Grid([(100, 20)], invalid=np.s_[:, 240:])
    assert len(scan_tiles(grid, Fixed(x, 150, 40, 20, 0), tile_grid(SIZE, SIZE, SIZE, 0), 1)) == kept


@pytest.mark.parametrize(("lowest", "kept"), [(0.5, 1), (0.51, 0)])
def test_the_lowest_score_is_kept(lowest, kept):
    tiles = tile_grid(SIZE, SIZE, SIZE, 0)
    assert len(scan_tiles(Grid([(100, 20)]), Fixed(150, 150, 40, 20, 0), tiles, 1, lowest=lowest)) == kept


def test_a_failing_read_stops_the_scan_and_its_threads():
    before = threading.active_count()
    with pytest.raises(OSError, match="damaged block"):
        scan_tiles(Grid(CENTRES, broken=True), Detector(), tile_grid(SIZE, SIZE, 100, 30), 1)
    assert threading.active_count() == before


def test_low_scores_do_not_displace_better_boxes_of_other_tiles():
    class Unsure(Detector):
        """Finds a square that a border cuts with 0.9, and a whole one with 0.1."""

        def _one(self, bright):
            found = super()._one(bright)
            whole = found.boxes[:, 2] == found.boxes[:, 3]
            return Detections(found.boxes, np.where(whole, 0.1, 0.9).astype(np.float32), found.labels)

    grid, tiles = Grid([(97, 50)]), tile_grid(SIZE, SIZE, 100, 20)
    assert scan_tiles(grid, Unsure(), tiles, 1).scores.tolist() == pytest.approx([0.1])
    assert scan_tiles(grid, Unsure(), tiles, 1, lowest=0.5).scores.tolist() == pytest.approx([0.9])
