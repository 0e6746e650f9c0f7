"""XML label files: parsed with line numbers and without document types, which could hide entity bombs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat
from xml.sax.saxutils import escape

from legnet_cli.data.labels import Scalar
from legnet_cli.errors import DataError

_LINE = "legnet-line"


def parse_xml(data: bytes, root: str) -> Element:
    """The tree of an XML file whose root element is ``root``.

    Raises:
        DataError: it is not well-formed, has a document type, or another root.
    """
    parser, builder = expat.ParserCreate(), TreeBuilder()
    parser.buffer_text = True

    def refuse(*_: object) -> NoReturn:
        raise DataError("has a document type (DOCTYPE), which labels need not: remove it")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda tag, _: builder.start(tag, {_LINE: str(parser.CurrentLineNumber)})
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise DataError(f"line {error.lineno} is not XML ({expat.ErrorString(error.code)}): mend it") from error
    tree: Element = builder.close()
    if tree.tag != root:
        raise DataError(f"the root is <{tree.tag}> where <{root}> must be: say the format with --from")
    return tree


def place(element: Element) -> str:
    """Where ``element`` stands, such as ``:12`` for line 12."""
    return f":{element.get(_LINE)}"


def text(element: Element, path: str, default: str = "") -> str:
    """Text of the element at ``path``, without blanks around it; ``default`` if there is none."""
    return (element.findtext(path) or "").strip() or default


def number(element: Element, path: str) -> float:
    """The number at ``path``.

    Raises:
        ValueError: it is missing or no number.
    """
    found = text(element, path)
    if not found:
        raise ValueError(f"<{path}> is missing")
    try:
        return float(found)
    except ValueError as error:
        raise ValueError(f"<{path}> is {found!r}, not a number") from error


def whole(element: Element, path: str, default: int = 0) -> int:
    """The whole number at ``path``, ``default`` if there is none.

    Raises:
        ValueError: it is not a whole number.
    """
    found = text(element, path, str(default))
    if not re.fullmatch(r"-?[0-9]+", found):
        raise ValueError(f"<{path}> is {found!r}, not a whole number")
    return int(found)


def leaves(element: Element, without: set[str]) -> dict[str, Scalar]:
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
