"""Stamps of scenes: what changes when the content of a file does, on a disk or elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from legnet_cli.errors import DataError, reading
from legnet_cli.geo import network, stores
from legnet_cli.geo.inputs.names import gdal_path, is_remote, url_of

_ARCHIVE = re.compile(r"(/vsi(zip|tar|gzip)/)+")
_MEMBER = re.compile(r"(?<=\.zip|\.tar|\.tgz)/.*|(?<=\.gz)/.*")
_AT_ONCE = 16  # requests


def find_stamps(scenes: Mapping[str, str]) -> dict[str, str]:
    """The stamp of each of ``scenes``, as :func:`legnet_cli.geo.inputs.find_scenes` has them; empty where unknown.

    One request is made for each scene on a network whose stamp did not come with a listing.
    """
    stamps = {path: stamp or local_stamp(path) for path, stamp in scenes.items()}
    asked = [path for path, stamp in stamps.items() if not stamp and is_remote(path)]
    if asked:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="legnet-stamp") as pool:
            stamps |= zip(asked, pool.map(_remote_stamp, asked), strict=True)
    return stamps


def local_stamp(path: str) -> str:
    """Size and time of the file on this machine's disks that ``path`` is, or is inside of; empty if there is none."""
    name = _ARCHIVE.sub("", gdal_path(path))
    if quoted := re.search(r'"(.+)"', name):  # a subdataset
        name = quoted[1]
    while name and not os.path.isfile(name) and name != os.path.dirname(name):
        name = os.path.dirname(name)
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return ""
    return f"{status.st_size} {status.st_mtime_ns}" if os.path.isfile(name) else ""


def _remote_stamp(path: str) -> str:
    name = gdal_path(path)
    outer = _ARCHIVE.sub("", name)
    url = url_of(outer if outer == name else _MEMBER.sub("", outer))
    scheme = url.partition("://")[0]
    if scheme in stores.SCHEMES:
        return stores.object_stamp(url)
    return _http_stamp(url) if scheme in ("http", "https") else ""


def _http_stamp(url: str) -> str:
    """Asked by a GET of one byte: signed addresses and some servers know no HEAD."""
    try:
        with reading(url, "check the address"), network.open_url(url, {"Range": "bytes=0-0"}) as answer:
            told = answer.headers
    except DataError:  # whether it can be read is GDAL's to say
        return ""
    size = (told.get("Content-Range") or "").rpartition("/")[2] or told.get("Content-Length")
    return " ".join(part for part in (size, told.get("ETag") or told.get("Last-Modified")) if part)
