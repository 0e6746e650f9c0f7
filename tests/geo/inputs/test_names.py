import pytest

from legnet_cli.geo.inputs import gdal_path, is_local, is_remote
from legnet_cli.geo.inputs.names import url_of

LOCAL, REMOTE, ELSEWHERE = (True, False), (False, True), (False, False)


@pytest.mark.parametrize(
    ("path", "expected", "where"),
    [
        ("scene.tif", "scene.tif", LOCAL),
        ("C:/scenes/a.tif", "C:/scenes/a.tif", LOCAL),
        ("file:///data/a.tif", "/data/a.tif", LOCAL),
        ("http://x/a.tif", "/vsicurl/http://x/a.tif", REMOTE),
        ("s3://bucket/a.tif", "/vsis3/bucket/a.tif", REMOTE),
        ("gs://bucket/a.tif", "/vsigs/bucket/a.tif", REMOTE),
        ("zip://https://x/a.zip!b.tif", "/vsizip//vsicurl/https://x/a.zip/b.tif", REMOTE),
        ("/vsis3/bucket/a.tif", "/vsis3/bucket/a.tif", REMOTE),
        ("zip://a.zip!b.tif", "/vsizip/a.zip/b.tif", ELSEWHERE),
        ("vrt://a.tif?bands=1", "vrt://a.tif?bands=1", ELSEWHERE),
        ("NETCDF:a.nc:band", "NETCDF:a.nc:band", ELSEWHERE),
    ],
)
def test_names_for_gdal(path, expected, where):
    assert gdal_path(path) == expected
    assert (is_local(path), is_remote(path)) == where


@pytest.mark.parametrize("url", ["https://x/a.tif?b=1", "s3://b/a.tif", "az://c/a.tif", "a.tif", "/vsizip/a.zip/b.tif"])
def test_urls_of_gdal_names(url):
    assert url_of(gdal_path(url)) == url
