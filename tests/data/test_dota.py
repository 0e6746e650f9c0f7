from pathlib import Path

import numpy as np
import pytest

from legnet_cli.data import dota
from legnet_cli.data.builder import LabelBuilder
from legnet_cli.errors import DataError

QUAD = "10.0 20.0 30.0 20.0 30.0 40.0 10.0 40.0"


def parse(text, names=None):
    problems = []
    builder = LabelBuilder(Path("P1.txt"), problems, names=names)
    dota.parse(text.encode() if isinstance(text, str) else text, builder)
    return builder.build("P1.png", None, ""), [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("line", "name", "difficult"),
    [
        (f"{QUAD} plane 0", "plane", 0),
        (f"{QUAD} plane 1", "plane", 1),
        (f"{QUAD} plane 2", "plane", 2),
        (f"{QUAD} plane", "plane", 0),
        (f"  {QUAD}\tsmall-vehicle  1 ", "small-vehicle", 1),
        (f"{QUAD} Cargo Truck 0", "Cargo Truck", 0),
        (f"{QUAD} 7 1", "7", 1),
        (f"{QUAD} 船 0", "船", 0),
        (f"{QUAD} OXo|--) 0", "OXo|--)", 0),
        ("1e1 20 3e1 20 30. 40 1.0E+1 40 plane 0", "plane", 0),
    ],
)
def test_lines(line, name, difficult):
    image, problems = parse(line)
    assert not problems
    assert (image.names, image.difficult.tolist()) == ((name,), [difficult])
    np.testing.assert_array_equal(image.quads[0], [[10, 20], [30, 20], [30, 40], [10, 40]])


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("10 20 30 20 30 40 plane 0", "6 coordinates where 4 points have 8"),
        (f"50 50 {QUAD} plane 0", "10 coordinates where 4 points have 8"),
        (QUAD, "the class is missing"),
        ("10 20 30", "3 coordinates where 4 points have 8"),
        ("10 20 30 20 30 4O 10 40 plane 0", "'4O' is not a number"),
        ("10,20 30,20 30,40 10,40 plane 0", "0 coordinates where 4 points have 8"),
        (f"{QUAD} plane easy", "'difficult' is 'easy', not a whole number"),
        ("10 20 30 20 nan 40 10 40 plane 0", "a corner is not a finite number"),
        ("10 20 30 20 inf 40 10 40 plane 0", "a corner is not a finite number"),
        ("10 20 10 20 10 20 10 20 plane 0", "the area is zero"),
        ("0 0 1 1 2 2 3 3 plane 0", "the area is zero"),
        ("<html>", "0 coordinates where 4 points have 8"),
    ],
)
def test_bad_lines_are_named_and_the_others_kept(line, fault):
    image, problems = parse(f"imagesource:x\n{QUAD} ship 0\n{line}\n\n{QUAD} ship 0\n")
    assert problems == [f"P1.txt:3: {fault}"]
    assert image.names == ("ship", "ship")
    assert image.places == (":2", ":5")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_line_ends_byte_order_marks_and_headers(end, start):
    lines = ["imagesource:GoogleEarth", "gsd:0.115726939386", "", f"{QUAD} plane 0", f"{QUAD} ship 1", "", ""]
    image, problems = parse(start + end.join(lines).encode())
    assert not problems
    assert image.names == ("plane", "ship")
    assert image.meta == {"imagesource": "GoogleEarth", "gsd": "0.115726939386"}


def test_render_keeps_every_digit_and_the_header():
    image, _ = parse("gsd:0.5\nimagesource:GF\n0.1 0.2 30.123456789 0.30000000000000004 5 6 7 8.5 Cargo Truck 2\n")
    text = dota.render(image, dota.codes(["Cargo Truck"]))
    assert text == "imagesource:GF\ngsd:0.5\n0.1 0.2 30.123456789 0.30000000000000004 5.0 6.0 7.0 8.5 Cargo-Truck 2\n"
    again, _ = parse(text, {"Cargo-Truck": "Cargo Truck"})
    np.testing.assert_array_equal(again.quads, image.quads)
    assert again.names == image.names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plan", "did you mean 'plane'?"),
        ("Small Vehicle", "did you mean 'small-vehicle'?"),
        ("zzz", "known are plane, "),
    ],
)
def test_unknown_class_names_the_nearest(name, message):
    _, problems = parse(f"{QUAD} {name} 0", {"plane": "plane", "small-vehicle": "small-vehicle"})
    assert problems[0].startswith(f"P1.txt:1: unknown class {name!r}: {message}")


def test_two_classes_that_dota_cannot_tell_apart():
    with pytest.raises(DataError, match="'Cargo Truck' and 'Cargo-Truck' are the same in DOTA text: rename one"):
        dota.codes(["Cargo Truck", "Cargo-Truck"])


def test_other_encodings_are_refused():
    with pytest.raises(DataError, match="not UTF-8"):
        parse("船".encode("gbk"))
