"""DIOR-R XML: Pascal VOC with a ``robndbox`` of four corners for each object.

Cheng et al., "Anchor-free Oriented Proposal Generator for Object Detection", TGRS 2022; https://gcheng-nwpu.github.io.
Upright ``bndbox`` of DIOR and VOC, and roLabelImg's ``robndbox`` of centre, sides and angle, are read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element

import numpy as np

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.data.format import Format
from legnet_cli.data.labels import SUBPIXEL, ImageLabels, LabelBuilder
from legnet_cli.data.xml_tree import attribute_tags, leaves, number, parse_xml, place, tag, text, whole

_CORNERS = ("left_top", "right_top", "right_bottom", "left_bottom")
_OWN = {"name", "difficult", "type", "angle"}


def parse(data: bytes, labels: LabelBuilder) -> None:
    """Add the objects of one VOC-like XML file to ``labels``."""
    root = parse_xml(data, "annotation")
    labels.size = read_size(root) or labels.size
    for item in root.iterfind("object"):
        try:
            corners, difficult = _corners(item), whole(item, "difficult")
        except ValueError as error:
            labels.bad(place(item), str(error))
        else:
            labels.add(corners, text(item, "name"), difficult, place(item), leaves(item, _OWN))


def read_size(root: Element) -> tuple[int, int] | None:
    """Width and height that a VOC-like file states; None if it does not."""
    try:
        size = whole(root, "size/width"), whole(root, "size/height")
    except ValueError:
        return None
    return size if min(size) > 0 else None


def _corners(item: Element) -> list[float]:
    if item.find("robndbox/cx") is not None:  # roLabelImg
        box = [number(item, f"robndbox/{key}") for key in ("cx", "cy", "w", "h", "angle")]
        found: list[float] = boxes_to_polygons(np.array([box]))[0].ravel().round(SUBPIXEL).tolist()
        return found
    if item.find("robndbox") is None and item.find("bndbox") is not None:
        left, top, right, bottom = (number(item, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax"))
        return [left, top, right, top, right, bottom, left, bottom]
    return [number(item, f"robndbox/{axis}_{corner}") for corner in _CORNERS for axis in ("x", "y")]


def render(image: ImageLabels, codes: Mapping[str, str]) -> str:
    """The DIOR-R XML of ``image``."""
    lines = ["<annotation>\n", tag("filename", image.file.rpartition("/")[2], 1), render_size(image)]
    angles = np.degrees(image.boxes[:, 4]).round(SUBPIXEL).tolist()
    for i, name in enumerate(image.names):
        lines += ["  <object>\n", tag("type", "robndbox", 2), tag("name", codes[name], 2)]
        lines += [tag("difficult", int(image.difficult[i]), 2), "    <robndbox>\n"]
        for corner, (x, y) in zip(_CORNERS, image.quads[i].tolist(), strict=True):
            lines += [tag(f"x_{corner}", x, 3), tag(f"y_{corner}", y, 3)]
        lines += ["    </robndbox>\n", tag("angle", angles[i], 2)]
        lines += [attribute_tags(image.attributes[i], 2, _OWN), "  </object>\n"]
    return "".join([*lines, "</annotation>\n"])


def render_size(image: ImageLabels) -> str:
    """The ``size`` element of a VOC-like file; empty if the size is unknown."""
    if image.size is None:
        return ""
    return "".join(["  <size>\n", tag("width", image.size[0], 2), tag("height", image.size[1], 2), "  </size>\n"])


FORMAT = Format(
    "dior",
    ".xml",
    "JPEGImages",
    "Annotations/Oriented Bounding Boxes",
    parse,
    render,
    split_lists="ImageSets/Main",
)
