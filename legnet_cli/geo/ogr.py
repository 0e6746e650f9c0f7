"""Vector files to be read: opened by the driver that their suffix names, and without a look at any network.

OGR itself goes by content, and some of its drivers (OGR VRT, WFS, GDALG) read what a small text names.
"""

from __future__ import annotations

import json
import mmap
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.parsers import expat

from legnet_cli.errors import DataError, reading
from legnet_cli.files import PathLike
from legnet_cli.geo.geopackage import refuse_recursion
from legnet_cli.geo.network import gdal_options
from legnet_cli.untrusted import open_file

_JSON = (".geojson", ".json")
# how files begin
_HEADS = {
    ".gpkg": b"SQLite format 3\0",
    ".shp": b"\0\0\x27\x0a",
    ".fgb": b"fgb\x03",
    ".kmz": b"PK\x03\x04",
    ".zip": b"PK\x03\x04",
    ".tab": b"!table",
    ".mif": b"Version",
}
_XML = {".kml": "kml", ".gml": "FeatureCollection"}
KINDS = (*_JSON, *_HEADS, *_XML)
"""Suffixes of files that can be read."""

# the member of GeoJSON that may refer to a server, its letters escaped or not
_CRS = re.compile(rb'"(?:c|\\u0063)(?:r|\\u0072)(?:s|\\u0073)"\s*:\s*(?=\{)')
_LONGEST_CRS = 1 << 16


@contextmanager
def vector_file(path: PathLike, *kinds: str) -> Iterator[str]:
    """What pyogrio is to be asked for to read the file ``path``, which has one of the suffixes ``kinds`` (all if none).

    Raises:
        DataError: it is of another kind than its suffix says, or would have others read than itself.
    """
    place = Path(path)
    suffix = place.suffix.lower()
    if suffix not in (kinds or KINDS):
        raise DataError(f"{path}: is not one of {', '.join(kinds or KINDS)}: save it as GeoPackage or GeoJSON")
    import pyogrio  # a GDAL of its own, not loaded where rasters alone are read

    with reading(path, "check the file"):
        _check_kind(place, suffix)
        name = _inside_zip(place) if suffix == ".zip" else f"GeoJSON:{place}" if suffix in _JSON else str(place)
    options = gdal_options(remote=False)
    before = {key: pyogrio.get_gdal_config_option(key) for key in options}
    pyogrio.set_gdal_config_options(options)
    try:
        yield name
    finally:
        pyogrio.set_gdal_config_options(before)


def has_kind(path: PathLike, suffix: str) -> bool:
    """Whether a file begins as those with ``suffix`` do.

    Raises:
        OSError: it cannot be read.
    """
    with open_file(path) as file:
        return file.read(16).lower().startswith(_HEADS[suffix].lower())


def _check_kind(path: Path, suffix: str) -> None:
    if suffix in _HEADS:
        if not has_kind(path, suffix):
            raise DataError(f"{path}: cannot be read (not a {suffix} file, whatever its name says): check it")
        if suffix == ".gpkg":
            refuse_recursion(path)
    elif suffix in _XML:
        if (root := _root(path).rpartition(":")[2]) != _XML[suffix]:
            raise DataError(f"{path}: holds <{root[:40]}>, not <{_XML[suffix]}>: check the file")
    else:
        _refuse_linked_crs(path)


def _refuse_linked_crs(path: Path) -> None:
    """Refuse GeoJSON whose reference system is an address: GDAL would fetch it."""
    with open_file(path) as file:
        if not file.read(1):
            raise DataError(f"{path}: is empty: check the file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for found in _CRS.finditer(content):
                text = content[found.end() : found.end() + _LONGEST_CRS].decode("utf-8", "replace")
                try:
                    crs, _ = json.JSONDecoder().raw_decode(text)
                except (ValueError, RecursionError):
                    raise DataError(f"{path}: its reference system ('crs') is damaged: leave it out") from None
                if str(crs.get("type")).lower() in ("link", "url"):
                    raise DataError(f"{path}: its reference system is a link, which is not followed: leave 'crs' out")


def _root(path: Path) -> str:
    """The first tag of an XML file, which may not have a document type."""
    found: list[str] = []
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise DataError(f"{path}: has a document type (DOCTYPE): remove it")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda tag, _: found.append(tag)
    with open_file(path) as file:
        while not found and (part := file.read(1 << 12)):
            parser.Parse(part)
    return found[0] if found else ""


def _inside_zip(path: Path) -> str:
    """GDAL's name of the only shapefile in a zip."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(".shp") and "__MACOSX" not in name]
        if len(names) != 1:
            raise DataError(f"{path}: holds {len(names)} shapefiles: unpack it and name the one to use")
        with archive.open(names[0]) as file:
            if not file.read(4).startswith(_HEADS[".shp"]):
                raise DataError(f"{path}: {names[0]} is not a shapefile: check the file")
    return f"/vsizip/{path.absolute()}/{names[0]}"
