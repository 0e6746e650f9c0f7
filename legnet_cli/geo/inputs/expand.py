"""From the arguments of a command to rasters: folders, globs, object stores, lists, indexes and STAC items."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from legnet_cli.errors import DataError
from legnet_cli.geo import stores
from legnet_cli.geo.inputs.lists import read_list
from legnet_cli.geo.inputs.names import gdal_path, is_local, url_of
from legnet_cli.untrusted import walk

# what a folder or an open-ended glob is searched for; any file GDAL reads may be named by itself
RASTER_SUFFIXES = (
    *(".tif", ".tiff", ".vrt", ".jp2", ".j2k", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"),
    *(".img", ".ecw", ".sid", ".ntf", ".nitf", ".hgt", ".bil", ".mrf", ".pix", ".kea"),
)
_STORES = tuple(f"{scheme}://" for scheme in stores.SCHEMES)


def expand_scenes(args: Sequence[str]) -> list[str]:
    """The rasters of :func:`find_scenes`."""
    return list(find_scenes(args))


def find_scenes(args: Sequence[str], asset: str = "") -> dict[str, str]:
    """Rasters named by ``args``, each as GDAL takes it, with its stamp where a listing told it, else an empty text.

    They come in the order given, a folder's or glob's sorted, no doubles. A folder stands for the rasters directly
    inside; a glob may hold ``**``. Both may lie in an object store (``s3://bucket/2026/``). They leave out hidden files
    and, going by the suffix, everything that is not a raster, sidecars (``.aux.xml``, ``.ovr``, ``.msk``, ``.tfw``)
    included; a glob that spells the suffix out (``*.dat``) takes what it says. A list of scenes, an index or a STAC
    file stands for what it names (:mod:`legnet_cli.geo.inputs.lists`), be it there or not.

    Args:
        args: files, URLs, folders, globs, lists.
        asset: which asset of STAC items to take.

    Raises:
        DataError: for a file that does not exist, a folder or glob without rasters, a list that cannot be read.
        ConfigError: it is not clear which asset of a STAC item is meant.
        DependencyError: a package is missing that lists object stores or reads Parquet.
    """
    unique: dict[str, tuple[str, str]] = {}
    for arg in args:
        for path, stamp in _expand(arg, asset):
            unique.setdefault(os.path.realpath(path) if is_local(path) else path, (path, stamp))
    return dict(unique.values())


def _expand(arg: str, asset: str) -> Iterator[tuple[str, str]]:
    name = gdal_path(arg)
    url = url_of(name)
    if url.startswith(_STORES):
        yield from _in_store(url)
    elif os.path.isfile(name) or not is_local(name):
        yield from _file(name, asset)
    elif os.path.isdir(name):
        inside = sorted(os.path.join(name, entry) for entry in os.listdir(name) if not entry.startswith("."))
        advice = f"{arg}: no raster in this folder: name files, or a glob such as '{arg}/**/*.tif'"
        yield from ((path, "") for path in _some(filter(os.path.isfile, _rasters(inside)), advice))
    elif glob.has_magic(name):
        matches = sorted(path for path in _glob(name) if os.path.isfile(path))
        chosen = matches if _spells_suffix(name) else _rasters(matches)
        for path in _some(chosen, f"{arg}: no raster matches: check the pattern"):
            yield from _file(path, asset)
    else:
        fault = "not a regular file: name a file" if os.path.lexists(name) else "no such file: check the path"
        raise DataError(f"{arg}: {fault}")


def _glob(pattern: str) -> Iterator[str]:
    """Paths that fit; ``**`` does not follow links in circles, as ``glob`` itself would."""
    if "**" not in pattern.split(os.sep):
        yield from glob.iglob(pattern)
        return
    parts = pattern.split(os.sep)
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base = os.sep.join(parts[:fixed]) or (os.sep if pattern.startswith(os.sep) else "")
    for place, folders, files in walk(Path(base or ".")):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        below = place.relative_to(base or ".").parts
        for file in files:
            if _matches([*below, file], parts[fixed:]):
                yield os.path.join(base, *below, file)


def _file(name: str, asset: str) -> Iterator[tuple[str, str]]:
    """A raster, or what a list names."""
    named = read_list(url_of(name), asset)
    yield from ((path, "") for path in ([name] if named is None else named))


def _in_store(url: str) -> Iterator[tuple[str, str]]:
    """An object, a folder's or a glob's, in an object store."""
    last = url.rpartition("/")[2]
    if glob.has_magic(url):
        pattern = url.split("/")
        below = stores.list_objects(re.split(r"[*?[]", url)[0].rpartition("/")[0], recursive=True)
        found = {one.url: one.stamp for one in below if one.url == url or _matches(one.url.split("/"), pattern)}
        chosen = sorted(found) if _spells_suffix(url) else _rasters(sorted(found))
        advice = f"{url}: no raster matches: check the pattern"
    elif "." in last:
        chosen, found, advice = [url], {url: ""}, ""
    else:
        inside = stores.list_objects(url)
        found = {one.url: one.stamp for one in inside if not one.url.rpartition("/")[2].startswith(".")}
        chosen = _rasters(sorted(found))
        advice = f"{url}: no raster in this folder: check the address, or give a glob such as '{url}/**/*.tif'"
    yield from ((gdal_path(one), found[one]) for one in _some(chosen, advice))


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Whether a path fits a glob, both in parts; hidden parts fit what is hidden itself."""
    if not (parts and pattern):
        return not parts and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (not parts[0].startswith(".") and _matches(parts[1:], pattern))
    hidden = parts[0].startswith(".") and not pattern[0].startswith(".")
    return not hidden and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _spells_suffix(pattern: str) -> bool:
    suffix = os.path.splitext(pattern)[1]
    return bool(suffix) and not glob.has_magic(suffix)


def _rasters(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if path.lower().endswith(RASTER_SUFFIXES)]


def _some(paths: Iterable[str], message: str) -> list[str]:
    found = list(paths)
    if not found:
        raise DataError(message)
    return found
