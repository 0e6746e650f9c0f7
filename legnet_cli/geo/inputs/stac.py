"""STAC: which asset of an item is the scene."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from legnet_cli.errors import ConfigError, DataError

_ASIDE = {"thumbnail", "overview", "metadata"}  # roles of images that are not the data


def is_item(value: object) -> bool:
    """Whether a JSON value has what only a STAC item has: assets."""
    return isinstance(value, dict) and isinstance(value.get("assets"), dict)


def scene_of(item: Mapping[str, Any], place: str, wanted: str) -> str:
    """Where the scene of ``item`` is: the asset called ``wanted``, else its only image with the role ``data``.

    Without one of that role the only image is taken that is not a thumbnail, an overview or metadata.

    Raises:
        DataError: it has no such asset.
        ConfigError: it has several images.
    """
    name = f"{place}: item {item.get('id', '?')!r}"
    assets = {
        str(key): asset
        for key, asset in item["assets"].items()
        if isinstance(asset, dict) and isinstance(asset.get("href"), str)
    }
    if wanted:
        if wanted not in assets:
            raise DataError(f"{name} has no asset {wanted!r}: choose --asset from {', '.join(assets) or 'none'}")
        return str(assets[wanted]["href"])
    images = [key for key, asset in assets.items() if _is_image(asset) and not _ASIDE & _roles(asset)]
    data = [key for key in images if "data" in _roles(assets[key])] or images
    if not data:
        raise DataError(f"{name} has no image: choose --asset from {', '.join(assets) or 'none'}")
    if len(data) > 1:
        raise ConfigError(f"{name} has several images: choose --asset from {', '.join(data)}")
    return str(assets[data[0]]["href"])


def _is_image(asset: Mapping[str, Any]) -> bool:
    kind = asset.get("type")
    if isinstance(kind, str):
        return kind.lower().startswith("image/")
    return str(asset["href"]).split("?")[0].lower().endswith((".tif", ".tiff", ".jp2"))


def _roles(asset: Mapping[str, Any]) -> set[str]:
    roles = asset.get("roles")
    return {role for role in roles if isinstance(role, str)} if isinstance(roles, list) else set()
