"""XML label files: parsed with line numbers and without document types, which could hide entity bombs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat
from xml.sax.saxutils import escape

from legnet_cli.data.builder import LARGEST, LabelBuilder, short
from legnet_cli.data.labels import Scalar, Size
from legnet_cli.errors import DataError, reason

_LINE = "legnet-line"
_OBJECTS = 3  # depth of the elements of objects, 1 being the root
_MOST_ELEMENTS = 1_000_000


def parse_xml(data: bytes, root: str) -> Element:
    """The tree of an XML file whose root element is ``root``.

    Raises:
        DataError: it is not well-formed, has a document type, or another root.
    """
    parser, builder = expat.ParserCreate(), TreeBuilder()
    parser.buffer_text = True

    def refuse(*_: object) -> NoReturn:
        raise DataError("has a document type (DOCTYPE), which labels do not need: remove it")

    parser.StartDoctypeDeclHandler = refuse
    depth = count = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1 + len(attributes)
        if count > _MOST_ELEMENTS:
            raise DataError(f"has over {_MOST_ELEMENTS:,} elements: these are not the labels of one image")
        # objects alone are named by their lines, and what is in them need not have one
        builder.start(tag, {**attributes, _LINE: str(parser.CurrentLineNumber)} if depth <= _OBJECTS else attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
        tree: Element = builder.close()
    except DataError:
        raise
    except expat.ExpatError as error:
        raise DataError(f"line {error.lineno} is not XML ({expat.ErrorString(error.code)})") from error
    except Exception as error:  # an encoding that Python does not know, for one
        raise DataError(f"line {parser.CurrentLineNumber} is not XML ({reason(error)})") from error
    finally:  # they hold each other, and the tree
        parser.StartElementHandler = parser.EndElementHandler = parser.CharacterDataHandler = None
    if tree.tag != root:
        raise DataError(f"root element is <{tree.tag}>, expected <{root}>: say the format with --from")
    return tree


def add_objects(
    labels: LabelBuilder,
    items: Iterable[Element],
    corners: Callable[[Element], list[float]],
    name: str,
    without: set[str],
) -> None:
    """Add the objects that ``items`` describe, with the line of each.

    Args:
        labels: gets them.
        items: their elements.
        corners: finds x1, y1 … x4, y4 in an element; raises ValueError where it cannot.
        name: path of the element that holds the class.
        without: tags that are not attributes.
    """
    for item in items:
        try:
            found = corners(item)
        except ValueError as error:
            labels.bad(place(item), str(error))
        else:
            labels.add(found, text(item, name), text(item, "difficult"), place(item), leaves(item, without))


def place(element: Element) -> str:
    """Where ``element`` stands, such as ``:12`` for line 12."""
    return f":{element.get(_LINE)}"


def text(element: Element, path: str) -> str:
    """Text of the element at ``path``, without blanks around it; empty if there is none."""
    return (element.findtext(path) or "").strip()


def number(element: Element, path: str) -> float:
    """The number at ``path``.

    Raises:
        ValueError: it is missing or not a number.
    """
    found = text(element, path)
    if not found:
        raise ValueError(f"<{path}> is missing")
    with suppress(ValueError):
        value = float(found)
        if abs(value) < LARGEST:
            return value
    raise ValueError(f"<{path}> is {short(found)}, not a usable number")


def size(root: Element, width: str, height: str) -> Size | None:
    """Width and height in pixels at two paths; None if they are not both there."""
    sides = [text(root, path) for path in (width, height)]
    if not all(re.fullmatch(r"[0-9]{1,9}", side) and int(side) for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def leaves(element: Element, without: set[str]) -> dict[str, str]:
    """Texts of the children of ``element`` that have no children, by tag."""
    found = {child.tag: (child.text or "").strip() for child in element if not len(child) and child.tag not in without}
    return {tag: value for tag, value in found.items() if value}


def tag(name: str, value: object, indent: int) -> str:
    """A line ``<name>value</name>``; an integer-valued float is written without decimals."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return f"{'  ' * indent}<{name}>{escape(str(value))}</{name}>\n"


def attribute_tags(attributes: Mapping[str, Scalar], indent: int, without: set[str]) -> str:
    """Lines for those ``attributes`` whose names can be tags."""
    fits = re.compile(r"[A-Za-z_][\w.-]*").fullmatch
    return "".join(tag(key, value, indent) for key, value in attributes.items() if key not in without and fits(key))
