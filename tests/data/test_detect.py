"""Layouts: where labels and images are found, and how they are paired."""

from pathlib import Path

import pytest

from legnet_cli.data.detect import find_parts, read_split_lists
from legnet_cli.data.parts import load_parts
from legnet_cli.errors import ConfigError, DataError

REAL = Path(__file__).parents[1] / "real"

DOTA = "10 10 30 10 30 20 10 20 plane 0\n"
YOLO = "0 .1 .1 .3 .1 .3 .2 .1 .2\n"
NUMBERS = "1.0 40 30 120 30 120 60 40 60\n"  # of YOLO in pixels, or of DOTA with a class "60"
NAMES = "names: [a, b]\n"
DIOR = "<annotation><object><name>a</name></object></annotation>"
FAIR1M = "<annotation><objects/></annotation>"
HRSC = "<HRSC_Image></HRSC_Image>"
COCO = '{"images": [], "annotations": [], "categories": []}'

# files -> format, {split: (labels, images)}; images are empty files
LAYOUTS = {
    "dota": (
        {"train/labelTxt/a.txt": DOTA, "train/images/a.png": "", "val/labelTxt/b.txt": DOTA, "val/images/b.JPG": ""},
        "dota",
        {"train": ("train/labelTxt", "train/images"), "val": ("val/labelTxt", "val/images")},
    ),
    "dota with a test set": (
        {"train/annfiles/a.txt": DOTA, "train/images/a.png": "", "test/images/t.png": ""},
        "dota",
        {"train": ("train/annfiles", "train/images"), "test": (None, "test/images")},
    ),
    "one folder": ({"labelTxt/a.txt": DOTA, "images/a.tif": ""}, "dota", {"": ("labelTxt", "images")}),
    "dota of empty files": ({"labelTxt/a.txt": "", "images/a.tif": ""}, "dota", {"": ("labelTxt", "images")}),
    "version folder": (
        {"train/labelTxt-v1.5/a.txt": DOTA, "train/images/a.png": ""},
        "dota",
        {"train": ("train/labelTxt-v1.5", "train/images")},
    ),
    "unpacked archive": (
        {"train/labelTxt-v1.0/labelTxt/a.txt": DOTA, "train/images/a.png": ""},
        "dota",
        {"train": ("train/labelTxt-v1.0/labelTxt", "train/images")},
    ),
    "all in one": ({"a.txt": DOTA, "a.png": "", "README.txt": "x"}, "dota", {"": (".", ".")}),
    "dota labels in yolo folders": (
        {"labels/train/a.txt": DOTA, "images/train/a.png": ""},
        "dota",
        {"train": ("labels/train", "images/train")},
    ),
    "yolo": (
        {"labels/train/a.txt": YOLO, "images/train/a.png": "", "labels/val/b.txt": YOLO, "images/val/b.png": ""},
        "yolo-obb",
        {"train": ("labels/train", "images/train"), "val": ("labels/val", "images/val")},
    ),
    "roboflow": (
        {"train/labels/a.txt": YOLO, "train/images/a.png": "", "valid/labels/b.txt": "", "valid/images/b.png": ""},
        "yolo-obb",
        {"train": ("train/labels", "train/images"), "val": ("valid/labels", "valid/images")},
    ),
    "yolo with decimals": (
        {"labels/train/a.txt": YOLO.replace("0 ", "0.000000 "), "images/train/a.png": ""},
        "yolo-obb",
        {"train": ("labels/train", "images/train")},
    ),
    "yolo with a confidence": (
        {"labels/train/a.txt": YOLO.replace("\n", " 0.9\n"), "images/train/a.png": ""},
        "yolo-obb",
        {"train": ("labels/train", "images/train")},
    ),
    "yolo with commas": (
        {"labels/train/a.txt": YOLO.replace(" ", ","), "images/train/a.png": ""},
        "yolo-obb",
        {"train": ("labels/train", "images/train")},
    ),
    "yolo by data.yaml": (
        {"labels/train/a.txt": NUMBERS, "images/train/a.png": "", "data.yaml": NAMES},
        "yolo-obb",
        {"train": ("labels/train", "images/train")},
    ),
    "numbers in a folder of DOTA's": (
        {"labelTxt/train/a.txt": NUMBERS, "images/train/a.png": ""},
        "dota",
        {"train": ("labelTxt/train", "images/train")},
    ),
    "numbers that another folder explains": (
        {
            "labels/train/a.txt": NUMBERS,
            "images/train/a.png": "",
            "labels/val/b.txt": YOLO,
            "images/val/b.png": "",
        },
        "yolo-obb",
        {"train": ("labels/train", "images/train"), "val": ("labels/val", "images/val")},
    ),
    "dota beside a data.yaml": (
        {"labelTxt/a.txt": DOTA, "images/a.png": "", "data.yaml": NAMES},
        "dota",
        {"": ("labelTxt", "images")},
    ),
    "dior": (
        {
            "Annotations/Oriented Bounding Boxes/1.xml": DIOR,
            "Annotations/Horizontal Bounding Boxes/1.xml": DIOR,
            "JPEGImages-trainval/1.jpg": "",
            "JPEGImages-test/2.jpg": "",
            "ImageSets/Main/train.txt": "1\n",
        },
        "dior",
        {"": ("Annotations/Oriented Bounding Boxes", "JPEGImages-test JPEGImages-trainval")},
    ),
    "fair1m": (
        {
            "train/part1/labelXml/1.xml": FAIR1M,
            "train/part1/images/1.tif": "",
            "validation/labelXml/2.xml": FAIR1M,
            "validation/images/2.tif": "",
        },
        "fair1m",
        {"train": ("train/part1/labelXml", "train/part1/images"), "val": ("validation/labelXml", "validation/images")},
    ),
    "hrsc": (
        {"FullDataSet/Annotations/1.xml": HRSC, "FullDataSet/AllImages/1.bmp": "", "ImageSets/train.txt": "1\n"},
        "hrsc",
        {"": ("FullDataSet/Annotations", "FullDataSet/AllImages")},
    ),
    "coco": (
        {
            "annotations/instances_train2017.json": COCO,
            "annotations/captions_train2017.json": COCO,
            "train2017/1.jpg": "",
        },
        "coco",
        {"train": ("annotations/instances_train2017.json", "train2017")},
    ),
    "coco beside its images": (
        {"train/_annotations.coco.json": COCO, "train/1.jpg": ""},
        "coco",
        {"train": ("train/_annotations.coco.json", "train")},
    ),
    "a scene and its polygons": (
        {"a.tif": "", "a.geojson": "", "b.tif": ""},
        "geojson",
        {"": ("a.geojson", ".")},
    ),
    "polygons beside scenes": ({"scene.tif": "", "cars.gpkg": ""}, "gpkg", {"": ("cars.gpkg", ".")}),
    "a stray folder": (
        {"labelTxt/a.txt": DOTA, "images/a.png": "", "xml_sample/a.xml": DIOR, "split.json": "{}"},
        "dota",
        {"": ("labelTxt", "images")},
    ),
}


def make(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout):
    files, format, expected = LAYOUTS[layout]
    found, parts = find_parts(make(tmp_path, files))
    assert found == format

    def name(path):
        return None if path is None else path.relative_to(tmp_path).as_posix()

    assert {part.split: (name(part.labels), " ".join(map(name, part.images))) for part in parts} == expected


@pytest.mark.parametrize(
    ("files", "wanted", "message"),
    [
        ({"images/a.png": ""}, {}, "no labels in a known layout found"),
        ({"train/images/a.png": "", "notes.txt": "x"}, {"format": "coco"}, "no coco labels found"),
        ({"labelTxt/a.txt": DOTA}, {"format": "dior"}, "no dior labels found but dota"),
        ({"labelTxt/a.txt": DOTA, "labels/a.txt": YOLO}, {}, "several formats .*choose with --from or --labels"),
        (
            {"labelTxt-v1.0/a.txt": DOTA, "labelTxt-v1.5/a.txt": DOTA, "images/a.png": ""},
            {},
            "labelTxt-v1.0 and labelTxt-v1.5 label the same images: choose one with --labels",
        ),
        ({"labelTxt/a.txt": DOTA}, {"labels": "v2.0"}, "no labels in a known layout"),
        (
            {"a.tif": "", "x.geojson": "", "y.geojson": ""},
            {},
            "x.geojson, .*y.geojson: several files of polygons, none named as an image: choose one with --labels",
        ),
    ],
)
def test_unclear_layouts_are_refused(tmp_path, files, wanted, message):
    with pytest.raises(DataError, match=message):
        find_parts(make(tmp_path, files), **wanted)


def test_unknown_format_and_folder(tmp_path):
    with pytest.raises(ConfigError, match="unknown label format 'voc': choose from dota, dior"):
        find_parts(tmp_path, "voc")
    for name in ("nothing", "x" * 5000, "a\0b"):
        with pytest.raises(DataError, match="does not exist"):
            find_parts(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "format"), [(DOTA, "yolo-obb"), (YOLO, "dota"), (NUMBERS, "yolo-obb"), (DIOR, "fair1m"), (DIOR, "hrsc")]
)
def test_from_overrules_the_guess(tmp_path, text, format):
    name = "labels/a.xml" if text is DIOR else "labels/a.txt"
    found, (part,) = find_parts(make(tmp_path, {name: text, "images/a.png": ""}), format)
    assert (found, part.labels, part.images) == (format, tmp_path / "labels", (tmp_path / "images",))


def test_from_takes_what_looks_right_where_there_is_some(tmp_path):
    files = {"labelTxt/a.txt": DOTA, "labels/a.txt": YOLO, "images/a.png": ""}
    _, (part,) = find_parts(make(tmp_path, files), "yolo-obb")
    assert part.labels == tmp_path / "labels"


# files -> {(split, labels, images): name of the image}
PAIRS = {
    "side by side": (
        ["a.tif", "a.geojson", "b.tif", "b.geojson"],
        [("", "a.geojson", "a.tif", "a.tif"), ("", "b.geojson", "b.tif", "b.tif")],
    ),
    "in folders of their own": (
        ["images/x/a.tif", "labels/a.gpkg", "images/b.tif", "labels/b.gpkg"],
        [("", "labels/a.gpkg", "images/x/a.tif", "x/a.tif"), ("", "labels/b.gpkg", "images/b.tif", "b.tif")],
    ),
    "splits": (
        ["train/a.tif", "train/a.geojson", "val/a.tif", "val/a.geojson"],
        [("train", "train/a.geojson", "train/a.tif", "a.tif"), ("val", "val/a.geojson", "val/a.tif", "a.tif")],
    ),
    "one without labels, one without a scene": (
        ["a.tif", "a.geojson", "b.tif", "c.geojson"],
        [("", "a.geojson", "a.tif", "a.tif"), ("", "c.geojson", "", ""), ("", None, "b.tif", "b.tif")],
    ),
}


@pytest.mark.parametrize("case", PAIRS)
def test_polygons_of_the_same_name_as_their_scene(tmp_path, case):
    files, expected = PAIRS[case]
    _, parts = find_parts(make(tmp_path, dict.fromkeys(files, "")))

    def name(path):
        return None if path is None else path.relative_to(tmp_path).as_posix()

    found = [(part.split, name(part.labels), " ".join(map(name, part.images)), part.file) for part in parts]
    assert sorted(found, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize("given", ["a.tif", "a.geojson"])
def test_a_scene_or_its_polygons_alone(tmp_path, given):
    make(tmp_path, dict.fromkeys(["a.tif", "a.geojson", "b.tif", "b.geojson"], ""))
    format, (part,) = find_parts(tmp_path / given)
    assert (format, part.labels, part.images) == ("geojson", tmp_path / "a.geojson", (tmp_path / "a.tif",))


@pytest.mark.parametrize("labels", ["labelTxt-v1.5", "v1.5"])
def test_labels_chooses(tmp_path, labels):
    files = {f"train/labelTxt-v{v}/sub/a.txt": DOTA for v in ("1.0", "1.5")} | {"train/images/sub/a.png": ""}
    _, (part,) = find_parts(make(tmp_path, files), labels=labels)
    assert part.labels == tmp_path / "train/labelTxt-v1.5"


@pytest.mark.parametrize("inner", ["labelTxt", "images/../labelTxt"])
def test_the_folder_of_labels_itself(tmp_path, inner):
    make(tmp_path, {"labelTxt/a.txt": DOTA, "images/a.png": ""})
    _, (part,) = find_parts(tmp_path / inner)
    assert [folder.resolve() for folder in part.images] == [tmp_path / "images"]


def load(root, **wanted):
    dataset = load_parts(root, *find_parts(root, **wanted))
    return dataset, [str(problem) for problem in dataset.problems]


@pytest.mark.parametrize(
    "stem", ["a b", "P1000__1024__824___0", "图像", "scene.v2", "dir/a", "dir/sub/ü ß", "labels.txt", "-x"]
)
def test_names_of_images(tmp_path, stem):
    make(tmp_path, {f"labelTxt/{stem}.txt": DOTA, f"images/{stem}.PNG": ""})
    dataset, problems = load(tmp_path)
    assert not problems
    (image,) = dataset.images
    assert (image.stem, image.file, len(image)) == (stem, f"{stem}.PNG", 1)


def test_images_and_labels_without_each_other(tmp_path):
    make(tmp_path, {"labelTxt/a.txt": DOTA, "labelTxt/b.txt": DOTA, "images/b.png": "", "images/c.png": ""})
    dataset, problems = load(tmp_path)
    assert [(image.stem, len(image), image.path is None) for image in dataset.images] == [
        ("a", 1, True),
        ("b", 1, False),
        ("c", 0, False),
    ]
    assert problems == [
        f"{tmp_path}/images: no image for the labels of a",
        f"{tmp_path}/labelTxt: no labels for 1 image, counted as empty: c",
    ]


def test_two_images_of_one_name(tmp_path):
    make(tmp_path, {"labelTxt/a.txt": DOTA, "images/a.png": "", "images/a.tif": ""})
    dataset, (problem,) = load(tmp_path)
    assert (
        problem
        == f"{tmp_path}/images/a.tif: has the same name as {tmp_path}/images/a.png: rename one of them and its labels"
    )
    assert dataset.problems[0].left_out
    assert len(dataset.images) == 1


def test_two_label_files_of_one_image(tmp_path):
    make(tmp_path, {"labelTxt-v1.5/obb/a.txt": DOTA, "labelTxt-v1.5/hbb/a.txt": DOTA, "images/a.png": ""})
    with pytest.raises(DataError, match="has labels of the same image: choose with --labels"):
        load(tmp_path)
    dataset, _ = load(tmp_path, labels="obb")
    assert len(dataset.images[0]) == 1


def test_classes_come_sorted_or_as_listed(tmp_path):
    make(tmp_path, {"labelTxt/a.txt": DOTA + DOTA.replace("plane", "bridge"), "images/a.png": ""})
    assert load(tmp_path)[0].classes == ("bridge", "plane")
    make(tmp_path, {"classes.txt": "ship\nplane\nbridge\n"})
    assert load(tmp_path)[0].classes == ("ship", "plane", "bridge")
    make(tmp_path, {"classes.txt": "plane\n"})
    assert "a.txt:2: unknown class 'bridge'" in load(tmp_path)[1][0]
    make(tmp_path, {"classes.txt": "plane\nplane\n"})
    with pytest.raises(DataError, match="duplicate class name 'plane'"):
        load(tmp_path)


def test_split_lists(tmp_path):
    labels = {f"labelTxt/{stem}.txt": DOTA for stem in "abcd"} | {f"images/{stem}.png": "" for stem in "abcd"}
    lists = {"splits/train.txt": "a\nb.png\n", "splits/val.txt": "b\nc\nx\n\n", "splits/trainval.txt": "a\nb\nc\n"}
    dataset, problems = load(make(tmp_path, labels | lists))
    assert [(image.stem, image.split) for image in dataset.images] == [("a", "train"), ("b", "train"), ("c", "val")]
    assert problems == [
        "b: is listed in train and val: it went to train",
        f"{tmp_path}: left out 1 image, on no list of a split: d",
        f"{tmp_path}: the lists name 1 image without a file: x",
    ]
    assert dataset.splits() == ("train", "val")
    assert len(dataset.split("val").images) == 1
    with pytest.raises(DataError, match="split 'test' is not in this dataset: choose from train, val"):
        dataset.split("test")


def test_split_lists_of_paths(tmp_path):
    make(tmp_path, {"train.txt": "./images/train/a.jpg\r\n/data/images/b.jpg\r\n"})
    assert read_split_lists(tmp_path) == {"train": {"a", "b"}}


def test_unusable_files_are_named_and_leave_no_empty_image(tmp_path):
    bad = {"Annotations/b.xml": "<annotation>", "Annotations/c.xml": "<!DOCTYPE x><annotation/>"}
    make(tmp_path, {"Annotations/a.xml": DIOR, **bad, **{f"JPEGImages/{stem}.jpg": "" for stem in "abc"}})
    dataset, problems = load(tmp_path)
    assert [image.stem for image in dataset.images] == ["a"]
    assert problems[0].startswith(f"{tmp_path}/Annotations/a.xml:1: <robndbox/x_left_top> is missing")
    assert problems[1].startswith(f"{tmp_path}/Annotations/b.xml: line 1 is not XML")
    assert "DOCTYPE" in problems[2]
    assert all(problem.left_out for problem in dataset.problems)


@pytest.mark.parametrize(
    ("folder", "wanted", "format", "images", "objects"),
    [
        ("hit_uav", {}, "dota", 7, 52),
        ("torchgeo/dota", {"labels": "version2.0"}, "dota", 5, 6),
        ("torchgeo/dior", {}, "dior", 8, 15),
        ("torchgeo/fair1m", {}, "fair1m", 4, 4),
        ("datumaro", {}, "dota", 3, 4),
        ("mmrotate/hrsc", {}, "hrsc", 1, 1),
        ("mmrotate/dior", {}, "dior", 1, 1),
        ("mmrotate/dota", {}, "dota", 2, 4),
    ],
)
def test_files_of_other_projects(folder, wanted, format, images, objects):
    dataset, _ = load(REAL / folder, **wanted)
    assert (dataset.format, len(dataset.images), sum(map(len, dataset.images))) == (format, images, objects)
    assert not any(problem.left_out for problem in dataset.problems)


def test_numbers_that_may_be_of_either_format(tmp_path):
    for name, text in {"labels/a.txt": NUMBERS, "images/a.png": "", "data.yaml": "a: 1"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=r"labels: its lines may be DOTA's .*, or YOLO-OBB's in pixels: say which"):
        find_parts(tmp_path)
    assert [find_parts(tmp_path, name)[0] for name in ("dota", "yolo-obb")] == ["dota", "yolo-obb"]
