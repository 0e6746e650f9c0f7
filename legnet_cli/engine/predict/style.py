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


def category_style(attribute: str, colours: Mapping[str, tuple[int, int, int]]) -> str:
    """QML of a layer whose column ``attribute`` has the values that are named, each with red, green and blue."""
    root = Xml.Element("qgis", version="3.22", styleCategories="Symbology")
    renderer = Xml.SubElement(root, "renderer-v2", type="categorizedSymbol", attr=attribute, symbollevels="0")
    categories, symbols = Xml.SubElement(renderer, "categories"), Xml.SubElement(renderer, "symbols")
    for label, (name, rgb) in enumerate(colours.items()):
        Xml.SubElement(categories, "category", value=name, label=name, symbol=str(label), type="string", render="true")
        symbol = Xml.SubElement(symbols, "symbol", type="fill", name=str(label), alpha="1", clip_to_extent="1")
        layer = Xml.SubElement(symbol, "layer", {"class": "SimpleFill"}, enabled="1", locked="0")
        colour = ",".join(map(str, (*rgb, 255)))
        values = {"style": "no", "outline_color": colour, "outline_style": "solid", "outline_width": _WIDTH}
        options = Xml.SubElement(layer, "Option", type="Map")
        for key, value in {**values, "outline_width_unit": "MM", "joinstyle": "miter"}.items():
            Xml.SubElement(options, "Option", type="QString", name=key, value=value)
            Xml.SubElement(layer, "prop", k=key, v=value)  # read before QGIS 3.18
    Xml.indent(root)
    return _HEAD + Xml.tostring(root, encoding="unicode") + "\n"
