"""Which rasters the arguments of a command mean: files, folders, globs, URLs, subdatasets."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence

from legnet_cli.errors import DataError

# what a folder or an open-ended glob is searched for; any file GDAL reads may be named by itself
RASTER_SUFFIXES = (
    *(".tif", ".tiff", ".vrt", ".jp2", ".j2k", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"),
    *(".img", ".ecw", ".sid", ".ntf", ".nitf", ".hgt", ".bil", ".mrf", ".pix", ".kea"),
)
_SCHEMES = {
    "http": "/vsicurl/http://",
    "https": "/vsicurl/https://",
    "ftp": "/vsicurl/ftp://",
    "s3": "/vsis3/",
    "gs": "/vsigs/",
    "az": "/vsiaz/",
    "oss": "/vsioss/",
    "swift": "/vsiswift/",
    "file": "",
}
_ARCHIVES = {"zip": "/vsizip/", "tar": "/vsitar/", "gzip": "/vsigzip/"}
_SUBDATASET = re.compile(r"[A-Za-z][A-Za-z0-9_]+:")  # two letters at least: C: is a disk


def gdal_path(path: str) -> str:
    """GDAL's name for a file, URL, archive member (``zip://a.zip!b.tif``) or subdataset; GDAL's own names stay."""
    scheme, found, rest = path.partition("://")
    if not found:
        return path
    if scheme in _ARCHIVES:
        archive, _, member = rest.partition("!")
        return _ARCHIVES[scheme] + gdal_path(archive) + ("/" + member.lstrip("/") if member else "")
    return _SCHEMES[scheme] + rest if scheme in _SCHEMES else path


def is_local(path: str) -> bool:
    """Whether ``path`` names something on this machine's disks, which must exist to be read."""
    name = gdal_path(path)
    return os.path.exists(name) or not (name.startswith("/vsi") or _SUBDATASET.match(name))


def scene_stamp(path: str) -> str:
    """What changes when the content of a local file does: its size and time; empty for what is elsewhere."""
    try:
        status = os.stat(gdal_path(path))
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def expand_scenes(args: Sequence[str]) -> list[str]:
    """Rasters named by ``args``, each as GDAL takes it; in the order given, a folder's or glob's sorted, no doubles.

    A folder stands for the rasters directly inside; a glob may hold ``**``. Both leave out hidden files and, going by
    the suffix, everything that is not a raster, sidecars (``.aux.xml``, ``.ovr``, ``.msk``, ``.tfw``) included;
    a glob that spells the suffix out (``*.dat``) takes what it says.

    Raises:
        DataError: for a file that does not exist, or a folder or glob without rasters.
    """
    unique: dict[str, str] = {}
    for arg in args:
        for path in _expand(arg):
            unique.setdefault(os.path.realpath(path) if is_local(path) else path, path)
    return list(unique.values())


def _expand(arg: str) -> list[str]:
    name = gdal_path(arg)
    if not is_local(arg) or os.path.isfile(name):
        return [name]
    if os.path.isdir(name):
        inside = sorted(os.path.join(name, entry) for entry in os.listdir(name) if not entry.startswith("."))
        return _some(
            _rasters(inside), f"{arg}: no raster in this folder: name files, or a glob such as '{arg}/**/*.tif'"
        )
    if glob.has_magic(name):
        matches = sorted(path for path in glob.glob(name, recursive=True) if os.path.isfile(path))
        suffix = os.path.splitext(name)[1]
        spelt_out = suffix and not glob.has_magic(suffix)
        return _some(matches if spelt_out else _rasters(matches), f"{arg}: no raster matches: check the pattern")
    raise DataError(f"{arg}: no such file: check the path")


def _rasters(paths: list[str]) -> list[str]:
    return [p for p in paths if p.lower().endswith(RASTER_SUFFIXES) and os.path.isfile(p)]


def _some(paths: list[str], message: str) -> list[str]:
    if not paths:
        raise DataError(message)
    return paths
