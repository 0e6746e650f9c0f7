"""Which of GDAL's drivers may open a raster: its name decides, so that its content cannot choose one.

Some drivers read what a file names, on a network too. A picture may be of any kind whatever its suffix says, for
such mistakes are common and harmless. A VRT that is named as one is looked into first (:func:`check_vrt`).
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import rasterio

from legnet_cli.errors import DataError, reading
from legnet_cli.geo.inputs.names import is_remote
from legnet_cli.untrusted import MOST_LABELS, open_file, read_bytes

_PICTURES = ("GTiff", "PNG", "JPEG", "BMP", "WEBP", "GIF", "BIGGIF", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID")
_PICTURE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".jp2", ".j2k")
# they read what a file names, or ask a server
_REFERRING = {
    *("VRT", "GTI", "WMS", "WMTS", "WCS", "HTTP", "STACIT", "STACTA", "OGCAPI", "GDALG", "PLMOSAIC", "PLSCENES"),
    *("DAAS", "EEDA", "EEDAI", "NGW", "DERIVED", "WFS", "OAPIF", "CSW", "OGR_VRT", "Elasticsearch", "Carto"),
}
_PREFIXED = re.compile(r"([A-Za-z][A-Za-z0-9_]+):")  # two letters at least: C: is a disk
_LOCAL = re.compile(r"(/vsi(zip|tar|gzip|7z|rar)/)*(?!/vsi)")
_SIDECARS = (".ovr", ".OVR", ".msk", ".MSK")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NAMES_FILE = re.compile(r"(?i)filename|_?file$|dataset$|^source$|^dem$")
_ADDRESS = re.compile(r"/vsi|<|[A-Za-z][\w+.-]+://")
_MOST_VRTS = 256  # inside each other


def drivers_for(path: str) -> list[str] | None:
    """Names of the drivers that may open ``path``, as GDAL calls it; None for all, where it names one itself."""
    bare = path.partition("?")[0] if is_remote(path) else path
    suffix = os.path.splitext(bare)[1].lower()
    if _PREFIXED.match(path) and not os.path.exists(path):
        return ["VRT"] if path.startswith("vrt:") else None
    if suffix == ".vrt":
        return ["VRT"]
    return list(_PICTURES) if suffix in _PICTURE_SUFFIXES else _plain_drivers()


@functools.cache
def _plain_drivers() -> list[str]:
    with rasterio.Env() as env:
        return sorted({*env.drivers()} - _REFERRING)


def check_raster(path: str) -> None:
    """Refuse a file that is not a regular one, or that leads GDAL to others than its name allows.

    Raises:
        DataError: naming it.
    """
    if path.startswith("vrt://"):
        path = path[len("vrt://") :].partition("?")[0]
    if not os.path.exists(path) or os.path.isdir(path):
        return
    with reading(path, "check the file"), open_file(path):
        pass
    if path.lower().endswith(".vrt"):
        check_vrt(path)
    for beside in (f"{path}{suffix}" for suffix in _SIDECARS):
        if os.path.isfile(beside):
            with reading(beside, "check the file"), open_file(beside) as file:
                head = file.read(15)
            if not head.startswith((*_TIFF, b"EHFA_HEADER_TAG")):
                raise DataError(f"{beside}: is not a TIFF, as overviews and masks are: remove it")


def check_overviews(path: str, tags: Mapping[str, str]) -> None:
    """Refuse a raster whose ``tags`` of the domain OVERVIEWS say that they are not on this machine's disks.

    Raises:
        DataError: naming it.
    """
    named = tags.get("OVERVIEW_FILE", "")
    if named and not is_remote(path) and not _is_file_name(named.removeprefix(":::BASE:::"), remote=False):
        raise DataError(f"{path}: has overviews at {named[:80]}, which is not a file here: remove that tag")


def check_vrt(path: str, text: bytes | None = None) -> None:
    """Refuse a VRT, or one inside it, that reads elsewhere than it lies: on a network, in memory, from a server.

    Args:
        path: as GDAL calls it.
        text: its content, if it is not a file on a disk.

    Raises:
        DataError: naming it.
    """
    seen: set[str] = set()
    waiting = [(path, text)]
    while waiting and len(seen) < _MOST_VRTS:
        name, content = waiting.pop()
        if os.path.realpath(name) in seen:
            continue
        seen.add(os.path.realpath(name))
        with reading(name, "check the file", "is not a VRT"):
            root = _parse(read_bytes(name, MOST_LABELS) if content is None else content)
        for source, relative in _sources(root):
            if not _is_file_name(source, remote=is_remote(path)):
                raise DataError(f"{name}: reads {source[:80]}, which a VRT there may not read: give that file itself")
            if relative:
                source = os.path.join(os.path.dirname(name), source)
            if os.path.exists(source) and not os.path.isdir(source):
                with reading(source, "check the file"), open_file(source) as file:
                    head = file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n")
                if head.startswith(b"<VRTDataset"):
                    waiting.append((source, None))
                elif head.startswith((b"<", b"{", b"[")):
                    raise DataError(f"{name}: reads {source}, which is not a raster: give that file itself")


def _is_file_name(name: str, *, remote: bool) -> bool:
    """Whether ``name`` is of a file on a disk, or within an archive there; for ``remote``, of one on a network."""
    if remote:
        return is_remote(name) or not (_PREFIXED.match(name) or name.startswith(("<", "/", "{")))
    if name.startswith(("<", "{")) or "://" in name or "\n" in name or is_remote(name):
        return False
    prefix = _PREFIXED.match(name)
    return bool(_LOCAL.match(name)) and (prefix is None or prefix[1] not in _REFERRING)


def _parse(text: bytes) -> Element:
    """The tree of an XML text without document types."""
    parser, builder = expat.ParserCreate(), TreeBuilder()

    def refuse(*_: object) -> None:
        raise ValueError("it has a document type")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(text, True)
    found: Element = builder.close()
    return found


def _sources(root: Element) -> Iterator[tuple[str, bool]]:
    """What a VRT reads, and whether that is relative to it.

    That is what elements and items hold whose names speak of files, and what else looks like an address.
    """
    for element in root.iter():
        text, key = (element.text or "").strip(), element.get("key")
        named = _NAMES_FILE.search(element.tag if key is None else key)
        if text and (named or (key is None and element.tag != "SRS" and _ADDRESS.match(text))):
            yield text, element.get("relativeToVRT") == "1"
