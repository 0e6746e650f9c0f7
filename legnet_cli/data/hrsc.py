"""HRSC2016 XML: centre, sides and angle in radians (our ``le90``) of each ship, and a class number.

Liu et al., "A High Resolution Optical Satellite Image Dataset for Ship Recognition", ICPRAM 2017.
Rectangles are all that it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.data.builder import LabelBuilder
from legnet_cli.data.format import Format, read_class_list
from legnet_cli.data.labels import SUBPIXEL, ImageLabels, Problem
from legnet_cli.data.xml_tree import add_objects, attribute_tags, number, parse_xml, size, tag, text

_FIRST = 100000000
# the data set's own numbers, less 100000000
_NAMES = {
    1: "ship", 2: "aircraft carrier", 3: "warcraft", 4: "merchant ship", 5: "Nimitz", 6: "Enterprise",
    7: "Arleigh Burke", 8: "WhidbeyIsland", 9: "Perry", 10: "Sanantonio", 11: "Ticonderoga", 12: "Kitty Hawk",
    13: "Kuznetsov", 14: "Abukuma", 15: "Austen", 16: "Tarawa", 17: "Blue Ridge", 18: "Container", 19: "OXo|--)",
    20: "Car carrier([]==[])", 22: "Hovercraft", 24: "yacht", 25: "CntShip(_|.--.--|_]=", 26: "Cruise",
    27: "submarine", 28: "lute", 29: "Medical", 30: "Car carrier(======|", 31: "Ford-class", 32: "Midway-class",
    33: "Invincible-class",
}  # fmt: skip
_PUBLISHED = {name: str(_FIRST + number) for number, name in _NAMES.items()}
_BOX = ("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang")
_OWN = {"Object_ID", "Class_ID", "difficult", "box_xmin", "box_ymin", "box_xmax", "box_ymax", *_BOX}


def parse(data: bytes, labels: LabelBuilder) -> None:
    """Add the objects of one HRSC XML file to ``labels``."""
    root = parse_xml(data, "HRSC_Image")
    labels.size = size(root, "Img_SizeWidth", "Img_SizeHeight") or labels.size
    for key, path in (("gsd", "Img_Resolution"), ("imagesource", "Img_Source")):
        labels.meta |= {key: text(root, path)} if text(root, path) else {}
    add_objects(labels, root.iterfind("HRSC_Objects/HRSC_Object"), _corners, "Class_ID", _OWN)


def _corners(item: Element) -> list[float]:
    box = np.array([[number(item, key) for key in _BOX]])
    found: list[float] = boxes_to_polygons(box)[0].ravel().round(SUBPIXEL).tolist()
    return found


def render(image: ImageLabels, codes: Mapping[str, str]) -> str:
    """The HRSC XML of ``image``: the smallest oriented box of each quad."""
    stem, _, suffix = image.file.rpartition("/")[2].rpartition(".")
    lines = ["<HRSC_Image>\n", tag("Img_FileName", stem or suffix, 1), tag("Img_FileFmt", suffix if stem else "", 1)]
    if image.size is not None:
        lines += [tag("Img_SizeWidth", image.size[0], 1), tag("Img_SizeHeight", image.size[1], 1)]
    for key, path in (("gsd", "Img_Resolution"), ("imagesource", "Img_Source")):
        lines += [tag(path, image.meta[key], 1)] if key in image.meta else []
    lines += [tag("Annotated", 1, 1), "  <HRSC_Objects>\n"]
    low, high = image.quads.min(1), image.quads.max(1)
    for i, (name, box) in enumerate(zip(image.names, image.boxes.tolist(), strict=True)):
        lines += ["    <HRSC_Object>\n", tag("Object_ID", i + 1, 3), tag("Class_ID", codes[name], 3)]
        lines += [tag("difficult", int(image.difficult[i]), 3)]
        bounds = zip(("xmin", "ymin", "xmax", "ymax"), [*low[i].tolist(), *high[i].tolist()], strict=True)
        lines += [tag(f"box_{key}", value, 3) for key, value in bounds]
        lines += [tag(key, value, 3) for key, value in zip(_BOX, box, strict=True)]
        lines += [attribute_tags(image.attributes[i], 3, _OWN), "    </HRSC_Object>\n"]
    return "".join([*lines, "  </HRSC_Objects>\n</HRSC_Image>\n"])


def codes(classes: Sequence[str]) -> dict[str, str]:
    """Class numbers: the published ones of HRSC's own classes, numbers from 100000101 on for others."""
    others = iter(range(_FIRST + 101, _FIRST + 101 + len(classes)))
    return {name: _PUBLISHED.get(name) or str(next(others)) for name in classes}


def read_names(root: Path, problems: list[Problem]) -> dict[str, str] | None:
    """Class names by the number that :func:`codes` gives to those of ``classes.txt``; None without it."""
    listed = read_class_list(root)
    return None if listed is None else {code: name for name, code in codes([*dict.fromkeys(listed.values())]).items()}


FORMAT = Format(
    "hrsc",
    ".xml",
    "FullDataSet/AllImages",
    "FullDataSet/Annotations",
    parse,
    render,
    split_lists="ImageSets",
    read_names=read_names,
    default_names={code: name for name, code in _PUBLISHED.items()},
    codes=codes,
)
