"""How QGIS shows the rows of a review: colours by status, numbers beside them, and a form with drop-downs."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as Xml

from legnet_cli.data.review_layers import ADDED, STATUSES
from legnet_cli.engine.predict import category_style

# Okabe and Ito's colours, told apart with any colour vision, in the order of the statuses
STATUS_COLOURS = dict(
    zip(STATUSES, ((230, 159, 0), (0, 158, 115), (213, 94, 0), (86, 180, 233), (204, 121, 167)), strict=True)
)
_READ_ONLY = ("score", "probability", "reason", "priority", "scene", "id")
_HIDDEN = ("original",)
_LABEL = """coalesce("priority" || ' ', '') || "class\""""


def review_style(classes: Sequence[str]) -> str:
    """QML of the layer of a review whose objects may be of ``classes``."""
    return category_style(
        "status",
        STATUS_COLOURS,
        {"Labeling": [_labels()], "Fields": _defaults(), "Forms": _form(classes), "AttributeTable": [_table()]},
    )


def _form(classes: Sequence[str]) -> list[Xml.Element]:
    """Drop-downs for status and class; what the model said is shown but cannot be changed."""
    fields, editable = Xml.Element("fieldConfiguration"), Xml.Element("editable")
    for name, values in (("status", STATUSES), ("class", classes)):
        widget = _widget(fields, name, "ValueMap")
        choices = Xml.SubElement(widget, "Option", name="map", type="List")
        for value in values:
            choice = Xml.SubElement(choices, "Option", type="Map")
            Xml.SubElement(choice, "Option", type="QString", name=value, value=value)
    for name in _READ_ONLY:
        _widget(fields, name, "TextEdit")
        Xml.SubElement(editable, "field", name=name, editable="0")
    for name in _HIDDEN:
        _widget(fields, name, "Hidden")
    return [fields, editable]


def _widget(fields: Xml.Element, name: str, kind: str) -> Xml.Element:
    """The options of a new widget for a column."""
    config = Xml.SubElement(
        Xml.SubElement(Xml.SubElement(fields, "field", name=name), "editWidget", type=kind), "config"
    )
    return Xml.SubElement(config, "Option", type="Map")


def _defaults() -> list[Xml.Element]:
    """What a new row gets."""
    defaults = Xml.Element("defaults")
    Xml.SubElement(defaults, "default", field="status", expression=f"'{ADDED}'", applyOnUpdate="0")
    return [defaults]


def _table() -> Xml.Element:
    """The attribute table, first things first."""
    return Xml.Element("attributetableconfig", sortExpression='"priority"', sortOrder="0")


def _labels() -> Xml.Element:
    labeling = Xml.Element("labeling", type="simple")
    settings = Xml.SubElement(labeling, "settings")
    style = Xml.SubElement(
        settings,
        "text-style",
        fieldName=_LABEL,
        isExpression="1",
        fontSize="8",
        fontSizeUnit="Point",
        textColor="0,0,0,255",
    )
    Xml.SubElement(
        style, "text-buffer", bufferDraw="1", bufferSize="0.8", bufferSizeUnits="MM", bufferColor="255,255,255,255"
    )
    return labeling
