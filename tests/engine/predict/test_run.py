import csv
import json
import math

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from blobs import CLASSES, draw
from rasterio.transform import Affine, GroundControlPoint
from searches import BOXES, SHAPE, VALUES, run

from legnet_cli.boxes import Detections, boxes_to_polygons
from legnet_cli.errors import ConfigError, DataError, GeoError


def match(found, expected, tolerance=1.0):
    """Each expected point has one found point within ``tolerance``, and there are no others."""
    distance = np.linalg.norm(np.asarray(found)[:, None] - np.asarray(expected)[None], axis=-1)
    assert distance.shape[0] == distance.shape[1]
    assert (distance < tolerance).sum(0).tolist() == [1] * len(expected)


def apply(transform, point):
    a, b, c, d, e, f, *_ = transform
    return a * point[0] + b * point[1] + c, d * point[0] + e * point[1] + f


def layer(path):
    meta, _, wkb, values = pyogrio.raw.read(path, layer=None if path.suffix == ".geojson" else path.stem)
    return meta, shapely.from_wkb(wkb), dict(zip(meta["fields"], values, strict=True))


def test_boxes_come_back_in_source_pixels(tmp_path, blobs, write_scene):
    result = run(tmp_path, write_scene("a.tif", draw(SHAPE, BOXES, VALUES)))
    (scene,) = result.scenes
    match(scene.detections.boxes[:, :2], np.array(BOXES)[:, :2])
    assert result.counts == {"bright": 2, "dim": 2}
    assert result.km2 == pytest.approx(230 * 300 * 0.25 / 1e6, rel=0.01)
    assert scene.tiles == 12
    order = [int(np.argmin(np.hypot(*(np.array(BOXES)[:, :2] - box[:2]).T))) for box in scene.detections.boxes]
    np.testing.assert_allclose(scene.detections.boxes[:, 2:], np.array(BOXES)[order, 2:], atol=1.5, rtol=0.05)


TRANSFORMS = {
    "north up": Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000),
    "south up": Affine(0.5, 0, 500_000, 0, 0.5, 5_000_000),
    "rotated": Affine(3**0.5 / 4, 0.25, 500_000, 0.25, -(3**0.5) / 4, 5_000_000),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_map_coordinates_follow_the_transform(tmp_path, blobs, write_scene, name):
    transform = TRANSFORMS[name]
    run(tmp_path, write_scene("a.tif", draw(SHAPE, BOXES, VALUES), transform=transform))
    meta, polygons, fields = layer(tmp_path / "out.gpkg")
    expected = [apply(transform, box[:2]) for box in BOXES]
    match(shapely.get_coordinates(shapely.centroid(polygons)), expected, 0.5)
    assert pyproj.CRS(meta["crs"]).to_epsg() == 32631
    assert list(fields) == ["class", "score", "length_m", "width_m", "area_m2", "azimuth_deg", "scene", "model"]
    first = int(np.argmin(np.hypot(*(shapely.get_coordinates(shapely.centroid(polygons)) - expected[0]).T)))
    assert fields["length_m"][first] == pytest.approx(20, abs=1.5)
    assert fields["width_m"][first] == pytest.approx(6, abs=1.5)
    assert fields["area_m2"][first] == pytest.approx(120, rel=0.3)
    assert fields["class"][first] == "dim"
    assert set(fields["scene"]) == {"a.tif"}
    assert set(fields["model"]) == {"blobs"}


@pytest.mark.parametrize(
    ("name", "azimuth"), [("north up", 90 + 22.9), ("south up", 90 - 22.9), ("rotated", 90 + 22.9 - 30)]
)
def test_azimuth_counts_from_true_north(tmp_path, blobs, write_scene, name, azimuth):
    """The long side turns 0.4 rad clockwise on the screen; zone 31's meridian is at its easting of 500 km."""
    run(tmp_path, write_scene("a.tif", draw(SHAPE, BOXES[:1], VALUES[:1]), transform=TRANSFORMS[name]))
    _, _, fields = layer(tmp_path / "out.gpkg")
    assert fields["azimuth_deg"][0] == pytest.approx(azimuth, abs=2)


def test_geographic_scene_gives_metres(tmp_path, blobs, write_scene):
    degrees = 1e-5
    transform = Affine(degrees, 0, 10, 0, -degrees, 60)
    run(tmp_path, write_scene("a.tif", draw(SHAPE, [(60, 50, 40, 12, 0)], [250]), crs="EPSG:4326", transform=transform))
    _, _, fields = layer(tmp_path / "out.gpkg")
    east = pyproj.Geod(ellps="WGS84").inv(10, 60, 10 + 40 * degrees, 60)[2]
    assert fields["length_m"][0] == pytest.approx(east, rel=0.05)
    assert fields["width_m"][0] == pytest.approx(12 * degrees * 111_412, rel=0.15)
    assert fields["azimuth_deg"][0] == pytest.approx(90, abs=1)


@pytest.mark.parametrize("left", [190, -170, 179.9987, -180.0013])
def test_geojson_counts_longitudes_to_180_and_cuts_there(tmp_path, blobs, write_scene, left):
    image, transform = draw(SHAPE, BOXES, VALUES), Affine(1e-5, 0, left, 0, -1e-5, 52)
    run(tmp_path, write_scene("a.tif", image, crs="EPSG:4326", transform=transform), "out.geojson")
    _, shapes, _ = layer(tmp_path / "out.geojson")
    west, _, east, _ = shapely.total_bounds(shapes)
    assert -180 <= west <= east <= 180
    assert not any(part.bounds[2] - part.bounds[0] > 1 for part in shapely.get_parts(shapes))
    halves = [shape.geom_type for shape in shapes].count("MultiPolygon")
    assert halves == (1 if 179 < abs(left) < 181 else 0)  # the second box spans the antimeridian there
    run(tmp_path, str(tmp_path / "a.tif"), "again.geojson", aoi=tmp_path / "out.geojson")  # any area, either convention
    assert len(layer(tmp_path / "again.geojson")[1]) == len(BOXES)


def test_area_searched_is_that_on_the_ellipsoid(tmp_path, blobs, write_scene):
    """A degree is not as long everywhere: the whole globe has 510 million km²."""
    transform = Affine(1, 0, -180, 0, -1, 90)
    result = run(tmp_path, write_scene("a.tif", draw((180, 360), [], []), crs="EPSG:4326", transform=transform))
    assert result.km2 == pytest.approx(510.07e6, rel=0.01)


def test_control_points_place_the_objects(tmp_path, blobs, write_scene):
    east, north = 500_000, 5_000_000
    corners = [(0, 0), (0, 300), (230, 0), (230, 300)]
    gcps = [GroundControlPoint(row, col, east + col * 0.5, north - row * 0.5) for row, col in corners]
    run(tmp_path, write_scene("a.tif", draw(SHAPE, BOXES, VALUES), transform=None, gcps=gcps))
    _, polygons, _ = layer(tmp_path / "out.gpkg")
    match(
        shapely.get_coordinates(shapely.centroid(polygons)), [(east + x / 2, north - y / 2) for x, y, *_ in BOXES], 0.5
    )


def test_scene_without_georeference_gives_pixels_and_one_warning(tmp_path, blobs, write_scene, caplog):
    scene = write_scene("a.png", draw(SHAPE, BOXES, VALUES), crs=None, transform=None)
    result = run(tmp_path, scene, "out.geojson")
    features = json.loads((tmp_path / "out.geojson").read_text())["features"]
    centres = [shapely.geometry.shape(f["geometry"]).centroid.coords[0] for f in features]
    match(centres, np.array(BOXES)[:, :2] * [1, -1])  # as QGIS places a plain picture: from 0 down
    sizes = [[f["properties"][key] for key in ("length_px", "width_px", "area_px2", "angle_deg")] for f in features]
    _, _, w, h, angle = result.scenes[0].detections.boxes.T
    np.testing.assert_allclose(sizes, np.stack([w, h, w * h, np.degrees(angle) + 90], 1), atol=0.01)
    assert not [name for name in features[0]["properties"] if name.endswith(("_m", "_m2", "azimuth_deg"))]
    assert result.km2 is None
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["a.png: it has no georeference: results are in pixel coordinates"]


@pytest.mark.parametrize(("gsd", "tile"), [(0.25, 256), (0.8, 64)])
def test_gsd_resamples_and_boxes_return_to_source_pixels(tmp_path, blobs, write_scene, gsd, tile):
    result = run(tmp_path, write_scene("a.tif", draw(SHAPE, BOXES, [160] * 4)), gsd=gsd, tile=tile)
    (scene,) = result.scenes
    match(scene.detections.boxes[:, :2], np.array(BOXES)[:, :2], 1.5)
    assert sorted(scene.detections.boxes[:, 2]) == pytest.approx(sorted(b[2] for b in BOXES), abs=3)


def test_nodata_is_not_searched(tmp_path, blobs, write_scene):
    image = draw(SHAPE, BOXES, VALUES)
    image[:, 150:] = 255  # would be found as one huge object
    result = run(tmp_path, write_scene("a.tif", image, nodata=255))
    match(result.scenes[0].detections.boxes[:, :2], np.array(BOXES)[:2, :2], 3)


def test_16_bit_is_stretched(tmp_path, blobs, write_scene):
    image = draw(SHAPE, BOXES, [250] * 4).astype(np.uint16) * 20 + 3000
    result = run(tmp_path, write_scene("a.tif", image), stretch="3000,8000")
    match(result.scenes[0].detections.boxes[:, :2], np.array(BOXES)[:, :2])


@pytest.mark.parametrize(
    ("values", "scores"),
    [
        ({}, [0.503, 0.502, 0.501, 0.5]),
        ({"score": 0.5015}, [0.503, 0.502]),
        ({"max_detections": 1}, [0.503]),
        ({"classes": ("dim",)}, [0.501, 0.5]),
        ({"classes": ("dim",), "max_detections": 1}, [0.501]),
        ({"score": 0.9}, []),
    ],
)
def test_choice_of_objects(tmp_path, blobs, write_scene, values, scores):
    """One tile: the detector scores dim objects 0.500 and 0.501, bright ones 0.502 and 0.503."""
    boxes = [(30, 30, 40, 12, 0.4), (90, 30, 44, 16, 0.1), (30, 90, 40, 12, 0), (90, 90, 30, 14, 0)]
    result = run(tmp_path, write_scene("a.tif", draw((120, 120), boxes, [160, 160, 250, 250])), **values)
    assert result.scenes[0].detections.scores.tolist() == pytest.approx(scores)


def test_boxes_without_width_are_no_objects(tmp_path, blobs, write_scene, monkeypatch):
    """A model that has hardly learned gives them, many in one place: without an area none suppresses another."""
    boxes = np.array([(60, 60, 20, 1e-6, 0.3), (60, 60, 20, 1e-6, 0.3), (60, 60, 20, 8, 0.3)])
    found = Detections(boxes, np.array([0.9, 0.9, 0.8], np.float32), np.zeros(3, np.int64))
    monkeypatch.setattr(blobs, "detect", lambda images: [found] * len(images))
    result = run(tmp_path, write_scene("a.tif", draw((120, 120), boxes[2:], [250])))
    assert result.scenes[0].detections.boxes[:, 3].tolist() == [8]


def test_area_of_interest(tmp_path, blobs, write_scene):
    scene = write_scene("a.tif", draw(SHAPE, BOXES, VALUES))
    area = shapely.box(500_000, 5_000_000 - 40, 500_000 + 45, 5_000_000)  # the first object alone
    lonlat = shapely.transform(
        area, lambda xy: np.stack(pyproj.Transformer.from_crs(32631, 4326, always_xy=True).transform(*xy.T), 1)
    )
    aoi, far = tmp_path / "aoi.geojson", tmp_path / "far.geojson"
    for path, geometry in ((aoi, lonlat), (far, shapely.transform(lonlat, lambda xy: xy + 5))):
        path.write_text(
            json.dumps({"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(geometry)})
        )
    result = run(tmp_path, scene, aoi=aoi)
    match(result.scenes[0].detections.boxes[:, :2], [BOXES[0][:2]])
    assert sum(blobs.batches) < 12
    with pytest.raises(GeoError, match="outside"):
        run(tmp_path, scene, "far.gpkg", aoi=far)
    assert not (tmp_path / "far.gpkg").exists()


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_same_bytes_whatever_the_batch(tmp_path, blobs, write_scene, batch):
    scene = write_scene("a.tif", draw(SHAPE, BOXES, VALUES))
    run(tmp_path, scene, "one.geojson")
    run(tmp_path, scene, f"b{batch}.geojson", batch=batch)
    one, many = ((tmp_path / name).read_text() for name in ("one.geojson", f"b{batch}.geojson"))
    assert one.split("features")[1] == many.split("features")[1]


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".fgb", ".shp", ".parquet", ".csv", ""])
@pytest.mark.parametrize("count", [4, 0])
def test_every_format_is_written_also_when_nothing_is_found(tmp_path, blobs, write_scene, suffix, count):
    scene = write_scene("a.tif", draw(SHAPE, BOXES[:count], VALUES[:count]))
    run(tmp_path, scene, f"out{suffix}")
    out = tmp_path / f"out{suffix}"
    if suffix == "":
        assert sorted(file.name for file in out.iterdir()) == ["Task1_bright.txt", "Task1_dim.txt"]
        assert sum(len(file.read_text().splitlines()) for file in out.iterdir()) == count
    elif suffix == ".csv":
        with out.open() as file:
            header, *rows = csv.reader(file)
        assert ",".join(header) == "image,class,score,cx,cy,w,h,angle,x1,y1,x2,y2,x3,y3,x4,y4,lon,lat"
        assert len(rows) == count
    elif suffix == ".parquet":
        import pyarrow.parquet

        assert pyarrow.parquet.read_table(out).num_rows == count
    else:
        assert len(layer(out)[1]) == count


def test_csv_is_in_pixels_with_lon_lat(tmp_path, blobs, write_scene):
    scene = write_scene("a.tif", draw(SHAPE, BOXES[:1], VALUES[:1]))
    run(tmp_path, scene, "out.csv")
    with (tmp_path / "out.csv").open() as file:
        (row,) = csv.DictReader(file)
    box = [float(row[key]) for key in ("cx", "cy", "w", "h", "angle")]
    corners = [[float(row[f"x{i}"]), float(row[f"y{i}"])] for i in range(1, 5)]
    np.testing.assert_allclose(boxes_to_polygons(np.array([box]))[0], corners, atol=1e-3)
    assert math.dist(box[:2], BOXES[0][:2]) < 1
    lon, lat = pyproj.Transformer.from_crs(32631, 4326, always_xy=True).transform(500_000 + 30, 5_000_000 - 25)
    assert float(row["lon"]) == pytest.approx(lon, abs=1e-5)
    assert float(row["lat"]) == pytest.approx(lat, abs=1e-5)


def test_several_scenes_share_a_layer(tmp_path, blobs, write_scene):
    here = write_scene("scenes/a.tif", draw(SHAPE, BOXES, VALUES))
    there = write_scene("scenes/b.tif", draw(SHAPE, BOXES[:2], VALUES[:2]), crs="EPSG:32632")
    result = run(tmp_path, str(tmp_path / "scenes"), crs="EPSG:3857", preview=tmp_path / "p.png")
    meta, polygons, fields = layer(tmp_path / "out.gpkg")
    assert pyproj.CRS(meta["crs"]).to_epsg() == 3857
    assert sorted(fields["scene"]) == ["a.tif"] * 4 + ["b.tif"] * 2
    spread = np.ptp(shapely.get_coordinates(polygons)[:, 0])
    assert spread > 600_000  # two zones, six degrees apart
    assert {path.name for path in result.previews} == {"p_a.png", "p_b.png"}
    assert [scene.path for scene in result.scenes] == [here, there]
    bare = write_scene("bare.png", draw(SHAPE, [], []), crs=None, transform=None)
    with pytest.raises(GeoError, match=r"bare\.png.*\.csv"):
        run(tmp_path, [here, bare], "mixed.gpkg")


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"classes": ("brigth",)}, ConfigError, "did you mean 'bright'"),
        ({"tile": 64, "overlap": 64}, ConfigError, "--overlap"),
        ({"tile": 8}, ConfigError, "--tile"),
        ({"score": 1.5}, ConfigError, "--score"),
        ({"batch": 0}, ConfigError, "--batch"),
        ({"max_detections": 0}, ConfigError, "--max-detections"),
        ({"gsd": -1.0}, ConfigError, "--gsd"),
        ({"gsd": float("nan")}, ConfigError, "--gsd"),
        ({"bands": (1, 2, 9)}, ConfigError, "band"),
        ({"stretch": "loud"}, ConfigError, "stretch"),
        ({"crs": "EPSG:999999"}, ConfigError, "--crs"),
        ({"out": "out.xyz"}, ConfigError, r"\.xyz"),
        ({"out": "out.geojson", "crs": "EPSG:3857"}, ConfigError, "WGS 84"),
        ({"out": "out.csv", "crs": "EPSG:3857"}, ConfigError, "pixels"),
        ({"aoi": "nowhere.gpkg"}, DataError, "nowhere.gpkg"),
        ({"preview": "p.jpeg"}, ConfigError, r"\.png"),
    ],
)
def test_faults_are_named_before_the_search(tmp_path, blobs, write_scene, values, error, words):
    scene = write_scene("a.tif", draw(SHAPE, BOXES, VALUES))
    for key in ("aoi", "preview"):
        if key in values:
            values = {**values, key: tmp_path / values[key]}
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=words) as caught:
        run(tmp_path, scene, **values)
    assert "\n" not in str(caught.value)
    assert blobs.batches == []
    assert sorted(tmp_path.iterdir()) == before


def test_existing_output_stays_without_overwrite(tmp_path, blobs, write_scene):
    scene = write_scene("a.tif", draw(SHAPE, BOXES, VALUES))
    (tmp_path / "out.gpkg").write_text("mine")
    with pytest.raises(ConfigError, match="--overwrite"):
        run(tmp_path, scene)
    assert (tmp_path / "out.gpkg").read_text() == "mine"
    run(tmp_path, scene, overwrite=True)
    assert len(layer(tmp_path / "out.gpkg")[1]) == len(CLASSES) * 2


def test_damage_in_the_middle_leaves_nothing(tmp_path, blobs, write_scene):
    rng = np.random.default_rng(0)
    scene = write_scene(
        "a.tif",
        rng.integers(0, 100, (600, 600), np.uint8),
        compress="deflate",
        tiled=True,
        blockxsize=128,
        blockysize=128,
    )
    raw = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(raw[: len(raw) // 2])  # the header is at the front
    with pytest.raises(DataError, match=r"a\.tif"):
        run(tmp_path, scene)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
