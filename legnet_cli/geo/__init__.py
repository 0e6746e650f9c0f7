"""The door to rasterio, pyogrio and pyproj: rasters, coordinates, vector layers."""
