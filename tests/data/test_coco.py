import json
from pathlib import Path

import numpy as np
import pytest

from legnet_cli.data import coco
from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.labels import IGNORED, ImageLabels
from legnet_cli.errors import DataError

SQUARE = [10, 10, 30, 10, 30, 20, 10, 20]


def dataset(**annotation):
    return {
        "images": [{"id": 5, "file_name": "city/a.png", "width": 100, "height": 80, "gsd": 0.5}],
        "annotations": [{"id": 9, "image_id": 5, "category_id": 3, "segmentation": [SQUARE], **annotation}],
        "categories": [{"id": 7, "name": "ship"}, {"id": 3, "name": "plane"}],
    }


def read(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    problems = []
    images, classes = coco.read(path, "val", problems)
    return images, classes, [str(problem).removeprefix(f"{path}: ") for problem in problems]


def test_polygons_sizes_classes_in_the_order_of_ids(tmp_path):
    (image,), classes, problems = read(tmp_path, dataset(difficult=1, attributes={"note": "x"}, score=0.5))
    assert not problems
    assert classes == ["plane", "ship"]
    assert (image.file, image.size, image.split, image.meta) == ("city/a.png", (100, 80), "val", {"gsd": 0.5})
    assert (image.names, image.difficult.tolist()) == (("plane",), [1])
    assert dict(image.attributes[0]) == {"note": "x", "score": 0.5}
    np.testing.assert_array_equal(image.quads[0], np.reshape(SQUARE, (4, 2)))


@pytest.mark.parametrize(
    "shape",
    [
        {"segmentation": [[10, 10, 30, 10, 30, 20, 10, 20, 10, 10]]},  # closed
        {"segmentation": [[10, 10, 20, 10, 30, 10, 30, 20, 10, 20]]},  # five corners
        {"segmentation": [[10, 10, 10, 20, 12, 15], [30, 10, 30, 20, 28, 15]]},  # two parts
        {"segmentation": [], "bbox": [10, 10, 20, 10]},
        {"segmentation": None, "bbox": [10, 10, 20, 10]},
    ],
)
def test_other_polygons_become_their_smallest_box(tmp_path, shape):
    (image,), _, problems = read(tmp_path, dataset(**shape))
    assert not problems
    np.testing.assert_allclose(image.boxes[0], [20, 15, 20, 10, 0], atol=1e-9)


BOX = [150, 130, 100, 40]
UPRIGHT = [150, 130, 250, 130, 250, 170, 150, 170]
TURNED = [[166.699, 107.679], [253.301, 157.679], [233.301, 192.321], [146.699, 142.321]]


@pytest.mark.parametrize(
    ("shape", "rotation", "expected"),
    [
        ({"bbox": BOX, "segmentation": [UPRIGHT]}, 30.0, TURNED),
        ({"bbox": BOX, "segmentation": [[*UPRIGHT, *UPRIGHT[:2]]]}, 30.0, TURNED),
        ({"bbox": BOX, "segmentation": []}, 30, TURNED),
        ({"bbox": BOX, "segmentation": [[]]}, "30.0", TURNED),
        ({"segmentation": [UPRIGHT]}, 30.0, TURNED),
        ({"bbox": BOX, "segmentation": []}, 0.0, np.reshape(UPRIGHT, (4, 2))),
        ({"bbox": BOX, "segmentation": []}, -330, TURNED),
        ({"bbox": [146, 107, 108, 86], "segmentation": [np.ravel(TURNED).tolist()]}, 30.0, TURNED),  # turned already
    ],
)
def test_rotation_of_cvat(tmp_path, shape, rotation, expected):
    content = dataset(attributes={"rotation": rotation, "occluded": False}, **shape)
    content["images"][0] |= {"width": 640, "height": 480}
    (image,), _, problems = read(tmp_path, content)
    assert not problems
    np.testing.assert_allclose(image.quads[0], expected, atol=1e-3)
    upright = "segmentation" not in shape or np.ravel(TURNED).tolist() not in shape["segmentation"]
    assert ("rotation" in image.attributes[0]) != upright  # what was done must not be done again


@pytest.mark.parametrize(
    "attributes", [{"Rotation": 30}, [{"name": "rotation", "value": "30.0"}, {"name": "occluded", "value": False}]]
)
def test_spellings_of_rotation(tmp_path, attributes):
    content = dataset(attributes=attributes, bbox=BOX, segmentation=[])
    content["images"][0] |= {"width": 640, "height": 480}
    (image,), _, problems = read(tmp_path, content)
    assert not problems
    np.testing.assert_allclose(image.quads[0], TURNED, atol=1e-3)


def test_angles_that_are_not_understood_are_told(tmp_path):
    _, _, problems = read(tmp_path, dataset(attributes={"rotation": "30°"}, bbox=[10, 10, 20, 10], segmentation=[]))
    assert problems == ["annotation 9: the shape cannot be used (its rotation is '30°', not a number of degrees)"]
    content = dataset(bbox=[10, 10, 20, 10], segmentation=[], angle=30)
    content["annotations"] *= 2
    (image,), _, problems = read(tmp_path, content)
    assert len(image) == 2
    assert len(problems) == 1
    assert "boxes are read as upright, whatever 'angle' says" in problems[0]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (({"ignore": 1}, {}), (IGNORED, "plane")),
        (({"iscrowd": 1}, {"iscrowd": 0}), (IGNORED, "plane")),
        (({"iscrowd": 1}, {"iscrowd": 1}), ("plane", "plane")),  # how some programs mark every mask
    ],
)
def test_crowds_are_ignored_regions(tmp_path, flags, names):
    content = dataset()
    content["annotations"] = [content["annotations"][0] | flag for flag in flags]
    (image,), _, problems = read(tmp_path, content)
    assert image.names == names
    told = any("1 object with iscrowd or ignore: ignored regions" in problem for problem in problems)
    assert told == (IGNORED in names)


def test_rotation_that_is_not_a_number_stays_an_attribute(tmp_path):
    (image,), _, problems = read(tmp_path, dataset(attributes={"rotation": "left"}))
    assert not problems
    assert dict(image.attributes[0]) == {"rotation": "left"}


def test_masks_become_their_smallest_rectangle(tmp_path):
    runs = [10 * 80 + 10, *[10, 70] * 19, 10, 5660]  # 20 × 10 pixels from column 10, row 10 on
    mask = {"size": [80, 100], "counts": runs}
    (image,), _, problems = read(tmp_path, dataset(segmentation=mask, iscrowd=1))
    assert not problems
    np.testing.assert_allclose(image.boxes[0], [20, 15, 20, 10, 0], atol=1e-9)


@pytest.mark.parametrize(
    ("value", "expected"), [(None, 0), (0, 0), (1, 1), (True, 1), (1.0, 1), ("1", 1), ("0", 0), ("", 0)]
)
def test_difficulty_in_any_writing(tmp_path, value, expected):
    (image,), _, problems = read(tmp_path, dataset(difficult=value))
    assert not problems
    assert image.difficult.tolist() == [expected]


def test_attributes_that_are_not_scalars_become_text(tmp_path):
    values = {"tags": ["a", 1], "none": None, "big": 10**30, "half": "\ud800!", "nan": float("nan")}
    (image,), _, _ = read(tmp_path, dataset(attributes=values))
    found = dict(image.attributes[0])
    assert found.pop("nan") != 0
    assert found == {"tags": '["a", 1]', "big": str(10**30), "half": "\ufffd!"}


WRONG = [None, True, 5, -1.5, 1e999, 10**30, "x", "\ud800", "\0", [], [1], {}, {"a": 1}, [[[]]], [10**400]]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize(
    ("part", "key"),
    [
        *(("images", key) for key in ("id", "file_name", "width", "height", "gsd")),
        *(("categories", key) for key in ("id", "name")),
        *(("annotations", key) for key in ("id", "image_id", "category_id", "bbox", "difficult", "attributes", "note")),
        *(("annotations", key) for key in ("segmentation", "iscrowd", "area")),
        *((None, key) for key in ("images", "annotations", "categories", "info")),
    ],
)
def test_wrong_types_anywhere_are_faults_at_most(tmp_path, part, key, value):
    content = dataset(bbox=[10, 10, 20, 10], attributes={"rotation": 30})
    (content[part][0] if part else content)[key] = value
    try:
        images, classes, problems = read(tmp_path, content)
    except DataError as error:
        problems, images, classes = [str(error)], [], []
    assert not [text for text in problems if "\n" in text]
    json.dumps([str(image.meta) + image.file for image in images] + classes, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"segmentation": [], "bbox": [1, 2, 3, 4, 30]}, "a bbox of 5 numbers is ambiguous in its angle"),
        ({"segmentation": [], "bbox": [1, 2, 3]}, "a bbox of 3 numbers in place of 4"),
        ({"segmentation": [], "bbox": 7}, "neither segmentation nor bbox"),
        ({"segmentation": {"counts": [1], "size": [80, 100]}}, "the mask is empty"),
        ({"segmentation": {"counts": [1], "size": [2, 2]}}, "the mask has 2 × 2 pixels, its image 100 × 80"),
        ({"segmentation": [[1e10, 0, 1e10, 9, 5, 9, 5, 0]]}, "a corner is over 2e+09 pixels away"),
        ({"difficult": 10**30}, "'difficult' is 1000000000000000000000000000000, not a whole number"),
        ({"difficult": [1]}, "'difficult' is [1], not a whole number"),
        ({"difficult": 0.5}, "'difficult' is 0.5, not a whole number"),
        ({"segmentation": [], "bbox": None}, "neither segmentation nor bbox"),
        ({"segmentation": [[1, 2, 3]]}, "the shape cannot be used"),
        ({"segmentation": [[1, 2, 3, 4]]}, "2 different points, a polygon has at least 3"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, "the area is zero"),
        ({"segmentation": [["a", 2, 3, 4, 5, 6]]}, "the shape cannot be used"),
        ({"image_id": 6}, "there is no image 6"),
        ({"category_id": 1}, "there is no category 1"),
    ],
)
def test_bad_annotations_go_by_their_id(tmp_path, change, fault):
    (image,), _, problems = read(tmp_path, dataset(**change))
    assert len(problems) == 1
    assert problems[0].startswith("annotation 9: ")
    assert fault in problems[0]
    assert len(image) == 0


def test_name_too_long_for_a_file(tmp_path):
    content = dataset()
    content["images"][0]["file_name"] = "9" * 5000
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").touch()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/i.json").write_text(json.dumps(content))
    (image,) = load_dataset(tmp_path).images
    assert (image.path, len(image)) == (None, 1)


@pytest.mark.parametrize("name", ["../../etc/a.png", "/etc/a.png", "C:/a.png", "a/../../b.png", ""])
def test_paths_out_of_the_dataset_are_refused(tmp_path, name):
    content = dataset()
    content["images"][0]["file_name"] = name
    images, _, problems = read(tmp_path, content)
    assert not images
    assert "is not a path below the images" in problems[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, r"is not JSON \(nested too deeply\)"),
        ('{"images":' + "[" * 100_000, r"is not JSON \(nested too deeply\)"),
        ("1" * 5000, "is not JSON"),
        ("\ufeff\0", "is not JSON"),
        ("[]", "has no list of images"),
        ({"images": [], "annotations": []}, "list of categories"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


def test_round_trip(tmp_path):
    quads = np.random.default_rng(0).uniform(0, 99, (3, 4, 2))
    image = ImageLabels(
        "dir/ü 1.PNG", quads, ("b", "a", "b"), np.array([0, 2, 1]), ({"k": 1}, {}, {}), size=(9, 7), places=("",) * 3
    )
    (again, empty), classes, problems = read(tmp_path, coco.render([image, ImageLabels("e.png", size=(1, 2))], "bca"))
    assert not problems
    assert classes == ["b", "c", "a"]
    assert (again.file, again.names, again.difficult.tolist()) == (image.file, image.names, [0, 2, 1])
    assert [dict(a) for a in again.attributes] == [{"k": 1}, {}, {}]
    np.testing.assert_array_equal(again.quads, quads)
    assert (empty.file, empty.size, len(empty)) == ("e.png", (1, 2), 0)
    (first, *_) = json.loads(Path(tmp_path / "a.json").read_text())["annotations"]
    low, high = quads[0].min(0), quads[0].max(0)
    np.testing.assert_allclose(first["bbox"], [*low, *(high - low)])
