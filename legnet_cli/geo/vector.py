"""Oriented polygons and their attributes, written as a vector layer; the suffix chooses the format.

================  =====================================================================================
``.geojson``      RFC 7946: WGS 84 longitude (-180 to 180), latitude to 9 decimals (0.1 mm), exterior rings
                  counterclockwise, polygons over the antimeridian cut into MultiPolygons. Without a
                  reference system: pixels to 4 decimals, and a ``crs`` member (GeoJSON 2008) of the
                  name "Image pixels", without which readers would take them for degrees
``.gpkg``         GeoPackage
``.fgb``          FlatGeobuf, with its spatial index: features come in the index's order
``.shp``          Shapefile in UTF-8; the field ``azimuth_deg`` is cut to ``azimuth`` (10 letters at most)
``.parquet``      GeoParquet 1.1; needs the ``geoparquet`` extra
================  =====================================================================================

The same layer gives the same bytes: date stamps inside the files are set to 1970-01-01.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.errors
import pyogrio.raw
import shapely
from numpy.typing import NDArray

from legnet_cli.boxes import Array
from legnet_cli.errors import DependencyError
from legnet_cli.files import PathLike, atomic_path
from legnet_cli.geo.crs import CRS, WGS84, within_180
from legnet_cli.installation import install_line

logger = logging.getLogger(__name__)

SUFFIXES = (".geojson", ".gpkg", ".fgb", ".shp", ".parquet")

_PIXELS = 'ENGCRS["Image pixels",EDATUM["Image"],CS[Cartesian,2],AXIS["x",east],AXIS["y",south],LENGTHUNIT["pixel",1]]'
_DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".shp": "ESRI Shapefile"}
_SHAPEFILE_FIELDS = {"azimuth_deg": "azimuth"}
# what an older file of the same name may have left; beside the new file it would be wrong
_SIDECARS = {
    ".shp": (".shx", ".dbf", ".prj", ".cpg", ".qpj", ".qix", ".sbn", ".sbx", ".shp.xml"),
    ".gpkg": (".gpkg-wal", ".gpkg-shm", ".gpkg-journal"),
}


@dataclass(frozen=True)
class Layer:
    """Polygons of one layer with their attributes.

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


def check_format(path: PathLike) -> None:
    """Refuse, before any work, a format whose package is missing.

    Raises:
        DependencyError: for ``.parquet`` without pyarrow.
    """
    if Path(path).suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise DependencyError(f"{path}: GeoParquet needs pyarrow: run `{install_line('geoparquet')}`")


def write_layer(path: PathLike, layer: Layer) -> None:
    """Write ``layer`` to ``path``, replacing what is there, in the format its suffix names (see the module).

    The file appears whole or not at all. Polygons are turned counterclockwise, and those whose longitudes jump
    from one side of the antimeridian to the other are cut there.

    Raises:
        ValueError: for GeoJSON of a layer that is neither in WGS 84 nor in pixels.
        DataError: the file cannot be written.
        DependencyError: for ``.parquet`` without pyarrow.
    """
    check_format(path)
    suffix = Path(path).suffix.lower()
    crs = layer.crs
    if suffix == ".geojson" and crs is not None and not crs.equals(WGS84, ignore_axis_order=True):
        raise ValueError(f"GeoJSON is in WGS 84, not in {crs.name}")
    with atomic_path(path) as scratch:
        if suffix == ".geojson":
            _write_geojson(scratch, layer)
        elif suffix == ".parquet":
            _write_parquet(scratch, layer)
        else:
            _write_gdal(scratch, layer, suffix)
            for ending in _SIDECARS.get(suffix, ()):
                if not scratch.with_suffix(ending).exists():
                    Path(path).with_suffix(ending).unlink(missing_ok=True)


def to_geometries(polygons: Array, crs: CRS | None) -> NDArray[np.object_]:
    """Shapely geometries (n,) of (n, 4, 2) polygons: exterior rings counterclockwise, None where not finite.

    In a geographic ``crs`` a polygon whose longitudes jump across the antimeridian is cut there into a
    MultiPolygon, and one around a pole is led along the edge of the map.
    """
    geometries = np.full(len(polygons), None, object)
    finite = np.asarray(np.isfinite(polygons).all((1, 2)))
    geometries[finite] = _counterclockwise(shapely.polygons(polygons[finite]))
    if not finite.all():
        logger.warning("%d objects have no place on the map: written without geometry", (~finite).sum())
    if crs is not None and crs.is_geographic:
        lon = np.where(finite[:, None], polygons[..., 0], 0)
        jumps = (np.abs(lon - np.roll(lon, 1, 1)) > 180).any(1)
        for row in np.flatnonzero(jumps):
            geometries[row] = _cut_at_antimeridian(polygons[row])
    return geometries


def _counterclockwise(polygons: NDArray[np.object_]) -> NDArray[np.object_]:
    forward = shapely.is_ccw(shapely.get_exterior_ring(polygons))
    return np.where(forward, polygons, shapely.reverse(polygons))


def _cut_at_antimeridian(corners: Array) -> shapely.Geometry:
    """One (4, 2) polygon in degrees, within [-180, 180], as a Polygon or a MultiPolygon."""
    lon, lat = np.vstack([corners, corners[:1]]).round(9).T  # so that no slivers arise
    lon = np.unwrap(lon, period=360)
    if abs(lon[-1] - lon[0]) > 180:  # once around the globe: a pole is inside
        pole = np.copysign(90, lat.mean())
        lon, lat = np.append(lon, [lon[-1], lon[0]]), np.append(lat, [pole, pole])
    lon -= 360 * np.floor((lon.min() + 180) / 360)
    whole = shapely.polygons(np.stack([lon.round(9), lat], 1))
    halves = shapely.intersection(whole, [shapely.box(west, -90, west + 360, 90) for west in (-180, 180)])
    halves[1] = shapely.transform(halves[1], lambda xy: xy - [360, 0])
    # around a pole, they meet
    parts = _counterclockwise(shapely.get_parts(shapely.union_all(halves[shapely.area(halves) > 0])))
    return parts[0] if len(parts) == 1 else shapely.multipolygons(parts)


def _write_geojson(path: Path, layer: Layer) -> None:
    polygons = layer.polygons.round(4 if layer.crs is None else 9)
    if layer.crs is not None:
        polygons[..., 0] = within_180(polygons[..., 0]).round(9)
    geometries = to_geometries(polygons, layer.crs)
    shapes = [shape or "null" for shape in shapely.to_geojson(geometries)]
    names, columns = list(layer.fields), [_json_values(values) for values in layer.fields.values()]
    head: dict[str, Any] = {"type": "FeatureCollection", "name": path.stem}
    head |= {} if layer.crs is not None else {"crs": {"type": "name", "properties": {"name": _PIXELS}}}
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "features": [')
        rows = zip(*columns, strict=True) if columns else [()] * len(shapes)
        for i, (shape, row) in enumerate(zip(shapes, rows, strict=True)):
            properties = json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False)
            comma = "," if i else ""
            file.write(f'{comma}\n{{"type": "Feature", "properties": {properties}, "geometry": {shape}}}')
        file.write("\n]}\n")


def _json_values(values: NDArray[Any]) -> list[Any]:
    """Plain values: float32 to the digits it has, None for what JSON cannot say."""
    if values.dtype.kind != "f":
        return list(values.tolist())
    plain = values.astype(str).astype(float) if values.dtype.itemsize < 8 else values
    return [value if np.isfinite(value) else None for value in plain.tolist()]


def _write_gdal(path: Path, layer: Layer, suffix: str) -> None:
    geometries = to_geometries(layer.polygons, layer.crs)
    parted = bool((shapely.get_type_id(geometries) == shapely.GeometryType.MULTIPOLYGON).any())
    options: dict[str, Any] = {}
    if suffix == ".shp":
        options = {"encoding": "UTF-8", "DBF_DATE_LAST_UPDATE": "1970-01-01"}
    elif suffix == ".fgb" and shapely.is_missing(geometries).any():
        options = {"SPATIAL_INDEX": "NO"}  # it has no place for them
    try:
        with _fixed_date(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            pyogrio.raw.write(
                path,
                shapely.to_wkb(geometries),
                [values.astype(object) if values.dtype.kind == "U" else values for values in layer.fields.values()],
                [_SHAPEFILE_FIELDS.get(name, name) if suffix == ".shp" else name for name in layer.fields],
                driver=_DRIVERS[suffix],
                geometry_type="MultiPolygon" if parted else "Polygon",
                promote_to_multi=parted,
                crs=None if layer.crs is None else layer.crs.to_wkt(),
                **options,
            )
        _check_written(path, layer)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise OSError(str(error).splitlines()[0]) from error


def _check_written(path: Path, layer: Layer) -> None:
    """Read the file back: GDAL cannot tell of a disk that got full while it closed the file."""
    if path.suffix.lower() == ".gpkg" and not pyogrio.read_info(path)["capabilities"]["fast_spatial_filter"]:
        raise OSError("its spatial index is missing")
    _, _, geometries, columns = pyogrio.raw.read(path)
    sent = sum(np.count_nonzero(values != "") for values in layer.fields.values() if values.dtype.kind == "U")
    arrived = sum(np.count_nonzero(values) for values in columns if values.dtype.kind == "O")
    if len(geometries) != len(layer.polygons) or arrived != sent:
        raise OSError("not all of it arrived")


@contextmanager
def _fixed_date() -> Iterator[None]:
    """GeoPackage's time stamps at a fixed date."""
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "1970-01-01T00:00:00.000Z"})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})


def _write_parquet(path: Path, layer: Layer) -> None:
    import pyarrow
    import pyarrow.parquet

    geometries = to_geometries(layer.polygons, layer.crs)
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted({geometry.geom_type for geometry in geometries if geometry is not None}),
        "crs": None if layer.crs is None else layer.crs.to_json_dict(),
        "orientation": "counterclockwise",
    }
    if column["geometry_types"]:
        column["bbox"] = shapely.total_bounds(geometries).tolist()
    table = pyarrow.table(
        {name: pyarrow.array(values) for name, values in layer.fields.items()}
        | {"geometry": pyarrow.array(shapely.to_wkb(geometries), pyarrow.binary())}
    )
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    pyarrow.parquet.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path, compression="zstd")
