"""Files that name scenes: text lists, vector indexes as gdaltindex writes them, STAC items.

=========================  ===========================================================================================
``.txt``                   one name a line; empty lines and those that begin with # are passed over
``.gpkg .shp .fgb``        layers with a column ``location``
``.json .geojson``         STAC items, item collections, or features with a property ``location``; by http too
``.parquet .geoparquet``   stac-geoparquet, or a column ``location``; needs the extra ``geoparquet``
=========================  ===========================================================================================

A name is a path, relative to the file, a URL of a kind that the command line takes, or one of GDAL's ``/vsi…``. It
cannot choose a driver (``HDF5:…``, ``vrt://…``), and in a file from the network it cannot be a local one.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urljoin

from legnet_cli.errors import DataError, DependencyError, reading
from legnet_cli.geo import network
from legnet_cli.geo.inputs import stac
from legnet_cli.geo.inputs.names import gdal_path, has_scheme, is_remote
from legnet_cli.geo.ogr import has_kind, vector_file
from legnet_cli.installation import install_line
from legnet_cli.untrusted import open_file, parse_json, read_text

LOCATION = "location"  # gdaltindex's column

_ADVICE = "check the file, or name its rasters"
_JSON, _PARQUET = (".json", ".geojson"), (".parquet", ".geoparquet")
_VECTORS = (".gpkg", ".shp", ".fgb")
_STAC_API = re.compile(r".+/collections/[^/]+/items(/[^/]+)?")
_MOST_BYTES = 1 << 28  # of JSON
_NO_NAME = re.compile("[\0-\x1f\ud800-\udfff]")


def read_list(url: str, asset: str) -> list[str] | None:
    """The rasters that a file names, each as GDAL takes it; None if it is not a list.

    Args:
        url: path or address of the file.
        asset: which asset of STAC items to take.

    Raises:
        DataError: it cannot be read, or names nothing.
        ConfigError: it is not clear which asset is meant.
        DependencyError: Parquet cannot be read without pyarrow.
    """
    bare = url.split("?")[0] if _is_http(url) else url
    suffix = os.path.splitext(bare)[1].lower()
    if _is_http(url):
        found = _in_json(url, asset) if suffix in _JSON or _STAC_API.fullmatch(bare) else None
    elif not os.path.isfile(url):
        return None
    elif suffix == ".txt":
        found = _in_text(url)
    elif suffix in _JSON:
        found = _in_json(url, asset)
    elif suffix in _PARQUET:
        found = _in_parquet(url, asset)
    else:
        found = _in_layers(url, suffix)
    if found is None:
        return None
    names = [gdal_path(name) for name in found]
    if not names:
        raise DataError(f"{url}: names no scene: {_ADVICE}")
    return names


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _resolve(name: str, base: str) -> str:
    """A name that the file ``base`` has, as it would be given on the command line."""
    if _NO_NAME.search(name):
        raise DataError(f"{base}: has a name that no file can have, {name!r}: {_ADVICE}")
    if _is_http(base):
        name = urljoin(base, name)
        if not (has_scheme(name) and is_remote(name)):
            raise DataError(f"{base}: names {name}, which is not on the network: {_ADVICE}")
        return name
    if has_scheme(name) or name.startswith("/vsi"):
        return name
    return os.path.join(os.path.dirname(base) or ".", name)


def _in_text(path: str) -> Iterator[str]:
    with reading(path, "give a text file with a scene a line"):
        lines = [line.strip() for line in read_text(path).splitlines()]
    yield from (_resolve(line, path) for line in lines if line and not line.startswith("#"))


def _in_index(names: Iterable[object], path: str) -> Iterator[str]:
    """Tiles of an index: relative to it, or to where gdaltindex was run."""
    for name in names:
        if isinstance(name, str) and name:
            found = _resolve(name, path)
            yield name if not has_scheme(found) and not os.path.exists(found) and os.path.isfile(name) else found


def _in_layers(path: str, suffix: str) -> Iterator[str] | None:
    """Tiles of the layers that have a column for them; None if there are none."""
    if suffix not in _VECTORS:
        return None
    with reading(path, _ADVICE):
        if not has_kind(path, suffix):
            return None
    import pyogrio.raw

    with vector_file(path) as source, reading(path, _ADVICE):
        layers = [name for name, _ in pyogrio.list_layers(source)]
        indexes = [layer for layer in layers if LOCATION in pyogrio.read_info(source, layer=layer)["fields"]]
        options = {"columns": [LOCATION], "read_geometry": False}
        columns = [pyogrio.raw.read(source, layer=layer, **options)[3][0] for layer in indexes]
    return _in_index((name for column in columns for name in column), path) if indexes else None


def _in_json(url: str, asset: str) -> Iterator[str]:
    """Scenes of STAC items or tiles of an index, of all pages of an answer from the network."""
    following: str | None = url
    seen: set[str] = set()
    while following is not None and following not in seen:
        seen.add(following)
        page = _load_json(following)
        features = page.get("features") if isinstance(page, dict) else None
        items = features if isinstance(features, list) else [page]
        if items and all(map(stac.is_item, items)):
            yield from (_resolve(stac.scene_of(item, following, asset), following) for item in items)
        elif features and (names := [_location(feature) for feature in items]) and any(names):
            yield from _in_index(names, following)
        elif items:
            kind = page.get("type") if isinstance(page, dict) else None
            what = f"a STAC {kind}" if kind in ("Collection", "Catalog") else "something else"
            raise DataError(f"{following}: is {what}, not STAC items or an index with '{LOCATION}': {_ADVICE}")
        following = _next_page(page, following)


def _load_json(url: str) -> Any:  # noqa: ANN401 - whatever there is
    with reading(url, _ADVICE):
        if _is_http(url):
            with network.open_url(url) as answer:
                content = answer.read(_MOST_BYTES + 1)
        else:
            with open_file(url) as file:
                content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise DataError(f"{url}: has over {_MOST_BYTES >> 20} MB: split it")
        return parse_json(content)


def _location(feature: object) -> object:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    return properties.get(LOCATION) if isinstance(properties, dict) else None


def _next_page(page: Any, url: str) -> str | None:  # noqa: ANN401
    """Where an answer of a STAC API goes on; a file is complete."""
    links = page.get("links") if isinstance(page, dict) and _is_http(url) else None
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("rel") == "next" and isinstance(link.get("href"), str):
            if link.get("method", "GET") != "GET":
                raise DataError(f"{url}: continues with a POST request: save all items in a file and give that")
            following = _resolve(link["href"], url)
            return following if _is_http(following) else None
    return None


def _in_parquet(path: str, asset: str) -> Iterator[str]:
    for row in _parquet_rows(path):
        if "assets" in row:
            # a column for each asset that any item has
            own = {key: value for key, value in (row["assets"] or {}).items() if value is not None}
            yield _resolve(stac.scene_of({**row, "assets": own}, path, asset), path)
        else:
            yield from _in_index([row.get(LOCATION)], path)


def _parquet_rows(path: str) -> Iterator[dict[str, Any]]:
    if importlib.util.find_spec("pyarrow") is None:
        raise DependencyError(f"{path}: Parquet needs pyarrow: run `{install_line('geoparquet')}`")
    import pyarrow.parquet

    with reading(path, _ADVICE), pyarrow.parquet.ParquetFile(path) as file:
        columns = [name for name in ("id", "assets", LOCATION) if name in file.schema_arrow.names]
        for batch in file.iter_batches(1024, columns=columns):
            yield from batch.to_pylist()
