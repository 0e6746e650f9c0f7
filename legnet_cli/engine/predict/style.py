"""How QGIS shows a layer of objects: outlines in the colours of the previews, by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as Xml

from legnet_cli.engine.predict.preview import class_colour

_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_WIDTH = "0.5"  # millimetres


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
