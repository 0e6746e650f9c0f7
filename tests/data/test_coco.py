import json
from pathlib import Path

import numpy as np
import pytest

from legnet_cli.data import coco
from legnet_cli.data.labels import ImageLabels
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


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"segmentation": {"counts": [1], "size": [2, 2]}}, "a run-length mask where a polygon must be"),
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


@pytest.mark.parametrize("name", ["../../etc/a.png", "/etc/a.png", "C:/a.png", "a/../../b.png", ""])
def test_paths_out_of_the_dataset_are_refused(tmp_path, name):
    content = dataset()
    content["images"][0]["file_name"] = name
    images, _, problems = read(tmp_path, content)
    assert not images
    assert "is no path below the images" in problems[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("[]", "has no list of images"), ({"images": [], "annotations": []}, "list of categories")],
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
