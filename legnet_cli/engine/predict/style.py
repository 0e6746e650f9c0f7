"""Colours of classes, and how QGIS shows a layer of objects: as outlines in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as Xml

_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_WIDTH = "0.5"  # millimetres
# Okabe and Ito, "Color Universal Design", 2008: told apart with any colour vision; without their black
_PALETTE = ("56B4E9", "E69F00", "CC79A7", "009E73", "0072B2", "D55E00", "F0E442")
_TINTS = (0.0, 0.5, -0.4)  # more classes: the same hues mixed with white, then with black


def class_colour(label: int) -> tuple[int, int, int]:
    """Red, green, blue of class ``label``: 21 different ones, then they repeat."""
    turn, hue = divmod(label, len(_PALETTE))
    tint = _TINTS[turn % len(_TINTS)]
    goal = 255.0 if tint > 0 else 0.0
    red, green, blue = (round(part + (goal - part) * abs(tint)) for part in bytes.fromhex(_PALETTE[hue]))
    return red, green, blue


def class_style(classes: Sequence[str]) -> str:
    """QML of a layer whose column ``class`` has values of ``classes``."""
    return category_style("class", {name: class_colour(label) for label, name in enumerate(classes)})


def category_style(
    attribute: str, colours: Mapping[str, tuple[int, int, int]], more: Mapping[str, Sequence[Xml.Element]] = {}
) -> str:
    """QML of a layer whose column ``attribute`` has the values that are named, each with red, green and blue.

    Args:
        attribute: the column.
        colours: by value.
        more: other parts of a style by QGIS's category of them, such as ``Forms``.
    """
    root = Xml.Element("qgis", version="3.22", styleCategories="|".join(["Symbology", *more]))
    renderer = Xml.SubElement(root, "renderer-v2", type="categorizedSymbol", attr=attribute, symbollevels="0")
    categories, symbols = Xml.SubElement(renderer, "categories"), Xml.SubElement(renderer, "symbols")
    for label, (name, rgb) in enumerate(colours.items()):
        Xml.SubElement(categories, "category", value=name, label=name, symbol=str(label), type="string", render="true")
        _add_symbol(symbols, str(label), rgb, "solid")
    for parts in more.values():
        root.extend(parts)
    if "Labeling" in more:
        root.set("labelsEnabled", "1")
    return _as_qml(root)


def dashed_style(rgb: tuple[int, int, int]) -> str:
    """QML of a layer of areas that are all outlined alike, by dashes."""
    root = Xml.Element("qgis", version="3.22", styleCategories="Symbology")
    renderer = Xml.SubElement(root, "renderer-v2", type="singleSymbol", symbollevels="0")
    _add_symbol(Xml.SubElement(renderer, "symbols"), "0", rgb, "dash")
    return _as_qml(root)


def _add_symbol(symbols: Xml.Element, name: str, rgb: tuple[int, int, int], line: str) -> None:
    """An outline as a symbol."""
    symbol = Xml.SubElement(symbols, "symbol", type="fill", name=name, alpha="1", clip_to_extent="1")
    layer = Xml.SubElement(symbol, "layer", {"class": "SimpleFill"}, enabled="1", locked="0")
    colour = ",".join(map(str, (*rgb, 255)))
    values = {"style": "no", "outline_color": colour, "outline_style": line, "outline_width": _WIDTH}
    options = Xml.SubElement(layer, "Option", type="Map")
    for key, value in {**values, "outline_width_unit": "MM", "joinstyle": "miter"}.items():
        Xml.SubElement(options, "Option", type="QString", name=key, value=value)
        Xml.SubElement(layer, "prop", k=key, v=value)  # read before QGIS 3.18


def _as_qml(root: Xml.Element) -> str:
    Xml.indent(root)
    return _HEAD + Xml.tostring(root, encoding="unicode") + "\n"
