"""DIOR-R, FAIR1M and HRSC: what is read, what is refused, and that writing and reading give the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from legnet_cli.boxes import polygons_to_boxes
from legnet_cli.data import dior, fair1m, hrsc
from legnet_cli.data.builder import LabelBuilder
from legnet_cli.data.labels import ImageLabels
from legnet_cli.errors import DataError

HIT_UAV = Path(__file__).parents[1] / "real" / "hit_uav"

DIOR = """<?xml version="1.0" encoding="UTF-8"?>
<annotation><filename>1.jpg</filename><size><width>800</width><height>600</height><depth>3</depth></size>
{}
</annotation>"""
FAIR1M = """<annotation><source><filename>1.tif</filename><origin>GF2</origin></source>
<size><width>800</width><height>600</height></size><objects>
{}
</objects></annotation>"""
HRSC = """<HRSC_Image><Img_SizeWidth>800</Img_SizeWidth><Img_SizeHeight>600</Img_SizeHeight>
<Img_Resolution>1.07</Img_Resolution><HRSC_Objects>
{}
</HRSC_Objects></HRSC_Image>"""

ROBNDBOX = (
    "<robndbox><x_left_top>1.5</x_left_top><y_left_top>2</y_left_top><x_right_top>31.5</x_right_top>"
    "<y_right_top>2</y_right_top><x_right_bottom>31.5</x_right_bottom><y_right_bottom>12</y_right_bottom>"
    "<x_left_bottom>1.5</x_left_bottom><y_left_bottom>12</y_left_bottom></robndbox>"
)
POINTS = "".join(f"<point>{p}</point>" for p in ("1.5,2.0", "31.5,2", " 31.5, 12 ", "1.5,12", "1.5,2"))
MBOX = (
    "<mbox_cx>16.5</mbox_cx><mbox_cy>7</mbox_cy><mbox_w>30</mbox_w><mbox_h>10</mbox_h><mbox_ang>0</mbox_ang>"
    "<Class_ID>100000013</Class_ID>"
)
BNDBOX = "<bndbox><xmin>1.5</xmin><ymin>2</ymin><xmax>31.5</xmax><ymax>12</ymax></bndbox>"
ROLABEL = "<robndbox><cx>16.5</cx><cy>7</cy><w>30</w><h>10</h><angle>0</angle></robndbox>"

CASES = {
    "dior": (dior, DIOR, "<object><name>ship</name><difficult>1</difficult>{}</object>", ROBNDBOX),
    "dior upright": (dior, DIOR, "<object><name>ship</name><difficult>1</difficult>{}</object>", BNDBOX),
    "rolabelimg": (dior, DIOR, "<object><name>ship</name><difficult>1</difficult>{}</object>", ROLABEL),
    "fair1m": (
        fair1m,
        FAIR1M,
        "<object><difficult>1</difficult><possibleresult><name>ship</name></possibleresult><points>{}</points></object>",
        POINTS,
    ),
    "hrsc": (hrsc, HRSC, "<HRSC_Object><difficult>1</difficult>{}</HRSC_Object>", MBOX),
}


def parse(module, text, names=None):
    problems = []
    builder = LabelBuilder(Path("1.xml"), problems, names=names)
    module.parse(text.encode(), builder)
    return builder.build("1.jpg", None, ""), [str(problem) for problem in problems]


@pytest.mark.parametrize("case", CASES)
def test_objects_are_read(case):
    module, frame, item, shape = CASES[case]
    names = {"100000013": "ship"} if module is hrsc else None
    image, problems = parse(module, frame.format(item.format(shape)), names)
    assert not problems
    assert (image.size, image.names, image.difficult.tolist()) == ((800, 600), ("ship",), [1])
    np.testing.assert_allclose(image.quads[0], [[1.5, 2], [31.5, 2], [31.5, 12], [1.5, 12]])


@pytest.mark.parametrize(
    ("case", "old", "new", "fault"),
    [
        ("dior", "<x_left_top>1.5</x_left_top>", "", "<robndbox/x_left_top> is missing"),
        ("dior", "31.5<", "abc<", "<robndbox/x_right_top> is 'abc', not a usable number"),
        ("dior", "<name>ship</name>", "", "the class is missing"),
        ("dior", "<difficult>1<", "<difficult>yes<", "'difficult' is 'yes', not a whole number"),
        ("dior", ">1.5<", ">nan<", "<robndbox/x_left_top> is 'nan', not a usable number"),
        ("fair1m", "<point>31.5,2</point>", "", "3 points where an oriented box has 4"),
        (
            "fair1m",
            "<point>31.5,2</point>",
            "<point>9,9</point><point>31.5,2</point>",
            "5 points where an oriented box",
        ),
        ("fair1m", "1.5,2.0", "1.5;2.0", "<point> is '1.5;2.0', not x,y"),
        ("fair1m", "1.5,2.0", "1.5,a", "<point> is '1.5,a', not two numbers"),
        ("hrsc", "<mbox_w>30<", "<mbox_w>0<", "the area is zero"),
        ("hrsc", "<mbox_ang>0<", "<mbox_ang>inf<", "<mbox_ang> is 'inf', not a usable number"),
        ("dior", "<difficult>1<", f"<difficult>{10**30}<", "'difficult' is '1000"),
        ("hrsc", "<mbox_ang>0</mbox_ang>", "", "<mbox_ang> is missing"),
        ("hrsc", "100000013", "100000099", "unknown class '100000099': known are 100000013 (ship)"),
    ],
)
def test_bad_objects_are_named_by_line(case, old, new, fault):
    module, frame, item, shape = CASES[case]
    good = item.format(shape)
    names = {"100000013": "ship"} if module is hrsc else None
    image, problems = parse(module, frame.format(f"{good}\n{good.replace(old, new)}\n{good}"), names)
    assert len(problems) == 1
    line = next(i for i, text in enumerate(frame.split("\n"), 1) if text == "{}") + 1
    assert problems[0].startswith(f"1.xml:{line}: {fault}")
    assert len(image) == 2


@pytest.mark.parametrize("module", [dior, fair1m, hrsc])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "line 1 is not XML"),
        ("", "is not XML"),
        ("<other/>", "root element is <other>, expected <"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "DOCTYPE"),
        ('<?xml version="1.0" encoding="x-evil"?><annotation/>', "line 1 is not XML .unknown encoding: x-evil"),
        ('<?xml version="1.0" encoding="utf-7"?><annotation/>', "line 1 is not XML"),
        ("<annotation>\0</annotation>", "line 1 is not XML"),
    ],
)
def test_useless_files_are_refused(module, text, message):
    with pytest.raises(DataError, match=message):
        parse(module, text)


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        ("30.0", [[166.699, 107.679], [253.301, 157.679], [233.301, 192.321], [146.699, 142.321]]),
        ("0.0", [[150, 130], [250, 130], [250, 170], [150, 170]]),
        ("180", [[250, 170], [150, 170], [150, 130], [250, 130]]),
        ("left", [[150, 130], [250, 130], [250, 170], [150, 170]]),
    ],
)
def test_rotation_of_cvat(rotation, expected):
    attribute = "<attribute><name>{}</name><value>{}</value></attribute>"
    attributes = attribute.format("truncated", "no") + attribute.format("rotation", rotation)
    box = "<bndbox><xmin>150</xmin><ymin>130</ymin><xmax>250</xmax><ymax>170</ymax></bndbox>"
    image, problems = parse(
        dior, DIOR.format(f"<object><name>bird</name>{box}<attributes>{attributes}</attributes></object>")
    )
    assert not problems
    np.testing.assert_allclose(image.quads[0], expected, atol=1e-3)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "latin-1"])
def test_encodings_that_xml_knows(encoding):
    problems = []
    builder = LabelBuilder(Path("1.xml"), problems)
    text = DIOR.replace("UTF-8", encoding).format(f"<object><name>Ü</name>{ROBNDBOX}</object>")
    dior.parse(text.encode(encoding), builder)
    assert not problems
    assert builder.build("1.jpg", None, "").names == ("Ü",)


def some_image():
    rng = np.random.default_rng(1)
    quads = np.array([[[1.5, 2.25], [31.5, 2.125], [30, 12.7], [1, 12]]]) + rng.uniform(0, 99, (4, 1, 2)).round(3)
    return ImageLabels(
        file="dir/a & b <1>.tif",
        quads=quads,
        names=("ship", "Cargo Truck", "<&>", "ship"),
        difficult=np.array([0, 1, 2, 0]),
        attributes=({"truncated": "1"}, {}, {"pose": "Left & up"}, {}),
        size=(800, 600),
        meta={"imagesource": "GF2"},
        source=Path("x"),
        places=("", "", "", ""),
    )


@pytest.mark.parametrize("module", [dior, fair1m, hrsc])
def test_round_trip(module):
    image = some_image()
    if module is hrsc:  # it holds rectangles
        image = replace(image, quads=np.array([[[9, 8], [49, 8], [49, 18], [9, 18]]]) + np.arange(4.0)[:, None, None])
    classes = ["ship", "Cargo Truck", "<&>"]
    codes = module.FORMAT.codes(classes)
    again, problems = parse(module, module.render(image, codes), {code: name for name, code in codes.items()})
    assert not problems
    assert again.names == image.names
    assert again.difficult.tolist() == [0, 1, 2, 0]
    assert again.size == image.size
    assert [dict(a) for a in again.attributes] == [dict(a) for a in image.attributes]
    if module is not dior:
        assert again.meta == image.meta
    if module is hrsc:
        np.testing.assert_allclose(again.boxes, polygons_to_boxes(image.quads), atol=1e-9)
    else:
        np.testing.assert_array_equal(again.quads, image.quads)


def test_hrsc_numbers_of_classes():
    assert hrsc.codes(["ship", "plane", "Cruise"]) == {"ship": "100000001", "plane": "100000101", "Cruise": "100000026"}


def test_rolabelimg_angle_agrees_with_published_corners():
    samples = sorted((HIT_UAV / "xml_sample").glob("*.xml"))
    assert len(samples) == 2
    for path in samples:
        image, problems = parse(dior, path.read_text())
        rows = [line.split()[:8] for line in (HIT_UAV / "labelTxt" / f"{path.stem}.txt").read_text().splitlines()]
        assert not problems
        published = polygons_to_boxes(np.array(rows, float).reshape(-1, 4, 2))
        np.testing.assert_allclose(image.boxes[:, :4], published[:, :4], atol=0.3)


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("<rotation>30</rotation>", None),
        ("<attributes><attribute><name>Rotation</name><value>30</value></attribute></attributes>", None),
        ("<rotation>30°</rotation>", "its rotation is '30°', not a number of degrees"),
        ("<angle>0.5</angle>", "an upright <bndbox> with an <angle>: give the corners as <robndbox>"),
    ],
)
def test_other_spellings_of_a_turn(more, fault):
    box = "<bndbox><xmin>150</xmin><ymin>130</ymin><xmax>250</xmax><ymax>170</ymax></bndbox>"
    image, problems = parse(dior, DIOR.format(f"<object><name>bird</name>{box}{more}</object>"))
    if fault:
        assert problems == [f"1.xml:3: {fault}"]
        return
    assert not problems
    np.testing.assert_allclose(image.quads[0][0], [166.699, 107.679], atol=1e-3)
    assert not image.attributes[0]
