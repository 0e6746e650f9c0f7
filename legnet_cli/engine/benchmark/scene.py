"""A whole search, from a raster to a layer of polygons: how fast, and how long the network had to wait."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from legnet_cli.detectors.loader import Detector
from legnet_cli.engine.benchmark.timings import Tally
from legnet_cli.engine.predict import PredictConfig, predict
from legnet_cli.engine.sample_tiles import synthetic_tile
from legnet_cli.geo.raster import write_geotiff
from legnet_cli.tiles import choose_tiling

_SCORE = 0.25  # what predict keeps


@dataclass(frozen=True)
class SceneRun:
    """One search of a scene.

    Attributes:
        tiles, objects: number.
        km2: ground searched; None without georeference.
        seconds: of the whole search, loading of weights left out.
        detect_seconds: of them in the network, from pixels to boxes.
        stages: milliseconds a tile to read (in threads, beside the network), merge and write.
    """

    path: str
    tiles: int
    objects: int
    km2: float | None
    seconds: float
    detect_seconds: float
    stages: dict[str, float]

    @property
    def km2_per_second(self) -> float | None:
        """Ground searched a second."""
        return None if self.km2 is None else self.km2 / self.seconds

    @property
    def waiting(self) -> float:
        """Share of the time in which the network had nothing to do."""
        return 1 - self.detect_seconds / self.seconds


def time_scene(detector: Detector, path: str, tile: int, batch: int | None) -> SceneRun:
    """Search the raster at ``path`` by tiles of ``tile`` pixels and write what is found to a file that is then removed.

    Raises:
        DataError: if the raster cannot be used.
    """
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="legnet-") as folder:
        out = Path(folder) / "boxes.geojson"
        config = PredictConfig((path,), out, (detector.card.name,), tile=tile, batch=batch, score=_SCORE)
        result = predict(config, detector=detector, observer=tally.stage)
    tiles = max(sum(scene.tiles for scene in result.scenes), 1)
    return SceneRun(
        path,
        tiles,
        sum(result.counts.values()),
        result.km2,
        result.seconds,
        tally.seconds["detect"],
        {stage: 1e3 * tally.seconds[stage] / tiles for stage in ("read", "merge", "write")},
    )


def time_synthetic_scene(detector: Detector, tile: int, batch: int | None) -> SceneRun:
    """Like :func:`time_scene`, on a synthetic GeoTIFF of two by two tiles of ``tile`` pixels, half a metre each."""
    with tempfile.TemporaryDirectory(prefix="legnet-") as folder:
        path = Path(folder) / "synthetic.tif"
        _, overlap = choose_tiling(tile, None, (detector.card.tile, detector.card.overlap))
        side = 2 * tile - overlap
        write_geotiff(path, synthetic_tile(side, side), 0.5)
        return replace(time_scene(detector, str(path), tile, batch), path="synthetic")
