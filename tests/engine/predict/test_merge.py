import numpy as np
import pytest

from legnet_cli.boxes import Detections, to_le90
from legnet_cli.engine.predict.merge import merge_tiles
from legnet_cli.tiles import Tile, tile_grid

# two tiles of 100 with an overlap of 40 in a scene 160 wide
TILES = tile_grid(100, 160, 100, 40)
SHAPE = (100, 160)


def merged(rows):
    """Merge rows of (tile, cx, cy, w, h, angle, score, label); returns the kept rows' indices."""
    table = np.array(rows, np.float64).reshape(-1, 8)
    # the label's fraction carries the row number through the merge
    found = Detections(table[:, 1:6], table[:, 6].astype(np.float32), table[:, 7].astype(np.int64))
    kept = merge_tiles(found, table[:, 0].astype(np.int64), TILES, SHAPE)
    return sorted(
        next(i for i, row in enumerate(table) if np.array_equal(row[1:6], box) and np.float32(row[6]) == score)
        for box, score in zip(kept.boxes, kept.scores, strict=True)
    )


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([(0, 80, 50, 10, 6, 0.3, 0.9, 0), (1, 80.5, 50, 10, 6, 0.3, 0.8, 0)], [0], id="seen twice"),
        pytest.param([(0, 80, 50, 10, 6, 0.3, 0.8, 0), (1, 80.5, 50, 10, 6, 0.3, 0.9, 0)], [1], id="better score wins"),
        pytest.param([(0, 80, 50, 10, 6, 0, 0.9, 0), (1, 80, 50, 10, 6, 0, 0.8, 1)], [0, 1], id="two classes"),
        pytest.param([(0, 50, 50, 10, 6, 0, 0.9, 0), (0, 51, 50, 10, 6, 0, 0.8, 0)], [0, 1], id="same tile untouched"),
        pytest.param([(0, 80, 50, 10, 6, 0, 0.9, 0), (1, 95, 50, 10, 6, 0, 0.8, 0)], [0, 1], id="neighbours stay"),
        # the left tile ends at 100 and sees 5 of the 30 pixels of an object at 95..125
        pytest.param([(0, 97.5, 50, 8, 5, -np.pi / 2, 0.95, 0), (1, 110, 50, 30, 8, 0, 0.4, 0)], [1], id="cut yields"),
        # half of the object seen: IoU would do, but the score speaks for the cut box
        pytest.param(
            [(0, 92, 50, 16, 8, 0, 0.95, 0), (1, 99, 50, 30, 8, 0, 0.3, 0)], [1], id="cut yields to lower score"
        ),
        # a small uncut object on a large cut one is another object
        pytest.param([(0, 70, 50, 70, 60, 0, 0.9, 0), (1, 80, 50, 10, 8, 0, 0.8, 0)], [0, 1], id="nested small object"),
        pytest.param(
            [(0, 80, 50, 40, 30, 0, 0.5, 0), (1, 90, 50, 60, 30, 0, 0.9, 0)], [1], id="both cut, larger stays"
        ),
        # the left one ends 5 pixels from its tile's border, which is less than a tenth of its width: it may be cut
        pytest.param(
            [(0, 65, 50, 60, 8, 0, 0.9, 0), (1, 90, 50, 48, 8, 0, 0.3, 0)], [1], id="cut margin of a tenth of the width"
        ),
        # borders of the scene cut nothing: the better score wins
        pytest.param([(0, 40.5, 50, 79, 8, 0, 0.9, 0), (1, 78, 50, 24, 8, 0, 0.3, 0)], [0], id="scene's first column"),
        pytest.param([(0, 78, 50, 24, 8, 0, 0.3, 0), (1, 115, 50, 90, 8, 0, 0.9, 0)], [1], id="scene's last column"),
        # IoU under 0.05: the small one is cut, and a part of the other if more than half of it is inside
        pytest.param([(0, 96, 50, 8, 6, 0, 0.9, 0), (1, 110, 50, 30, 20, 0, 0.3, 0)], [1], id="5 of 8 pixels inside"),
        pytest.param([(0, 94, 50, 8, 6, 0, 0.9, 0), (1, 110, 50, 30, 20, 0, 0.3, 0)], [0, 1], id="3 of 8 inside"),
        pytest.param(
            [(0, 50, 50, 10, 6, 0, 0.9, 0), (0, 51, 50, 10, 6, 0, 0.8, 0), (1, 130, 50, 10, 6, 0, 0.7, 0)],
            [0, 1, 2],
            id="same tile untouched among others",
        ),
        # the first removes the second, which therefore cannot remove the third
        pytest.param(
            [(0, 75, 50, 20, 8, 0, 0.9, 0), (1, 85, 50, 20, 8, 0, 0.8, 0), (0, 95 - 8, 60, 8, 8, 0, 0.7, 0)],
            [0, 2],
            id="removed boxes remove nothing",
        ),
    ],
)
def test_merge(rows, kept):
    assert merged(rows) == kept


def test_order_of_input_does_not_matter():
    rng = np.random.default_rng(0)
    n = 300
    boxes = np.column_stack([rng.uniform(*span, n) for span in ((0, 160), (0, 100), (8, 20), (3, 8), (-1.5, 1.5))])
    found = Detections(boxes, rng.choice([0.5, 0.6, 0.7], n).astype(np.float32), rng.integers(0, 3, n))
    tile_of = rng.integers(0, 2, n)
    first = merge_tiles(found, tile_of, TILES, SHAPE)
    assert 0 < len(first) < n
    order = rng.permutation(n)
    second = merge_tiles(found[order], tile_of[order], TILES, SHAPE)
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.labels, second.labels)


@pytest.mark.parametrize("chunk", [50_000, 7])
def test_every_object_up_to_the_overlap_is_reported_once(monkeypatch, chunk):
    """Objects on a scene of many tiles, each tile reporting what it sees of them, cut at its border."""
    monkeypatch.setattr("legnet_cli.engine.predict.merge._CHUNK", chunk)
    tiles = tile_grid(1000, 1000, 256, 64)
    rng = np.random.default_rng(1)
    truth = [
        (x + rng.uniform(-20, 20), y + rng.uniform(-20, 20), rng.uniform(20, 60), rng.uniform(5, 15))
        for x in range(40, 1000, 80)
        for y in range(40, 1000, 80)
    ]
    boxes, scores, tile_of = [], [], []
    for index, tile in enumerate(tiles):
        for cx, cy, w, h in truth:
            left, right = max(cx - w / 2, tile.col), min(cx + w / 2, tile.col + tile.width)
            top, bottom = max(cy - h / 2, tile.row), min(cy + h / 2, tile.row + tile.height)
            if right - left > 2 and bottom - top > 2:
                jitter = rng.normal(0, 0.5, 2)
                boxes.append(
                    ((left + right) / 2 + jitter[0], (top + bottom) / 2 + jitter[1], right - left, bottom - top, 0)
                )
                scores.append(rng.uniform(0.3, 1))
                tile_of.append(index)
    found = Detections(np.array(boxes), np.array(scores, np.float32), np.zeros(len(boxes), np.int64))
    merged_boxes = merge_tiles(found, np.array(tile_of), tiles, (1000, 1000)).boxes
    assert len(boxes) > 1.4 * len(truth)
    assert len(merged_boxes) == len(truth)
    for cx, cy, w, h in truth:
        near = merged_boxes[np.hypot(*(merged_boxes[:, :2] - (cx, cy)).T) < 5]
        assert len(near) == 1
        assert near[0, 2] * near[0, 3] > 0.85 * w * h


def test_bands_of_a_scene_change_nothing(monkeypatch):
    tiles, rng = tile_grid(600, 600, 128, 48), np.random.default_rng(2)
    index = rng.integers(0, len(tiles), 2000)
    corner = np.array([(tiles[number].col, tiles[number].row) for number in index])
    boxes = np.hstack([corner + rng.uniform(0, 128, (2000, 2)), rng.uniform(2, 90, (2000, 2)), np.zeros((2000, 1))])
    found = Detections(to_le90(boxes), rng.random(2000).astype(np.float32), np.zeros(2000, np.int64))
    whole = merge_tiles(found, index, tiles, (600, 600))
    assert len(whole) < 1500
    monkeypatch.setattr("legnet_cli.engine.predict.merge._CHUNK", 100)
    np.testing.assert_array_equal(merge_tiles(found, index, tiles, (600, 600)).boxes, whole.boxes)


def test_single_tile_is_untouched():
    found = Detections(
        np.tile([50.0, 50, 20, 10, 0], (3, 1)), np.array([0.5, 0.9, 0.7], np.float32), np.zeros(3, np.int64)
    )
    kept = merge_tiles(found, np.zeros(3, np.int64), [Tile(0, 0, 100, 100)], (100, 100))
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7, 0.5])
