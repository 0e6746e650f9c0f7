"""DIOR-R XML: Pascal VOC with a ``robndbox`` of four corners for each object.

Cheng et al., "Anchor-free Oriented Proposal Generator for Object Detection", TGRS 2022; https://gcheng-nwpu.github.io.
Upright ``bndbox`` of DIOR and VOC, turned by CVAT's attribute ``rotation`` if there is one, and roLabelImg's
``robndbox`` of centre, sides and angle, are read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element

import numpy as np

from legnet_cli.boxes import boxes_to_polygons, turned_rectangle
from legnet_cli.data.builder import LabelBuilder, rotation
from legnet_cli.data.format import Format
from legnet_cli.data.labels import SUBPIXEL, ImageLabels
from legnet_cli.data.xml_tree import add_objects, attribute_tags, number, parse_xml, size, tag, text

_CORNERS = ("left_top", "right_top", "right_bottom", "left_bottom")
_OWN = {"name", "difficult", "type", "angle", "rotation"}


def parse(data: bytes, labels: LabelBuilder) -> None:
    """Add the objects of one VOC-like XML file to ``labels``."""
    root = parse_xml(data, "annotation")
    labels.size = size(root, "size/width", "size/height") or labels.size
    add_objects(labels, root.iterfind("object"), _corners, "name", _OWN)


def _corners(item: Element) -> list[float]:
    if item.find("robndbox/cx") is not None:  # roLabelImg
        box = [number(item, f"robndbox/{key}") for key in ("cx", "cy", "w", "h", "angle")]
        found: list[float] = boxes_to_polygons(np.array([box]))[0].ravel().round(SUBPIXEL).tolist()
        return found
    if item.find("robndbox") is None and item.find("bndbox") is not None:
        left, top, right, bottom = (number(item, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax"))
        if text(item, "angle") and number(item, "angle"):
            raise ValueError("an upright <bndbox> with an <angle>: give the corners as <robndbox>")
        given = {text(pair, "name").lower(): text(pair, "value") for pair in item.iterfind("attributes/attribute")}
        degrees = rotation(given.get("rotation") or text(item, "rotation") or 0)
        if degrees:
            corners = turned_rectangle(np.array([left, top]), np.array([right, bottom]), degrees)
            turned: list[float] = corners.ravel().round(SUBPIXEL).tolist()
            return turned
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
