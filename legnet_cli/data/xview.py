"""xView's GeoJSON: one file of boxes in pixels, ``bounds_imcoords``, of all images.

Lam et al., "xView: Objects in Context in Overhead Imagery", 2018; http://xviewdataset.org. Eight numbers are four
corners, and ``type_name`` is the class, as other sets in this form have them. The polygons in degrees are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from legnet_cli.data.collect import Collector, floats, read_json
from legnet_cli.data.labels import IGNORED, ImageLabels, Problem
from legnet_cli.errors import DataError

_NAMES = {
    11: "Fixed-wing Aircraft", 12: "Small Aircraft", 13: "Cargo Plane", 15: "Helicopter", 17: "Passenger Vehicle",
    18: "Small Car", 19: "Bus", 20: "Pickup Truck", 21: "Utility Truck", 23: "Truck", 24: "Cargo Truck",
    25: "Truck w/Box", 26: "Truck Tractor", 27: "Trailer", 28: "Truck w/Flatbed", 29: "Truck w/Liquid",
    32: "Crane Truck", 33: "Railway Vehicle", 34: "Passenger Car", 35: "Cargo Car", 36: "Flat Car", 37: "Tank car",
    38: "Locomotive", 40: "Maritime Vessel", 41: "Motorboat", 42: "Sailboat", 44: "Tugboat", 45: "Barge",
    47: "Fishing Vessel", 49: "Ferry", 50: "Yacht", 51: "Container Ship", 52: "Oil Tanker", 53: "Engineering Vehicle",
    54: "Tower crane", 55: "Container Crane", 56: "Reach Stacker", 57: "Straddle Carrier", 59: "Mobile Crane",
    60: "Dump Truck", 61: "Haul Truck", 62: "Scraper/Tractor", 63: "Front loader/Bulldozer", 64: "Excavator",
    65: "Cement Mixer", 66: "Ground Grader", 71: "Hut/Tent", 72: "Shed", 73: "Building", 74: "Aircraft Hangar",
    76: "Damaged Building", 77: "Facility", 79: "Construction Site", 83: "Vehicle Lot", 84: "Helipad",
    86: "Storage Tank", 89: "Shipping container lot", 91: "Shipping Container", 93: "Pylon", 94: "Tower",
}  # fmt: skip
_NAMELESS = (75, 82)  # types that the set uses and does not explain: ignored regions


def read(path: Path, split: str, problems: list[Problem]) -> tuple[list[ImageLabels], list[str]]:
    """Images with their labels, and class names, of one file.

    Raises:
        DataError: it is not such a file.
    """
    content = read_json(path)
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list):
        raise DataError(f"{path}: has no list of features: fetch it again")
    found = Collector(path, split, problems)
    for number, feature in enumerate(features, 1):
        place = f": feature {number}"
        about = feature.get("properties") if isinstance(feature, dict) else None
        if not isinstance(about, dict):
            found.bad(place, "has no properties")
            continue
        builder = found.image(about.get("image_id"), None, place)
        if builder is None:
            continue
        try:
            corners, name = _corners(about.get("bounds_imcoords")), _name(about)
        except ValueError as error:
            builder.bad(place, str(error))
        else:
            builder.add(corners, name, 0, place)
    return found.build()


def _corners(bounds: object) -> list[float]:
    numbers = floats(bounds.split(",") if isinstance(bounds, str) else bounds if isinstance(bounds, list) else [])
    if len(numbers) == 4:
        left, top, right, bottom = numbers
        return [left, top, right, top, right, bottom, left, bottom]
    if len(numbers) != 8:
        raise ValueError(f"bounds_imcoords has {len(numbers)} numbers, not 4 or 8")
    return numbers


def _name(about: Mapping[str, Any]) -> str:
    """The class of an object.

    Raises:
        ValueError: it is unknown.
    """
    if isinstance(about.get("type_name"), str):
        return str(about["type_name"])
    (number,) = floats([about.get("type_id")])
    if number in _NAMELESS:
        return IGNORED
    if number not in _NAMES:
        raise ValueError(f"type_id {number:g} is none of xView's classes")
    return _NAMES[int(number)]
