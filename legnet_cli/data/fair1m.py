"""FAIR1M XML: four corners, the first one repeated, for each object.

Sun et al., "FAIR1M", ISPRS Journal 184 (2022); https://www.gaofen-challenge.com/benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from legnet_cli.data.builder import LabelBuilder
from legnet_cli.data.dior import render_size
from legnet_cli.data.format import Format
from legnet_cli.data.labels import ImageLabels
from legnet_cli.data.xml_tree import add_objects, attribute_tags, parse_xml, size, tag, text

_OWN = {"coordinate", "type", "difficult"}


def parse(data: bytes, labels: LabelBuilder) -> None:
    """Add the objects of one FAIR1M XML file to ``labels``."""
    root = parse_xml(data, "annotation")
    labels.size = size(root, "size/width", "size/height") or labels.size
    origin = text(root, "source/origin")
    labels.meta |= {"imagesource": origin} if origin else {}
    add_objects(labels, root.iterfind("objects/object"), _corners, "possibleresult/name", _OWN)


def _corners(item: Element) -> list[float]:
    points: list[tuple[float, ...]] = []
    for element in item.iterfind("points/point"):
        words = (element.text or "").split(",")
        if len(words) != 2:
            raise ValueError(f"<point> is {element.text!r}, not x,y")
        try:
            points.append(tuple(map(float, words)))
        except ValueError as error:
            raise ValueError(f"<point> is {element.text!r}, not two numbers") from error
    closed = len(points) > 3 and points[0] == points[-1]
    return [value for point in (points[:-1] if closed else points) for value in point]


def render(image: ImageLabels, codes: Mapping[str, str]) -> str:
    """The FAIR1M XML of ``image``; "difficult", which FAIR1M lacks, goes into an element of that name."""
    lines = ["<annotation>\n  <source>\n", tag("filename", image.file.rpartition("/")[2], 2)]
    lines += [tag("origin", image.meta["imagesource"], 2)] if "imagesource" in image.meta else []
    lines += ["  </source>\n", render_size(image), "  <objects>\n"]
    for i, name in enumerate(image.names):
        lines += ["    <object>\n", tag("coordinate", "pixel", 3), tag("type", "rectangle", 3)]
        lines += [tag("difficult", int(image.difficult[i]), 3)] if image.difficult[i] else []
        lines += [attribute_tags(image.attributes[i], 3, _OWN), "      <possibleresult>\n", tag("name", codes[name], 4)]
        lines += ["      </possibleresult>\n      <points>\n"]
        corners = image.quads[i].tolist()
        lines += [tag("point", f"{x!r},{y!r}", 4) for x, y in [*corners, corners[0]]]
        lines += ["      </points>\n    </object>\n"]
    return "".join([*lines, "  </objects>\n</annotation>\n"])


FORMAT = Format(
    "fair1m", ".xml", "{split}/images", "{split}/labelXml", parse, render, split_names={"val": "validation"}
)
