import numpy as np
import pytest
from PIL import Image

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.engine.predict.preview import draw_preview, enlarge, write_preview
from legnet_cli.engine.predict.style import class_colour
from legnet_cli.errors import DataError

GREY = np.full((400, 600, 3), 128, np.uint8)
CLASSES = ["plane", "ship", "storage tank"]


def polygons(*boxes):
    return boxes_to_polygons(np.array(boxes, float).reshape(-1, 5))


def coloured(picture, label):
    """Where a picture has the colour of a class, give or take what smooth lines lose."""
    return (np.abs(picture.astype(int) - class_colour(label)) < 40).all(2)


def test_a_box_is_drawn_where_it_is():
    """Its sides go through the middle of pixels 100 and 200, 100 and 140; inside and outside stay as they were."""
    picture = draw_preview(GREY, polygons([150.5, 120.5, 100, 40, 0]), np.array([1]), CLASSES)[:400]
    changed = (picture != GREY).any(2)
    rows, cols = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert 98 <= rows.min() < 100
    assert 140 < rows.max() <= 142
    assert 98 <= cols.min() < 100
    assert 200 < cols.max() <= 202
    assert not changed[103:138, 103:198].any()
    rows, cols = np.nonzero(coloured(picture, 1))
    assert set(rows[cols == 150]) == {100, 140}
    assert set(cols[rows == 120]) == {100, 200}


def test_turned_box():
    picture = draw_preview(GREY, polygons([300, 200, 200, 40, np.pi / 4]), np.array([0]), CLASSES)[:400]
    changed = (picture != GREY).any(2)
    along = 60 / np.sqrt(2)
    for side in (-1, 1):  # the long sides, at right angles to the direction down and right
        x, y = 300 - side * 20 / np.sqrt(2), 200 + side * 20 / np.sqrt(2)
        assert changed[round(y + along), round(x + along)]
    assert not changed[200, 300]
    assert not changed[round(200 - along), round(300 + along)]


def test_legend_names_the_classes_found():
    both = polygons([100, 100, 50, 20, 0], [200, 100, 50, 20, 0], [300, 100, 50, 20, 0])
    strip = draw_preview(GREY, both, np.array([2, 0, 2]), CLASSES)[400:]
    assert strip.shape[1] == 600
    places = [np.flatnonzero((strip == class_colour(label)).all(2).any(0)) for label in range(3)]
    assert len(places[1]) == 0
    assert places[2].max() < places[0].min()  # two of them go before one


@pytest.mark.parametrize("width", [1, 40, 3000])
def test_legend_fits_any_width(width):
    image = np.zeros((50, width, 3), np.uint8)
    labels = np.arange(30)
    names = [f"class number {label}" for label in labels]
    picture = draw_preview(image, polygons(*[[5, 5, 4, 2, 0]] * 30), labels, names)
    assert picture.shape[1:] == (width, 3)
    assert picture.shape[0] > 50


@pytest.mark.parametrize("label", range(21))
def test_boxes_stand_out_on_dark_and_bright_ground(label):
    """Line or edge differs from the ground by a third of the range of brightness."""
    for ground in (0, 10, 240, 255):
        image = np.full((200, 300, 3), ground, np.uint8)
        picture = draw_preview(image, polygons([150, 100, 120, 40, 0.3]), np.array([label]), ["c"] * 21)[:200]
        assert abs(picture.astype(int) - ground).mean(2).max() > 85


def test_class_and_score_are_written_where_they_hide_nothing():
    """The box in the corner has no room above; of two in one place, the best has its caption above them."""
    boxes = polygons([60, 20, 100, 40, 0], [300, 300, 60, 20, 0], [330, 300, 60, 20, 0])
    labels, scores = np.array([0, 1, 1]), np.array([0.5, 0.6, 0.9], np.float32)
    plain = draw_preview(GREY, boxes, labels, CLASSES)[:400]
    written = draw_preview(GREY, boxes, labels, CLASSES, scores)[:400]
    changed = (plain != written).any(2)
    assert not changed[:41, 9:111].any()
    assert coloured(written, 0)[42:70, :150].any()
    assert not changed[290:311, 270:360].any()
    above, below = (np.flatnonzero(rows.any(0)) for rows in (changed[260:289], changed[312:340]))
    assert above.mean() == pytest.approx(330, abs=5)
    assert below.mean() == pytest.approx(300, abs=5)


def test_captions_of_a_crowd_are_left_out():
    boxes = polygons(*[[x, y, 18, 8, 0] for x in range(10, 600, 20) for y in range(5, 400, 10)])
    labels, scores = np.zeros(len(boxes), np.int64), np.linspace(0.1, 0.9, len(boxes), dtype=np.float32)
    inner = draw_preview(GREY, boxes, labels, CLASSES)[20:380, 20:580]
    np.testing.assert_array_equal(draw_preview(GREY, boxes, labels, CLASSES, scores)[20:380, 20:580], inner)


@pytest.mark.parametrize(("side", "times"), [(1, 4), (300, 4), (500, 3), (801, 1), (1600, 1), (5000, 1)])
def test_small_pictures_are_enlarged(side, times):
    image = np.full((2, side, 3), 7, np.uint8)
    large, factor = enlarge(image)
    assert (factor, large.shape) == (times, (2 * times, side * times, 3))
    assert (large == 7).all()


def test_nothing_to_draw():
    picture = draw_preview(GREY, np.zeros((0, 4, 2)), np.zeros(0, np.int64), CLASSES)
    np.testing.assert_array_equal(picture, GREY)


def test_the_image_stays_as_it_is():
    image = GREY.copy()[:, ::-1]
    draw_preview(image, polygons([150, 120, 100, 40, 0]), np.array([0]), CLASSES)
    assert (image == 128).all()


def test_boxes_outside_and_tiny_ones():
    """None of them is an error, and one smaller than a pixel still shows."""
    shapes = polygons([-500, -500, 100, 40, 1], [1e5, 50, 100, 40, 1], [300, 200, 0.4, 0.2, 0.3])
    picture = draw_preview(GREY, shapes, np.zeros(3, np.int64), CLASSES)[:400]
    rows, cols = np.nonzero((picture != GREY).any(2))
    assert 1 <= len(rows) <= 16
    assert abs(rows - 200).max() <= 2
    assert abs(cols - 300).max() <= 2


def test_colours_differ():
    assert len({class_colour(label) for label in range(21)}) == 21
    assert class_colour(21) == class_colour(0)


def test_lines_grow_with_the_image():
    def drawn(size):
        image = np.zeros((size, size, 3), np.uint8)
        middle = size / 2 + 0.5
        picture = draw_preview(image, polygons([middle, middle, size / 2, size / 4, 0]), np.array([0]), CLASSES)
        return np.count_nonzero(coloured(picture[:size], 0)) / (1.5 * size)

    assert drawn(400) == pytest.approx(1, abs=0.3)
    assert drawn(1600) == pytest.approx(3, abs=0.5)


def test_write_preview(tmp_path):
    path = tmp_path / "a.png"
    args = GREY, polygons([150, 120, 100, 40, 0]), np.array([1]), CLASSES
    write_preview(path, *args)
    with Image.open(path) as file:
        assert file.format == "PNG"
        np.testing.assert_array_equal(np.asarray(file), draw_preview(*args))
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        write_preview(tmp_path / "file" / "a.png", *args)
