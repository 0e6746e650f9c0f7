"""COCO's run-length masks, plain and packed, become the hull of their pixels."""

import cv2
import numpy as np
import pytest
import shapely

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.data.masks import mask_points


def runs(mask):
    """Run lengths of a (h, w) mask, down the columns, beginning with absent pixels."""
    flat = np.concatenate([[0], mask.T.ravel(), [0]]).astype(int)
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff([0, *edges, mask.size]).tolist()
    return counts if counts[-1] else counts[:-1]


def packed(counts):
    """The text of run lengths, as the COCO API writes it."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            bits, value = value & 0x1F, value >> 5
            more = value != (-1 if bits & 0x10 else 0)
            text += chr(48 + (bits | 0x20 if more else bits))
    return text


def drawn(size, *boxes):
    mask = np.zeros(size, np.uint8)
    for box in boxes:
        cv2.fillPoly(mask, [np.round(boxes_to_polygons(np.array([box]))[0]).astype(np.int32)], 1)
    return mask


MASKS = {
    "one pixel": np.eye(1, 12, 5, dtype=np.uint8).reshape(3, 4),
    "all": np.ones((5, 7), np.uint8),
    "columns to the edge": np.pad(np.ones((6, 3), np.uint8), ((0, 0), (2, 2))),
    "a turned box": drawn((120, 200), (100, 60, 90, 20, 0.5)),
    "two parts": drawn((300, 200), (50, 60, 40, 20, 0.5), (120, 220, 30, 20, -0.9)),
    "large": drawn((900, 1400), (700, 450, 800, 300, 0.3)),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("write", [runs, lambda mask: packed(runs(mask))])
def test_the_hull_is_that_of_the_pixels(name, write):
    mask = MASKS[name]
    height, width = mask.shape
    points = mask_points({"size": [height, width], "counts": write(mask)}, (width, height))
    row, col = np.nonzero(mask)
    corners = np.concatenate([np.stack([col + x, row + y], 1) for x in (0, 1) for y in (0, 1)])
    assert shapely.convex_hull(shapely.multipoints(points)).equals(shapely.convex_hull(shapely.multipoints(corners)))


def test_the_text_is_that_of_the_coco_api():
    counts = [10, 3, 90, 3, 2000, 7894]
    assert packed(counts) == ":3j20fk1cf7"
    one, other = (mask_points({"size": [100, 100], "counts": c}, None) for c in (counts, ":3j20fk1cf7"))
    assert one.tolist() == other.tolist()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({}, "no size of two whole numbers"),
        ({"size": [3]}, "no size of two whole numbers"),
        ({"size": [3, -4], "counts": [1]}, "no size of two whole numbers"),
        ({"size": [3, 10**30], "counts": [1]}, "no size of two whole numbers"),
        ({"size": [5, 4], "counts": [1, 2]}, "the mask has 4 × 5 pixels, its image 4 × 3"),
        ({"size": [3, 4]}, "the runs of the mask are not whole numbers"),
        ({"size": [3, 4], "counts": [1, "2"]}, "the runs of the mask are not whole numbers"),
        ({"size": [3, 4], "counts": [1, 12]}, "do not fit its size"),
        ({"size": [3, 4], "counts": [1, 2, -1, 3]}, "do not fit its size"),
        ({"size": [3, 4], "counts": [1, 10**40]}, "do not fit its size"),
        ({"size": [3, 4], "counts": [12]}, "the mask is empty"),
        ({"size": [3, 4], "counts": []}, "the mask is empty"),
        ({"size": [3, 4], "counts": "a b"}, "the text of the mask is damaged"),
        ({"size": [3, 4], "counts": "o" * 40}, "the text of the mask is damaged"),
        ({"size": [3, 4], "counts": "1Q"}, "the text of the mask is cut short"),
    ],
)
def test_damaged_masks(mask, message):
    with pytest.raises(ValueError, match=message):
        mask_points(mask, (4, 3))
