"""Names of rasters: paths, URLs, members of archives and subdatasets, and what GDAL calls them."""

from __future__ import annotations

import os
import re

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
_REMOTE = re.compile(r"/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs)")


def gdal_path(path: str) -> str:
    """GDAL's name for a file, URL, archive member (``zip://a.zip!b.tif``) or subdataset; GDAL's own names stay."""
    scheme, found, rest = path.partition("://")
    if not found:
        return path
    if scheme in _ARCHIVES:
        archive, _, member = rest.partition("!")
        return _ARCHIVES[scheme] + gdal_path(archive) + ("/" + member.lstrip("/") if member else "")
    return _SCHEMES[scheme] + rest if scheme in _SCHEMES else path


def url_of(name: str) -> str:
    """The URL that GDAL's ``name`` of a file of a network stands for; any other name stays."""
    for scheme, prefix in _SCHEMES.items():
        if prefix and name.startswith(prefix):
            return f"{scheme}://{name[len(prefix) :]}"
    return name


def has_scheme(path: str) -> bool:
    """Whether ``path`` is a URL of a kind that :func:`gdal_path` knows."""
    scheme, found, _ = path.partition("://")
    return bool(found) and (scheme in _SCHEMES or scheme in _ARCHIVES)


def is_remote(path: str) -> bool:
    """Whether ``path`` is read over a network, be it inside an archive there."""
    return _REMOTE.search(gdal_path(path)) is not None


def is_local(path: str) -> bool:
    """Whether ``path`` names something on this machine's disks, which must exist to be read."""
    name = gdal_path(path)
    return os.path.exists(name) or not (name.startswith("/vsi") or _SUBDATASET.match(name))
