"""Write pixels as a GeoTIFF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine


def write_geotiff(path: Path, image: NDArray[np.uint8], gsd: float) -> None:
    """Write RGB pixels (h, w, 3) of ``gsd`` metres as a tiled, deflated GeoTIFF somewhere in UTM zone 31 north."""
    place = {"crs": "EPSG:32631", "transform": Affine(gsd, 0, 500_000, 0, -gsd, 5_000_000)}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "predictor": 2}
    height, width, bands = image.shape
    size = {"height": height, "width": width, "count": bands, "dtype": image.dtype, "photometric": "rgb"}
    with rasterio.open(path, "w", driver="GTiff", **size, **layout, **place) as file:
        file.write(np.moveaxis(image, 2, 0))
