"""Features in the formats that GDAL writes: GeoPackage, FlatGeobuf and Shapefile.

Many features go through a plain GeoPackage, to which GDAL appends, and from there as a stream into the file itself:
a spatial index is made fastest, and a FlatGeobuf at all, in one pass.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.errors
import pyogrio.raw
import shapely
from numpy.typing import NDArray

from legnet_cli.geo.crs import CRS
from legnet_cli.geo.features import CHUNK, Features, chunks
from legnet_cli.geo.ogr import vector_file
from legnet_cli.geo.rings import jumping, to_geometries

_DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".shp": "ESRI Shapefile"}
_SHAPEFILE_FIELDS = {"azimuth_deg": "azimuth"}
_FAULTS = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.FeatureError,
    pyogrio.errors.GeometryError,
)


def write(path: Path, features: Features, layer: str, metadata: dict[str, str]) -> int:
    """Write a file of ``features``; returns how many have no geometry.

    Args:
        path: of the file.
        features: what to write.
        layer: its name.
        metadata: of a FlatGeobuf.

    Raises:
        OSError: it cannot be written.
    """
    with _writing():
        written = _Written(path, features, layer, metadata)
        _check(path, written)
    return written.astray


def add_areas(
    path: Path, name: str, geometries: NDArray[np.object_], fields: dict[str, NDArray[Any]], crs: CRS | None
) -> None:
    """Add a layer of polygons and multipolygons, written as multipolygons, to a GeoPackage.

    Raises:
        OSError: it cannot be written.
    """
    with _writing():
        pyogrio.raw.write(
            path,
            shapely.to_wkb(geometries),
            [_plain(values) for values in fields.values()],
            list(fields),
            layer=name,
            driver="GPKG",
            geometry_type="MultiPolygon",
            promote_to_multi=True,
            crs=None if crs is None else crs.to_wkt(),
            append=True,
        )


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of the first layer of a file."""
    with vector_file(path) as source:
        return dict(pyogrio.read_info(source)["layer_metadata"] or {})


class _Written:
    """A file that has been written, and what must be in it.

    Attributes:
        astray: number of features without geometry.
        texts: number of texts that are not empty, by field.
    """

    def __init__(self, path: Path, features: Features, layer: str, metadata: dict[str, str]) -> None:
        self.astray, self.texts = 0, dict[str, int]()
        self.count, self.layer = len(features), layer
        self._features, self._shapefile = features, path.suffix.lower() == ".shp"
        parted = any(jumping(features.corners(rows), features.crs).any() for rows in chunks(features))
        crs = None if features.crs is None else features.crs.to_wkt()
        place = {"geometry_type": "MultiPolygon" if parted else "Polygon", "crs": crs, "layer": self.layer}
        final: dict[str, Any] = {"driver": _DRIVERS[path.suffix.lower()], **place}
        if self._shapefile:
            final |= {"encoding": "UTF-8", "DBF_DATE_LAST_UPDATE": "1970-01-01"}
        if metadata:
            final["layer_metadata"] = metadata
        if self.count <= CHUNK:
            self._write_chunks(path, **final)
            return
        staging = path.with_name("staging.gpkg")
        self._write_chunks(staging, driver="GPKG", SPATIAL_INDEX="NO", **place)
        if path.suffix.lower() == ".fgb" and self.astray:
            final["SPATIAL_INDEX"] = "NO"  # it has no place for them
        with pyogrio.raw.open_arrow(staging, batch_size=CHUNK) as (meta, stream):
            pyogrio.raw.write_arrow(stream, path, geometry_name=meta["geometry_name"], **final)
        staging.unlink()

    def _write_chunks(self, path: Path, **options: Any) -> None:  # noqa: ANN401
        """Write features a chunk at a time; several only to a file that can be appended to."""
        parted = options["geometry_type"] == "MultiPolygon"
        for rows in chunks(self._features):
            geometries = to_geometries(self._features.corners(rows), self._features.crs)
            astray = int(shapely.is_missing(geometries).sum())
            columns = self._features.columns(rows)
            texts = {self._name(name): values for name, values in columns.items() if values.dtype.kind == "U"}
            for name, values in texts.items():
                self.texts[name] = self.texts.get(name, 0) + int(np.count_nonzero(values != ""))
            self.astray += astray
            if options["driver"] == "FlatGeobuf" and astray:
                options["SPATIAL_INDEX"] = "NO"
            pyogrio.raw.write(
                path,
                shapely.to_wkb(geometries),
                [_plain(values) for values in columns.values()],
                [self._name(name) for name in columns],
                append=rows.start > 0,
                promote_to_multi=parted,
                **options,
            )

    def _name(self, field: str) -> str:
        return _SHAPEFILE_FIELDS.get(field, field) if self._shapefile else field


def _check(path: Path, written: _Written) -> None:
    """Look at the file: GDAL cannot tell of a disk that got full while it closed the file."""
    suffix = path.suffix.lower()
    if suffix == ".gpkg" and not pyogrio.read_info(path)["capabilities"]["fast_spatial_filter"]:
        raise OSError("its spatial index is missing")
    if suffix == ".shp" and path.stat().st_size != _shapefile_size(path):
        raise OSError("it is cut short")
    if pyogrio.read_info(path, force_feature_count=True)["features"] != written.count:
        raise OSError("not all features arrived")
    layer = written.layer.replace('"', '\\"')
    for field, count in written.texts.items():
        sql = f'SELECT COUNT(*) AS n FROM "{layer}" WHERE "{field}" <> \'\''
        ((arrived,),) = pyogrio.raw.read(path, sql=sql, sql_dialect="OGRSQL", read_geometry=False)[3]
        if arrived != count:
            raise OSError("not all texts arrived")


def _shapefile_size(path: Path) -> int:
    """Bytes that a .shp has, as its header says it in words of two."""
    with path.open("rb") as file:
        (words,) = struct.unpack(">24xi", file.read(28))
    return 2 * int(words)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Values of a column as pyogrio takes them."""
    return values.astype(object) if values.dtype.kind == "U" else values


@contextmanager
def _writing() -> Iterator[None]:
    """Writing with GeoPackage's time stamps at a fixed date; whatever pyogrio raises becomes an OSError."""
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "1970-01-01T00:00:00.000Z"})
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            yield
    except _FAULTS as error:
        raise OSError(str(error).splitlines()[0]) from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
