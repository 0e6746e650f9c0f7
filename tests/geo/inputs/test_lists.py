"""Files that name scenes."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pyogrio.raw
import pytest
import shapely

from legnet_cli.errors import ConfigError, DataError, DependencyError
from legnet_cli.geo.inputs import expand_scenes, find_scenes

TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in ("a.tif", "lists/b.tif", "lists/c d.tif", "plain.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_index(path, names, column="location"):
    """As gdaltindex does."""
    shapes = shapely.to_wkb([shapely.box(i, 0, i + 1, 1) for i in range(len(names))])
    values = np.array(names, object)
    if path.suffix == ".parquet":
        return pa.parquet.write_table(pa.table({column: values, "geometry": pa.array(shapes)}), path)
    return pyogrio.raw.write(path, shapes, [values], [column], geometry_type="Polygon", crs="EPSG:4326")


def asset(href, kind=TIFF, *roles):
    return {"href": href, "type": kind, "roles": list(roles)}


def item(name="i1", **assets):
    return {"type": "Feature", "stac_version": "1.0.0", "id": name, "properties": {}, "assets": assets, "links": []}


def collection(*items, **more):
    return {"type": "FeatureCollection", "features": list(items), **more}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b.tif\n\n# a comment\n  c d.tif  \n", ["lists/b.tif", "lists/c d.tif"]),
        ("\ufeffb.tif\r\nb.tif\r\n", ["lists/b.tif"]),
        ("../a.tif\nmissing.tif", ["lists/../a.tif", "lists/missing.tif"]),  # to be told with the other failures
        ("https://x/a.tif?k=1\ns3://b/a.tif", ["/vsicurl/https://x/a.tif?k=1", "/vsis3/b/a.tif"]),
        ("/vsis3/b/a.tif\nzip://z.zip!a.tif", ["/vsis3/b/a.tif", "/vsizip/z.zip/a.tif"]),
        # no name chooses a driver, a pattern or another list
        ('HDF5:"b.tif"://data', ['lists/HDF5:"b.tif"://data']),
        ("vrt://b.tif?bands=1", ["lists/vrt://b.tif?bands=1"]),
        ("*.tif\nlist.txt\n.", ["lists/*.tif", "lists/list.txt", "lists/."]),
        ("<VRTDataset/>", ["lists/<VRTDataset/>"]),
    ],
)
def test_text_lists(folder, text, expected):
    (folder / "lists" / "list.txt").write_bytes(text.encode())
    assert expand_scenes(["lists/list.txt"]) == expected


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".fgb", ".geojson", ".parquet"])
def test_indexes(folder, suffix):
    write_index(folder / "lists" / f"index{suffix}", ["b.tif", str(folder / "plain.png"), "a.tif", "no.tif"])
    # gdaltindex names them from where it was run
    found = ["lists/b.tif", str(folder / "plain.png"), "a.tif", "lists/no.tif"]
    assert sorted(expand_scenes([f"lists/index{suffix}"])) == sorted(found)  # FlatGeobuf has an order of its own


def test_a_geopackage_of_pixels_is_a_raster(folder):
    write_index(folder / "other.gpkg", ["b.tif"], "name")
    (folder / "pixels.gpkg").write_bytes(b"<OGRVRTDataSource>")
    assert expand_scenes(["other.gpkg", "pixels.gpkg"]) == ["other.gpkg", "pixels.gpkg"]


ITEMS = {
    "the only image": (item(data=asset("b.tif"), meta=asset("m.xml", "application/xml")), "", "lists/b.tif"),
    "the image with the role": (item(x=asset("x.tif"), y=asset("b.tif", TIFF, "data")), "", "lists/b.tif"),
    "neither thumbnail nor overview": (
        item(t=asset("t.png", "image/png", "thumbnail"), o=asset("o.tif", TIFF, "overview"), y=asset("b.tif")),
        "",
        "lists/b.tif",
    ),
    "by suffix without a type": (item(x={"href": "b.tif"}, y={"href": "y.json"}), "", "lists/b.tif"),
    "by name": (item(x=asset("x.tif", TIFF, "data"), hdf=asset("b.h5", "application/x-hdf5")), "hdf", "lists/b.h5"),
    "elsewhere": (item(x=asset("https://x/b.tif")), "", "/vsicurl/https://x/b.tif"),
    "no driver": (item(x=asset("GTIFF_DIR:1:b.tif")), "", "lists/GTIFF_DIR:1:b.tif"),
}


@pytest.mark.parametrize("case", ITEMS)
def test_stac_items(folder, case):
    value, wanted, expected = ITEMS[case]
    (folder / "lists" / "item.json").write_text(json.dumps(value))
    (folder / "lists" / "items.geojson").write_text(json.dumps(collection(value)))
    rows = [value, item("i2", **{wanted or "another": asset("c d.tif")})]
    rows = [{"id": row["id"], "assets": row["assets"]} for row in rows]
    pa.parquet.write_table(pa.Table.from_pylist(rows), folder / "lists" / "items.parquet")
    assert list(find_scenes(["lists/item.json"], wanted)) == [expected]
    assert list(find_scenes(["lists/items.geojson"], wanted)) == [expected]
    assert list(find_scenes(["lists/items.parquet"], wanted)) == [expected, "lists/c d.tif"]


def test_a_glob_of_items(folder):
    for name in "bc":
        (folder / "lists" / f"{name}.json").write_text(json.dumps(item(name, x=asset(f"{name}.tif"))))
    assert expand_scenes(["lists/*.json"]) == ["lists/b.tif", "lists/c.tif"]


TWO = item(red=asset("r.tif", TIFF, "data"), nir=asset("n.tif", TIFF, "data"), m=asset("m.xml", "application/xml"))


@pytest.mark.parametrize(
    ("value", "wanted", "error", "words"),
    [
        (TWO, "", ConfigError, "item 'i1' has several images: choose --asset from red, nir"),
        (TWO, "blue", DataError, "item 'i1' has no asset 'blue': choose --asset from red, nir, m"),
        (item(m=asset("m.xml", "application/xml")), "", DataError, "has no image: choose --asset from m"),
        (item(), "", DataError, "has no image: choose --asset from none"),
        (item(x=asset(5), y="y", z=asset(None)), "", DataError, "has no image"),
        (item(x=asset("\ud800.tif")), "", DataError, "has a name that no file can have"),
        ({"type": "Collection", "stac_version": "1.0.0"}, "", DataError, "is a STAC Collection, not STAC items"),
        (collection(), "", DataError, "names no scene"),
        (collection({"type": "Feature", "properties": {"class": "ship"}}), "", DataError, "something else"),
        (collection(5, None, [], item(x=asset("b.tif"))), "", DataError, "something else"),
        ([1, 2], "", DataError, "something else"),
        ("text", "", DataError, "something else"),
    ],
)
def test_json_that_does_not_say_which_scenes(folder, value, wanted, error, words):
    (folder / "i.json").write_text(json.dumps(value))
    with pytest.raises(error, match=words) as caught:
        find_scenes(["i.json"], wanted)
    assert str(caught.value).startswith("i.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"# nothing\n", "names no scene"),
        ("a.txt", b"\xff\xfe\0", "cannot be read .*utf-8"),
        ("a.txt", b"b\0.tif", "has a name that no file can have"),
        ("a.json", b"{", "cannot be read"),
        ("a.json", b"[" * 200_000, "nested too deeply"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.gpkg", b"SQLite format 3\0" + b"x" * 100, "cannot be read"),
        ("a.shp", b"\0\0\x27\x0a", "cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore:GPKG")
def test_damaged_lists(folder, name, content, words):
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        expand_scenes([name])
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)


def test_parquet_without_its_package(folder, monkeypatch):
    write_index(folder / "index.parquet", ["a.tif"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"index\.parquet: Parquet needs pyarrow"):
        expand_scenes(["index.parquet"])


def test_items_of_a_web_service(folder, web):
    first = collection(item(x=asset("../b.tif")), links=[{"rel": "next", "href": "two.json"}])
    again = collection(item(x=asset("s3://b/x.tif")), links=[{"rel": "next", "href": "items"}])
    for name, value in {"collections/c/items": first, "collections/c/two.json": again}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    web.busy.be(0.3)
    found = expand_scenes([f"{web.url}/collections/c/items"])
    assert found == [f"/vsicurl/{web.url}/collections/b.tif", "/vsis3/b/x.tif"]


@pytest.mark.parametrize(
    "href", ["file:///etc/a.tif", "zip:///etc/a.zip!a.tif", "vrt:///vsis3/b/a.tif", "NETCDF:a.nc:x"]
)
def test_a_file_of_the_network_names_nothing_local(folder, web, href):
    (folder / "i.json").write_text(json.dumps(item(x=asset(href))))
    with pytest.raises(DataError, match="which is not on the network"):
        expand_scenes([f"{web.url}/i.json"])


def test_an_answer_that_goes_on_by_post(folder, web):
    link = {"rel": "next", "href": "i.json", "method": "POST"}
    (folder / "i.json").write_text(json.dumps(collection(item(x=asset("a.tif")), links=[link])))
    with pytest.raises(DataError, match="POST"):
        expand_scenes([f"{web.url}/i.json"])
    assert expand_scenes(["i.json"]) == ["./a.tif"]  # a file is complete
