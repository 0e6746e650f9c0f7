"""Oriented polygons and their attributes, written as a vector layer; the suffix chooses the format.

================  =====================================================================================
``.geojson``      RFC 7946: WGS 84 longitude (-180 to 180), latitude to 9 decimals (0.1 mm), exterior rings
                  counterclockwise, polygons over the antimeridian cut into MultiPolygons. Without a
                  reference system: pixels to 4 decimals, and a ``crs`` member (GeoJSON 2008) of the
                  name "Image pixels", without which readers would take them for degrees
``.gpkg``         GeoPackage; with a layer of the ground that was searched, a style and metadata, where given
``.fgb``          FlatGeobuf, with its spatial index: features come in the index's order
``.shp``          Shapefile in UTF-8; the field ``azimuth_deg`` is cut to ``azimuth`` (10 letters at most)
``.parquet``      GeoParquet 1.1 with bounding boxes, along a Hilbert curve, in row groups of 50,000, so that a
                  window is read without the rest; needs the ``geoparquet`` extra
================  =====================================================================================

The same layer gives the same bytes: date stamps inside the files are set to 1970-01-01. Features are made and
written 50,000 at a time, so memory does not grow with their number.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.errors import DependencyError, reading
from legnet_cli.files import PathLike, atomic_path
from legnet_cli.geo import geojson, geopackage, geoparquet
from legnet_cli.geo.crs import CRS, WGS84
from legnet_cli.geo.features import SEARCHED, Features, Rows
from legnet_cli.installation import install_line

logger = logging.getLogger(__name__)

SUFFIXES = (".geojson", ".gpkg", ".fgb", ".shp", ".parquet")
SAYS_PROVENANCE = (".gpkg", ".fgb", ".parquet")
HAS_STYLE = (".gpkg",)

_KEY = "legnet"  # of the metadata of .fgb and .parquet
# what belongs to a file, by the suffix of its name
_SIDECARS = {
    ".shp": (".shx", ".dbf", ".prj", ".cpg", ".qpj", ".qix", ".sbn", ".sbx", ".shp.xml"),
    ".gpkg": (".gpkg-wal", ".gpkg-shm", ".gpkg-journal"),
}


@dataclass(frozen=True)
class Areas:
    """Areas of a layer of their own.

    Attributes:
        geometries: (n,) polygons and multipolygons in the layer's reference system, None for no place.
        fields: name -> (n,) array of numbers or strings.
    """

    geometries: NDArray[np.object_]
    fields: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class About:
    """What a file says of its layer, as far as its format has a place for it (``SAYS_PROVENANCE``, ``HAS_STYLE``).

    Attributes:
        provenance: how the objects were made, as JSON.
        style: how QGIS shows them, as QML.
        searched: ground on which they were searched, for a GeoPackage's second layer.
        layer: name of a GeoPackage's layer of objects; that of the file if empty.
        areas_layer, areas_style: name and style of the second.
    """

    provenance: str = ""
    style: str = ""
    searched: Areas | None = None
    layer: str = ""
    areas_layer: str = SEARCHED
    areas_style: str = ""


@dataclass(frozen=True)
class Layer:
    """Polygons of one layer with their attributes, all in memory; one kind of :class:`Features`.

    Attributes:
        polygons: (n, 4, 2) corners in the units and (x, y) order of ``crs``: longitude, latitude if geographic.
            A polygon with a corner that is not finite is written without geometry.
        crs: reference system; None for pixel coordinates.
        fields: name -> (n,) array of numbers or strings, in the order of the columns.
    """

    polygons: Array
    crs: CRS | None
    fields: dict[str, NDArray[Any]]

    def __post_init__(self) -> None:
        n = len(self.polygons)
        shapes = {"polygons": self.polygons.shape, **{name: values.shape for name, values in self.fields.items()}}
        if any(shape != ((n, 4, 2) if name == "polygons" else (n,)) for name, shape in shapes.items()):
            raise ValueError(f"polygons must be (n, 4, 2) and fields (n,), not {shapes}")

    def __len__(self) -> int:
        return len(self.polygons)

    def corners(self, rows: Rows) -> Array:
        """See :class:`Features`."""
        return self.polygons[rows]

    def columns(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """See :class:`Features`."""
        return {name: values[rows] for name, values in self.fields.items()}


def check_format(path: PathLike) -> None:
    """Refuse, before any work, a format whose package is missing.

    Raises:
        DependencyError: for ``.parquet`` without pyarrow.
    """
    if Path(path).suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise DependencyError(f"{path}: GeoParquet needs pyarrow: run `{install_line('geoparquet')}`")


def sidecars(path: PathLike) -> list[Path]:
    """Files that an older layer of that name may have beside it; beside a new one they would be wrong."""
    return [Path(path).with_suffix(ending) for ending in _SIDECARS.get(Path(path).suffix.lower(), ())]


def write_layer(path: PathLike, layer: Features, about: About = About()) -> None:
    """Write ``layer`` to ``path``, replacing what is there, in the format its suffix names (see the module).

    The file appears whole or not at all. Polygons are turned counterclockwise, and those whose longitudes jump
    from one side of the antimeridian to the other are cut there.

    Args:
        path: of the file, whose name without suffix is the layer's unless ``about`` names it.
        layer: what to write.
        about: what the file says of it besides.

    Raises:
        ValueError: for GeoJSON of a layer that is neither in WGS 84 nor in pixels.
        DataError: the file cannot be written.
        DependencyError: for ``.parquet`` without pyarrow.
    """
    check_format(path)
    suffix = Path(path).suffix.lower()
    crs, metadata = layer.crs, {_KEY: about.provenance} if about.provenance else {}
    if suffix == ".geojson" and crs is not None and not crs.equals(WGS84, ignore_axis_order=True):
        raise ValueError(f"GeoJSON is in WGS 84, not in {crs.name}")
    with atomic_path(path, stale=sidecars(path)) as scratch:
        if suffix == ".geojson":
            astray = geojson.write(scratch, layer)
        elif suffix == ".parquet":
            astray = geoparquet.write(scratch, layer, metadata)
        else:
            from legnet_cli.geo import gdal_vector

            name = about.layer or scratch.stem
            astray = gdal_vector.write(scratch, layer, name, metadata if suffix == ".fgb" else {})
        if suffix == ".gpkg":
            _annotate(scratch, layer.crs, about)
    if astray:
        logger.warning("%d objects have no place on the map: written without geometry", astray)


def _annotate(path: Path, crs: CRS | None, about: About) -> None:
    from legnet_cli.geo import gdal_vector

    layers = [about.layer or path.stem]
    if about.searched is not None:
        second = about.areas_layer
        layers.append(second if layers[0].lower() != second else f"{second}_ground")
        gdal_vector.add_areas(path, layers[1], about.searched.geometries, about.searched.fields, crs)
    styles = dict(zip(layers, (about.style, about.areas_style), strict=False))
    if about.style:
        geopackage.add_styles(path, {layer: style for layer, style in styles.items() if style})
    if about.provenance:
        geopackage.add_provenance(path, layers, about.provenance)


def read_provenance(path: Path) -> str | None:
    """What a file of a kind in ``SAYS_PROVENANCE`` says of how it was made; None if it says nothing.

    Raises:
        DataError: it cannot be read.
        DependencyError: for ``.parquet`` without pyarrow.
    """
    check_format(path)
    suffix = path.suffix.lower()
    with reading(path, "check the file"):
        if suffix == ".gpkg":
            return geopackage.read_provenance(path)
        if suffix == ".parquet":
            return geoparquet.read_metadata(path).get(_KEY)
        from legnet_cli.geo import gdal_vector

        return gdal_vector.read_metadata(path).get(_KEY)
