"""Settings of ``legnet predict``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from legnet_cli.detectors.weights.fetch import EMBEDDED
from legnet_cli.engine import options
from legnet_cli.engine.options import Engine, Precision
from legnet_cli.settings import Settings, documented, option, required


@documented
@dataclass(frozen=True)
class PredictConfig(Settings):
    """What to search, with which weights, and where the objects go."""

    scenes: tuple[str, ...] = required(
        "Rasters that GDAL reads, folders, glob patterns or URLs.", argument=True, commas=False
    )
    out: Path = required(".geojson .gpkg .fgb .shp .parquet .csv, or a folder (no suffix) of DOTA text.", "-o")
    weights: str = options.weights(EMBEDDED)
    tile: int | None = options.tile()
    overlap: int | None = options.overlap()
    gsd: float | None = option(None, "Resample to this ground sampling distance (m/px).", unset="the scene's")
    bands: tuple[int, ...] | None = options.bands()
    stretch: str = options.stretch()
    score: float = options.score(0.25)
    classes: tuple[str, ...] = options.classes()
    aoi: Path | None = option(None, "Vector file; search only inside its polygons.")
    max_detections: int | None = option(None, "Keep at most N per scene, best first.", unset="all", least=1)
    crs: str = option("source", "Reference system of the layer: source or EPSG:n. GeoJSON is always WGS 84.")
    preview: Path | None = option(None, "PNG of the boxes over the scene, one a scene.")
    batch: int | None = options.batch()
    device: str = options.device()
    engine: Engine = options.engine()
    precision: Precision = options.precision()
    compile: bool = option(False, "Compile the network first: minutes, for GPUs and many tiles.")
    overwrite: bool = options.overwrite()

    def faults(self) -> list[tuple[object, str]]:
        """See :class:`Settings`."""
        return [
            (not self.scenes, "no scene given: name a raster, folder or URL"),
            (self.gsd is not None and not 0 < self.gsd < 1e6, f"--gsd {self.gsd}: give metres per pixel, above 0"),
        ]
