"""Readers of rasters and of the notes beside them."""

from __future__ import annotations

from pathlib import Path

from reader import Reader, geotiff, picture

from legnet_cli.data.images import image_size
from legnet_cli.geo.georef import read_georef
from legnet_cli.geo.raster import Scene

VRT = (
    b'<VRTDataset rasterXSize="64" rasterYSize="48"><SRS>EPSG:32631</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform>'
    b'<Metadata><MDI key="a">b</MDI></Metadata><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
    b'<SourceFilename relativeToVRT="1">in.tif</SourceFilename><SourceBand>1</SourceBand><SrcRect xOff="0" yOff="0" '
    b'xSize="64" ySize="48"/><DstRect xOff="0" yOff="0" xSize="64" ySize="48"/></SimpleSource></VRTRasterBand>'
    b"</VRTDataset>"
)


def read_raster(folder: Path, name: str) -> None:
    if not name.endswith(".vrt"):
        image_size(folder / name)
    read_georef(folder / name)
    with Scene.open(str(folder / name)) as scene:
        if scene.width * scene.height < 1 << 22:
            scene.preview(64)


def raster_readers() -> dict[str, Reader]:
    found = {}
    for suffix in (".tif", ".png", ".jpg", ".bmp", ".webp", ".jp2", ".vrt"):
        seed = VRT if suffix == ".vrt" else geotiff() if suffix == ".tif" else picture(suffix)
        beside = {"in.tif": geotiff()} if suffix == ".vrt" else {}
        name = f"a{suffix}"
        found[f"raster: {suffix}"] = Reader(name, [seed], lambda folder, name=name: read_raster(folder, name), beside)
    notes = (
        b"<PAMDataset><SRS>EPSG:32631</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform>"
        b'<Metadata domain="OVERVIEWS"/></PAMDataset>'
    )
    beside = {"a.png": picture(".png")}
    found["raster: .aux.xml"] = Reader("a.png.aux.xml", [notes], lambda folder: read_raster(folder, "a.png"), beside)
    found["raster: world file"] = Reader(
        "a.pgw", [b"1\n0\n0\n-1\n5\n6\n"], lambda folder: read_raster(folder, "a.png"), beside
    )
    return found
