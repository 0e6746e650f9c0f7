"""What a file says cannot choose who reads it, and nothing in a data set makes a request."""

import json
import socket
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
import rasterio

from legnet_cli.errors import DataError
from legnet_cli.geo.aoi import read_aoi
from legnet_cli.geo.georef import read_georef
from legnet_cli.geo.polygons import read_polygons
from legnet_cli.geo.raster import Scene
from legnet_cli.geo.vector import read_provenance

SQUARE = [[[0, 0], [1, 0], [1, 1], [0, 0]]]
FEATURE = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": SQUARE}}
IMAGE = np.full((3, 600, 600), 9, np.uint8)


@pytest.fixture
def server(monkeypatch):
    """Address of a port that nobody may ask; a request would end after a second."""
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.settimeout(0)
        with pytest.raises(BlockingIOError):
            listening.accept()


def vrt(source, srs="EPSG:32631", relative=0):
    return (
        f'<VRTDataset rasterXSize="64" rasterYSize="64"><SRS>{srs}</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform>'
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


def wms(server):
    return (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{server}/${{z}}/${{x}}/${{y}}.png</ServerUrl></Service><DataWindow>'
        "<UpperLeftX>-1</UpperLeftX><UpperLeftY>1</UpperLeftY><LowerRightX>1</LowerRightX><LowerRightY>-1</LowerRightY>"
        "<TileLevel>0</TileLevel><SizeX>64</SizeX><SizeY>64</SizeY></DataWindow><BandsCount>3</BandsCount></GDAL_WMS>"
    )


def read_pixels(path):
    with Scene.open(str(path)) as scene:
        return scene.preview(300)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jp2", "a.xyz", "a", "a.vrt"])
@pytest.mark.parametrize("what", ["a VRT", "a service", "a VRT of a service", "nothing known"])
def test_a_raster_is_what_its_name_says(tmp_path, server, name, what):
    (tmp_path / "in.xml").write_text(wms(server))
    content = {
        "a VRT": vrt(f"/vsicurl/{server}/a.tif"),
        "a service": wms(server),
        "a VRT of a service": vrt("in.xml", relative=1),
        "nothing known": f"{server}/a.tif",
    }
    (tmp_path / name).write_text(content[what])
    for read in (read_georef, read_pixels):
        with pytest.raises(DataError, match=r"^[^\n]+$"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    "source",
    [
        "/vsicurl/{server}/a.tif",
        "/vsicurl_streaming/{server}/a.tif",
        "/vsisubfile/0,/vsicurl/{server}/a.tif",
        "/vsizip/vsicurl/{server}/a.zip/a.tif",
        "/vsimem/a.tif",
        "/vsistdin/",
        "{server}/a.tif",
        "WMS:{server}/?",
        "WCS:{server}/?",
        "<in XML>",
        "in.vrt",
    ],
)
def test_a_vrt_on_a_disk_reads_from_disks_alone(tmp_path, server, source):
    (tmp_path / "in.vrt").write_text(vrt(f"/vsicurl/{server}/a.tif"))
    named = escape(wms(server)) if source == "<in XML>" else source.format(server=server)
    (tmp_path / "a.vrt").write_text(vrt(named, relative=int(source == "in.vrt")))
    with pytest.raises(DataError, match=r"(a|in)\.vrt: reads .+, which a VRT there may not read"):
        read_pixels(tmp_path / "a.vrt")


def test_a_vrt_of_a_file_on_the_disk_is_read(tmp_path, server, write_scene):
    write_scene("in.tif", IMAGE)
    (tmp_path / "in.vrt").write_text(vrt("in.tif", relative=1))
    (tmp_path / "a.vrt").write_text(vrt("in.vrt", f"{server}/crs", relative=1))
    assert (read_pixels(tmp_path / "a.vrt")[0] == 9).all()


@pytest.mark.parametrize("place", ["tags", "notes", "file"])
def test_overviews_are_files_beside_their_raster(tmp_path, server, write_scene, place):
    path = Path(write_scene("a.tif", IMAGE))
    if place == "tags":
        with rasterio.open(path, "r+") as ds:
            ds.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=f"/vsicurl/{server}/o.tif")
    elif place == "notes":
        item = f'<MDI key="OVERVIEW_FILE">{escape(wms(server))}</MDI>'
        notes = f'<PAMDataset><SRS>{server}/crs</SRS><Metadata domain="OVERVIEWS">{item}</Metadata></PAMDataset>'
        path.with_name("a.tif.aux.xml").write_text(notes)
    else:
        path.with_name("a.tif.ovr").write_text(wms(server))
    for read in (read_georef, read_pixels):
        with pytest.raises(DataError, match=r"a\.tif: has overviews at|a\.tif\.ovr: is not a TIFF"):
            read(path)


def ogr_vrt(server):
    layer = f"<SrcDataSource>{server}/a.geojson</SrcDataSource>"
    return f'<OGRVRTDataSource><OGRVRTLayer name="x">{layer}</OGRVRTLayer></OGRVRTDataSource>'


@pytest.mark.parametrize("what", ["OGR VRT", "WFS", "GDALG", "address"])
@pytest.mark.parametrize(
    "suffix", [".geojson", ".json", ".gpkg", ".fgb", ".shp", ".kml", ".gml", ".kmz", ".tab", ".vrt"]
)
def test_a_vector_file_is_what_its_name_says(tmp_path, server, suffix, what):
    pipeline = f"gdal vector pipeline ! read {server}/a.geojson ! write streamed_file"
    content = {
        "OGR VRT": ogr_vrt(server),
        "WFS": f"<OGRWFSDataSource><URL>{server}/wfs</URL></OGRWFSDataSource>",
        "GDALG": json.dumps({"type": "gdal_streamed_alg", "command_line": pipeline}),
        "address": f"{server}/a.geojson",
    }
    path = tmp_path / f"a{suffix}"
    path.write_text(content[what])
    for read in (read_polygons, read_aoi):
        with pytest.raises(DataError, match=r"^[^\n]*a\.[^\n]+$"):
            read(path)
    if suffix in (".gpkg", ".fgb"):
        with suppress(DataError):
            assert read_provenance(path) is None


@pytest.mark.parametrize("key", ["crs", "\\u0063rs", "c\\u0072\\u0073"])
@pytest.mark.parametrize("kind", ["link", "LINK", "url", "Url"])
def test_a_reference_system_behind_a_link_is_not_fetched(tmp_path, server, key, kind):
    crs = json.dumps({"type": kind, "properties": {"href": f"{server}/c", "url": f"{server}/c"}})
    features = f'"features": [{json.dumps(FEATURE)}]'
    (tmp_path / "a.geojson").write_text(f'{{"type": "FeatureCollection", "{key}" : {crs}, {features}}}')
    for read in (read_polygons, read_aoi):
        with pytest.raises(DataError, match=r"a\.geojson: its reference system is a link"):
            read(tmp_path / "a.geojson")


@pytest.mark.parametrize("name", ["{server}/c", "urn:ogc:def:crs:EPSG::32631"])
def test_a_reference_system_by_name(tmp_path, server, name):
    crs = {"type": "name", "properties": {"name": name.format(server=server)}}
    content = {"type": "FeatureCollection", "crs": crs, "features": [FEATURE]}
    (tmp_path / "a b#1.geojson").write_text(json.dumps(content))
    assert len(read_polygons(tmp_path / "a b#1.geojson")) == 1


def test_a_view_without_end_is_refused(tmp_path):
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS table_name FROM c"
    with closing(sqlite3.connect(tmp_path / "a.gpkg")) as file, file:
        file.execute(f"CREATE VIEW gpkg_contents AS {endless}")
        file.execute(f"CREATE VIEW gpkg_metadata AS {endless}")
    for read in (read_polygons, read_aoi, read_provenance):
        with pytest.raises(DataError, match="recursive view"):
            read(tmp_path / "a.gpkg")
