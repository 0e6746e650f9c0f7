"""Label files of other programs, told by what they hold: where their objects lie, worked out here by hand."""

import json
import math
from contextlib import suppress

import numpy as np
import pytest

from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.labels import IGNORED, LabelError
from legnet_cli.data.png import encode_png
from legnet_cli.errors import DataError, LegnetError

WIDTH, HEIGHT = 200, 100
IMAGE = encode_png(np.zeros((HEIGHT, WIDTH, 3), np.uint8))

UPRIGHT = [[20, 20], [80, 20], [80, 40], [20, 40]]
# UPRIGHT by 30° clockwise about its centre (50, 30): half sides (30, 10), cos 30° = 0.8660, sin 30° = 0.5
ABOUT_CENTRE = [[29.0192, 6.3397], [80.9808, 36.3397], [70.9808, 53.6603], [19.0192, 23.6603]]
# and about its corner (20, 20)
ABOUT_CORNER = [[20, 20], [71.9615, 50], [61.9615, 67.3205], [10, 37.3205]]
DIAMOND = [[50, 10], [80, 40], [50, 70], [20, 40]]


def label_studio(*regions, **task):
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "from_name": "label"}
    results = [{"id": f"r{i}", "type": "rectanglelabels", **size, **region} for i, region in enumerate(regions)]
    return [{"id": 7, "data": {"image": "/data/upload/1/1a2b3c4d-a.png"}, "annotations": [{"result": results}], **task}]


LS_BOX = {"x": 10, "y": 20, "width": 30, "height": 20, "rotation": 30, "rectanglelabels": ["ship"]}
LS_POLYGON = {"points": [[25, 10], [40, 40], [25, 70], [10, 40]], "polygonlabels": ["ship"], "closed": True}
LS_MIN = {"original_width": WIDTH, "original_height": HEIGHT, "from_name": "label"}


def labelme(*shapes):
    about = {"imagePath": "a.png", "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    return {"version": "2.3.6", "flags": {}, "shapes": [{"label": "ship", **shape} for shape in shapes], **about}


def via(shape, attributes=None, **about):
    region = {"shape_attributes": shape, "region_attributes": {"class": "ship"} if attributes is None else attributes}
    return {"a.png999": {"filename": "a.png", "size": 999, "regions": [region], "file_attributes": {}, **about}}


VIA_RECT = {"name": "rect", "x": 20, "y": 20, "width": 60, "height": 20}
VIA_POLYGON = {"name": "polygon", "all_points_x": [50, 80, 50, 20], "all_points_y": [10, 40, 70, 40]}
VIA_HEAD = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"


def via_csv(shape):
    cells = (json.dumps(value).replace('"', '""') for value in (shape, {"class": "ship"}))
    return VIA_HEAD + 'a.png,999,"{}",1,0,' + ",".join(f'"{cell}"' for cell in cells) + "\n"


def cvat(shape, more="", image='name="a.png"'):
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta/>'
        f'<image id="0" {image} width="{WIDTH}" height="{HEIGHT}">\n{shape}</image>{more}</annotations>'
    )


CVAT_BOX = (
    '<box label="ship" source="manual" occluded="0" xtl="20.00" ytl="20.00" xbr="80.00" ybr="40.00" {} z_order="0"/>'
)


def xview(**properties):
    about = {"bounds_imcoords": "20,20,80,40", "type_id": 51, "image_id": "a.png", "cat_id": "10", **properties}
    point = {"type": "Point", "coordinates": [9.0, 40.0]}
    return {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": point, "properties": about}]}


def rolabelimg(angle):
    box = f"<cx>50</cx><cy>30</cy><w>60</w><h>20</h><angle>{angle}</angle>"
    item = f"<object><type>robndbox</type><name>ship</name><robndbox>{box}</robndbox></object>"
    return f'<annotation verified="no"><folder>x</folder><filename>a</filename>{item}</annotation>'


YOLO = "0 0.1 0.2 0.4 0.2 0.4 0.4 0.1 0.4\n"

# files besides a.png -> format, corners
CASES = {
    "label studio": ({"export.json": label_studio({"value": LS_BOX})}, "label-studio", ABOUT_CORNER),
    "label studio, polygon": (
        {"export.json": label_studio({"value": LS_POLYGON, "type": "polygonlabels"})},
        "label-studio",
        DIAMOND,
    ),
    "label studio, ellipse": (
        {
            "export.json": label_studio(
                {"value": {"x": 25, "y": 30, "radiusX": 15, "radiusY": 10, "rotation": 30, "ellipselabels": ["ship"]}}
            )
        },
        "label-studio",
        ABOUT_CENTRE,
    ),
    "label studio, class apart": (
        {
            "export.json": label_studio(
                {"id": "q", "type": "rectangle", "value": {k: v for k, v in LS_BOX.items() if k != "rectanglelabels"}},
                {"id": "q", "type": "labels", "value": {"labels": ["ship"]}},
            )
        },
        "label-studio",
        ABOUT_CORNER,
    ),
    "label studio, local files": (
        {"export.json": label_studio({"value": LS_BOX}, data={"picture": "/data/local-files/?d=my%20set/a.png"})},
        "label-studio",
        ABOUT_CORNER,
    ),
    "label studio, the valid annotation": (
        {
            "export.json": label_studio(
                annotations=[{"was_cancelled": True, "result": []}, *label_studio({"value": LS_BOX})[0]["annotations"]]
            )
        },
        "label-studio",
        ABOUT_CORNER,
    ),
    "label studio, one task": ({"1.json": label_studio({"value": LS_BOX})[0]}, "label-studio", ABOUT_CORNER),
    "label studio, min": (
        {"export.json": [{"image": "s3://bucket/x/a.png", "id": 1, "label": [LS_BOX | LS_MIN], "annotator": 1}]},
        "label-studio",
        ABOUT_CORNER,
    ),
    "label studio, yolo": (
        {
            "labels/a.txt": YOLO,
            "classes.txt": "ship\n",
            "notes.json": {"categories": [{"id": 0, "name": "ship"}], "info": {"contributor": "Label Studio"}},
        },
        "yolo-obb",
        UPRIGHT,
    ),
    "roboflow": (
        {
            "train/labels/a.txt": YOLO,
            "train/images/a.png": IMAGE,
            "data.yaml": "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['ship']\n",
            "README.dataset.txt": "# ships > 2024-01-01\nProvided by a Roboflow user\nLicense: CC BY 4.0\n",
            "README.roboflow.txt": "ships - v1\nThe dataset includes 1 images.\n* Resize to 640x640 (Stretch)\n",
        },
        "yolo-obb",
        UPRIGHT,
    ),
    "rolabelimg": ({"a.xml": rolabelimg(math.radians(30))}, "dior", ABOUT_CENTRE),
    "rolabelimg, half a turn on": (
        {"a.xml": rolabelimg(math.radians(210))},
        "dior",
        ABOUT_CENTRE[2:] + ABOUT_CENTRE[:2],
    ),
    "x-anylabeling": (
        {
            "a.json": labelme(
                {
                    "shape_type": "rotation",
                    "points": ABOUT_CENTRE,
                    "direction": 0.5236,
                    "difficult": False,
                    "score": None,
                }
            )
        },
        "labelme",
        ABOUT_CENTRE,
    ),
    "labelme, rectangle": (
        {"a.json": labelme({"shape_type": "rectangle", "points": [[80, 40], [20, 20]]})},
        "labelme",
        UPRIGHT,
    ),
    "labelme, rectangle of 4": (
        {"a.json": labelme({"shape_type": "rectangle", "points": UPRIGHT})},
        "labelme",
        UPRIGHT,
    ),
    "labelme, polygon": ({"a.json": labelme({"points": DIAMOND})}, "labelme", DIAMOND),
    "labelme, circle": (
        {"a.json": labelme({"shape_type": "circle", "points": [[50, 40], [53, 44]]})},
        "labelme",
        [[45, 35], [55, 35], [55, 45], [45, 45]],
    ),
    "via": ({"via.json": via(VIA_RECT)}, "via", UPRIGHT),
    "via, polygon": ({"via.json": via(VIA_POLYGON, {"kind": {"ship": True, "car": False}})}, "via", DIAMOND),
    "via, project": (
        {"p.json": {"_via_settings": {}, "_via_img_metadata": via(VIA_POLYGON, {"type": "ship"})}},
        "via",
        DIAMOND,
    ),
    "via 1": ({"via.json": via(None, regions={"0": via(VIA_RECT)["a.png999"]["regions"][0]})}, "via", UPRIGHT),
    "via, ellipse": (
        {"via.json": via({"name": "ellipse", "cx": 50, "cy": 30, "rx": 30, "ry": 10, "theta": math.radians(30)})},
        "via",
        ABOUT_CENTRE,
    ),
    "via, csv": ({"via_region_data.csv": via_csv(VIA_POLYGON)}, "via", DIAMOND),
    "cvat": ({"annotations.xml": cvat(CVAT_BOX.format('rotation="30.00"'))}, "cvat", ABOUT_CENTRE),
    "cvat, upright": ({"annotations.xml": cvat(CVAT_BOX.format(""))}, "cvat", UPRIGHT),
    "cvat, polygon": (
        {"annotations.xml": cvat('<polygon label="ship" points="50.00,10.00;80,40;50,70;20,40" z_order="0"/>')},
        "cvat",
        DIAMOND,
    ),
    "cvat, ellipse": (
        {"annotations.xml": cvat('<ellipse label="ship" cx="50" cy="30" rx="30" ry="10" rotation="30"/>')},
        "cvat",
        ABOUT_CENTRE,
    ),
    "cvat, mask": (  # rows of 60 in a box of 64 × 22: two empty rows, then 20 with 2 pixels on either side
        {
            "annotations.xml": cvat(
                f'<mask label="ship" left="18" top="18" width="64" height="22" rle="130, {"60, 4, " * 19}60, 2"/>'
            )
        },
        "cvat",
        UPRIGHT,
    ),
    "xview": ({"xView_train.geojson": xview(type_name="ship")}, "xview", UPRIGHT),
    "four corners in xview's form": (
        {"labels.json": xview(bounds_imcoords=np.ravel(DIAMOND).tolist(), type_name="ship")},
        "xview",
        DIAMOND,
    ),
}


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(data.encode() if isinstance(data, str) else data)


@pytest.mark.parametrize("case", CASES)
def test_objects_lie_where_the_program_shows_them(tmp_path, case):
    files, format, corners = CASES[case]
    images = "images/a.png" if "labels/a.txt" in files else "a.png"
    write(tmp_path, files if "train/images/a.png" in files else {images: IMAGE, **files})
    dataset = load_dataset(tmp_path, sizes=True)
    assert (dataset.format, dataset.classes, len(dataset.images)) == (format, ("ship",), 1)
    assert not [str(problem) for problem in dataset.problems]
    (image,) = dataset.images
    assert (image.path.name, image.size, image.names) == ("a.png", (WIDTH, HEIGHT), ("ship",))
    found = image.quads[0]
    np.testing.assert_allclose(
        found[np.lexsort(found.T)], np.array(corners)[np.lexsort(np.array(corners).T)], atol=1e-3
    )


BOX = CVAT_BOX.format("")
LAYOUTS = {  # files -> images by split
    "xview": ({"xView_train.geojson": xview(), "train_images/a.png": IMAGE, "val_images/b.png": IMAGE}, "train val"),
    "folders by split": ({"train_labels/a.txt": "1 1 9 1 9 9 1 9.5 ship 0\n", "train_images/a.png": IMAGE}, "train"),
    "cvat, an export": ({"annotations.xml": cvat(BOX), "images/a.png": IMAGE}, ""),
    "cvat, a folder": ({"annotations.xml": cvat(BOX, image='name="x/a.png"'), "images/x/a.png": IMAGE}, ""),
    "cvat, a project": (
        {"annotations.xml": cvat(BOX, image='name="a.png" subset="Test"'), "images/Test/a.png": IMAGE},
        "test",
    ),
    "label studio, uploads": ({"p.json": label_studio({"value": LS_BOX}), "images/1a2b3c4d-a.png": IMAGE}, ""),
    "labelme, apart": ({"labels/a.json": labelme({"points": DIAMOND}), "images/a.png": IMAGE}, ""),
    "labelme, in folders": ({"a/a.png": IMAGE, "a/a.json": labelme({"points": DIAMOND})}, ""),
    "via by split": ({"val/via_region_data.json": via(VIA_RECT), "val/a.png": IMAGE}, "val"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_images_are_found_where_the_program_puts_them(tmp_path, case):
    files, splits = LAYOUTS[case]
    write(tmp_path, files)
    images = load_dataset(tmp_path).images
    assert [image.split for image in images] == splits.split(" ")
    assert [len(image) for image in images][:1] == [1]
    assert all(image.path is not None for image in images)


JSON_CASES = [case for case, (files, _, _) in CASES.items() if any(isinstance(c, dict | list) for c in files.values())]


def places(value, path=()):
    """The way to every value in JSON."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@pytest.mark.parametrize("case", JSON_CASES)
def test_wrong_types_anywhere_are_faults(tmp_path, case):
    files, format, _ = CASES[case]
    write(tmp_path, {"a.png": IMAGE, **files})
    name, content = next((name, c) for name, c in files.items() if isinstance(c, dict | list))
    for path in places(content):
        for wrong in (None, {"x": [1]}, [[]], 10**30, math.inf, "\ud800"):
            changed = json.loads(json.dumps(content))
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            if path:
                inner[path[-1]] = wrong
            (tmp_path / name).write_text(json.dumps(changed if path else wrong))
            with suppress(LegnetError):
                load_dataset(tmp_path, format=format, skip_bad=True)


def test_what_else_is_said_of_objects(tmp_path):
    shapes = ({"points": DIAMOND, "difficult": True, "group_id": 3}, {"points": UPRIGHT, "difficult": "false"})
    attributes = '<attribute name="difficult">true</attribute><attribute name="heading">left</attribute>'
    box = CVAT_BOX.format("").replace("/>", f">{attributes}</box>")
    write(tmp_path, {"one/a.png": IMAGE, "one/a.json": labelme(*shapes)})
    write(tmp_path, {"two/a.png": IMAGE, "two/annotations.xml": cvat(box, image='name="a.png" subset="Validation"')})
    (one,), (two,) = (load_dataset(tmp_path / name).images for name in ("one", "two"))
    assert (one.difficult.tolist(), dict(one.attributes[0])) == ([1, 0], {"group_id": 3})
    assert (two.difficult.tolist(), dict(two.attributes[0]), two.split) == ([1], {"heading": "left"}, "val")


def test_classes_of_xview(tmp_path):
    features = [xview(type_id=kind)["features"][0] for kind in (51, 75, 18)]
    write(tmp_path, {"a.png": IMAGE, "x.geojson": {"type": "FeatureCollection", "features": features}})
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("Container Ship", "Small Car")
    assert dataset.images[0].names == ("Container Ship", IGNORED, "Small Car")


def test_tasks_that_nobody_annotated_are_no_empty_images(tmp_path):
    tasks = [*label_studio({"value": LS_BOX}), *label_studio(data={"image": "b.png"}, annotations=[])]
    write(tmp_path, {"images/a.png": IMAGE, "images/b.png": IMAGE, "export.json": tasks})
    dataset = load_dataset(tmp_path)
    assert [image.file for image in dataset.images] == ["a.png"]
    assert [problem.message for problem in dataset.problems] == [
        "left out 1 task without annotations",
        "does not list 1 image: b.png",
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"v.json": {"project": {"pname": "x", "vid_list": []}, "file": {}, "metadata": {}}}, "VIA 3"),
        ({"annotations.xml": cvat("", '<track id="0" label="ship"/>')}, "is CVAT for video: export the task as"),
        ({"annotations.xml": cvat('<polyline label="ship" points="1,1;2,2"/>')}, ":3: a polyline has no area"),
        ({"annotations.xml": cvat(CVAT_BOX.format("").replace("80.00", "wide"))}, ":3: 'wide' is not a usable number"),
        (
            {"e.json": label_studio({"value": LS_BOX, "image_rotation": 90})},
            "7, region 1: the image was turned by 90°",
        ),
        (
            {"e.json": label_studio({"value": {"format": "rle", "rle": [1], "brushlabels": ["a"]}})},
            "brush masks as COCO",
        ),
        ({"e.json": label_studio({"value": LS_BOX | {"rectanglelabels": []}})}, "the class is missing"),
        ({"e.json": label_studio({"value": LS_BOX | {"rectanglelabels": ["a", "b"]}})}, "has 2 classes: keep one"),
        ({"a.json": labelme({"shape_type": "line", "points": [[1, 1], [2, 2]]})}, "shape 1: a line has no outline"),
        ({"a.json": labelme({"points": [[1, 1], [2, None], [3, 1]]})}, "shape 1: None is not a usable number"),
        ({"v.json": via({"name": "point", "cx": 1, "cy": 1})}, "region 2: a point has no area"),
        ({"v.json": via(VIA_RECT, {"a": "x", "b": "y"})}, "choose with --class-field from a, b"),
        ({"x.geojson": xview(type_id=10)}, "type_id 10 is none of xView's classes"),
        ({"x.geojson": xview(bounds_imcoords="1,2,3")}, "bounds_imcoords has 3 numbers, not 4 or 8"),
    ],
)
def test_what_has_no_box_is_refused_in_a_line(tmp_path, files, message):
    write(tmp_path, {"a.png": IMAGE, **files})
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(tmp_path)
    assert "\n" not in str(caught.value)
    if isinstance(caught.value, LabelError):
        assert sum(map(len, load_dataset(tmp_path, skip_bad=True).images)) == 0


@pytest.mark.parametrize(
    "files",
    [
        {"a.txt": "20 20 80 20 80 40 20 40 ship 0\n", "a.json": labelme({"points": DIAMOND})},
        {"a.xml": rolabelimg(0.5), "a.json": labelme({"points": DIAMOND})},
        {"a.xml": rolabelimg(0.5), "a.txt": "20 20 80 20 80 40 20 40 ship 0\n"},
        {"via.json": via(VIA_RECT), "annotations.xml": cvat(CVAT_BOX.format(""))},
    ],
)
def test_several_formats_in_one_folder_are_not_guessed_between(tmp_path, files):
    write(tmp_path, {"a.png": IMAGE, **files})
    with pytest.raises(DataError, match=r"labels of several formats .*: choose with --from or --labels"):
        load_dataset(tmp_path)
    first = next(iter(files))
    known = {"a.txt": "dota", "a.xml": "dior", "via.json": "via"}[first]
    assert load_dataset(tmp_path, format=known).format == known
