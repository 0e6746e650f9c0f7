"""One table for every angle convention: the same rectangle, written in each of them."""

import cv2
import numpy as np
import pytest

from legnet_cli.boxes import CONVENTIONS, boxes_to_polygons, from_le90, polygons_to_boxes, to_le90, turned_rectangle

# the rectangle in le90 -> w, h and degrees in the others; w = 40, h = 20 stands for the longer and shorter side
SAME = [
    # le90   le135           oc             opencv       yolo
    (-90.0, (40, 20, 90), (40, 20, 90), (40, 20, -90), (20, 40, 0)),
    (-75.0, (40, 20, 105), (20, 40, 15), (40, 20, -75), (20, 40, 15)),
    (-45.0, (40, 20, -45), (20, 40, 45), (40, 20, -45), (20, 40, 45)),
    (-30.0, (40, 20, -30), (20, 40, 60), (40, 20, -30), (20, 40, 60)),
    (0.0, (40, 20, 0), (20, 40, 90), (20, 40, -90), (40, 20, 0)),
    (30.0, (40, 20, 30), (40, 20, 30), (20, 40, -60), (40, 20, 30)),
    (45.0, (40, 20, 45), (40, 20, 45), (20, 40, -45), (40, 20, 45)),
    (89.0, (40, 20, 89), (40, 20, 89), (20, 40, -1), (40, 20, 89)),
]
RANGES = {"le90": (-90, 90), "le135": (-45, 135), "oc": (0, 90), "opencv": (-90, 0), "yolo": (0, 90)}


def box(w, h, degrees):
    return np.array([[100.0, 50.0, w, h, np.radians(degrees)]])


@pytest.mark.parametrize("row", SAME, ids=lambda row: f"{row[0]:g}")
@pytest.mark.parametrize("column", range(1, 5), ids=lambda i: CONVENTIONS[i])
def test_each_convention_writes_the_same_rectangle(row, column):
    ours, theirs = box(40, 20, row[0]), box(*row[column])
    np.testing.assert_allclose(from_le90(ours, CONVENTIONS[column]), theirs, atol=1e-12)
    np.testing.assert_allclose(to_le90(theirs), ours, atol=1e-12)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_ranges_and_round_trip(name):
    rng = np.random.default_rng(0)
    angles = np.concatenate([rng.uniform(-90, 90, 500), np.arange(-90, 90, 15)])
    n = len(angles)
    ours = np.stack([rng.uniform(0, 999, n), rng.uniform(0, 999, n), np.full(n, 30), rng.uniform(1, 30, n), angles], 1)
    ours[:, 4] = np.radians(ours[:, 4])
    theirs = from_le90(ours, name)
    low, high = RANGES[name]
    degrees = np.degrees(theirs[:, 4])
    inside = (degrees > low) & (degrees <= high) if name == "oc" else (degrees >= low) & (degrees < high)
    assert inside.all()
    np.testing.assert_allclose(to_le90(theirs), ours, atol=1e-9)
    np.testing.assert_allclose(
        np.sort(boxes_to_polygons(theirs), axis=1), np.sort(boxes_to_polygons(ours), axis=1), atol=1e-9
    )


def test_positive_angles_turn_clockwise_on_the_screen():
    corners = boxes_to_polygons(box(40, 20, 90))[0]
    # x right, y down: the side w, from the first corner to the second, now points down
    np.testing.assert_allclose(corners, [[110, 30], [110, 70], [90, 70], [90, 30]], atol=1e-9)


@pytest.mark.parametrize("degrees", range(-180, 181, 15))
def test_opencv_of_any_version_means_the_same_rectangle(degrees):
    corners = boxes_to_polygons(box(40, 20, degrees))[0]
    (cx, cy), (w, h), angle = cv2.minAreaRect(corners.astype(np.float32))
    found = boxes_to_polygons(to_le90(np.array([[cx, cy, w, h, np.radians(angle)]])))[0]
    for corner in corners:
        assert np.linalg.norm(found - corner, axis=1).min() < 1e-2


def test_unknown_convention_is_refused():
    with pytest.raises(ValueError, match="choose from le90"):
        from_le90(box(4, 2, 0), "le45")


@pytest.mark.parametrize(
    ("points", "sides"),
    [
        ([[0, 0], [4, 0], [4, 2], [0, 2]], (4, 2)),
        ([[0, 0], [0, 2], [4, 2], [4, 0]], (4, 2)),  # counterclockwise
        ([[0, 0], [4, 2], [4, 0], [0, 2]], (4, 2)),  # sides cross
        ([[1, 0], [0, 1], [1, 2], [2, 1]], (2**0.5, 2**0.5)),
        ([[0, 0], [3, 0], [0, 4], [0, 0]], (4, 3)),  # a triangle
    ],
)
def test_smallest_boxes_of_quads(points, sides):
    (found,) = polygons_to_boxes(np.array([points], float))
    np.testing.assert_allclose(found[2:4], sides, atol=1e-9)


@pytest.mark.parametrize("count", [9, 100, 20_000])
def test_smallest_boxes_of_many_points(count):
    rng = np.random.default_rng(0)
    wanted = np.array([[1000.0, 2000, 300, 80, 0.4]])
    corners = boxes_to_polygons(wanted)[0]
    weights = rng.dirichlet(np.ones(4), count - 4)
    (found,) = polygons_to_boxes(rng.permutation(np.concatenate([corners, weights @ corners]))[None])
    np.testing.assert_allclose(found, wanted[0], rtol=1e-9)


def test_smallest_box_of_a_round_outline():
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    (found,) = polygons_to_boxes(np.stack([300 * np.cos(angle), 300 * np.sin(angle)], 1)[None])
    np.testing.assert_allclose(found[:4], [0, 0, 600, 600], atol=0.01)


@pytest.mark.parametrize("points", [np.ones((12, 2)), np.linspace([0, 0], [3, 4], 12)])
def test_boxes_of_points_without_area(points):
    (found,) = polygons_to_boxes(points[None])
    np.testing.assert_allclose(found[3], 0, atol=1e-9)
    np.testing.assert_allclose(found[2], np.linalg.norm(np.ptp(points, 0)), atol=1e-9)


def test_turned_rectangle():
    expected = [[166.699, 107.679], [253.301, 157.679], [233.301, 192.321], [146.699, 142.321]]
    np.testing.assert_allclose(turned_rectangle(np.array([150, 130]), np.array([250, 170]), 30), expected, atol=1e-3)
    np.testing.assert_allclose(
        turned_rectangle(np.zeros(2), np.array([4, 2]), 0), [[0, 0], [4, 0], [4, 2], [0, 2]], atol=1e-12
    )


def test_no_polygons_no_boxes():
    assert polygons_to_boxes(np.zeros((0, 4, 2))).shape == (0, 5)
    assert from_le90(np.zeros((0, 5)), "oc").shape == (0, 5)
