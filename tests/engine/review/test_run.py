import json
import sqlite3
from contextlib import closing
from xml.etree import ElementTree as Xml

import numpy as np
import pyogrio
import pytest
import shapely
from PIL import Image

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.review_layers import STATUSES
from legnet_cli.engine.predict import class_colour, read_record
from legnet_cli.engine.review import ReviewConfig, review
from legnet_cli.errors import ConfigError, DataError, GeoError
from legnet_cli.geo.crs import CRS, reproject
from legnet_cli.geo.raster import write_geotiff
from legnet_cli.geo.vector import About, Layer, write_layer

UTM = CRS.from_epsg(32631)  # that of write_geotiff
GSD = 0.5
WIDTH, HEIGHT = 640, 480
CLASSES = {"plane": 0.3, "ship": 0.4, "tank": 0.25}


def places(count=12):
    """Boxes (n, 5) in pixels, apart from each other."""
    middle = (np.indices((4, 3)).reshape(2, -1).T[:count] + 0.5) * 160
    return np.c_[middle, np.tile([40, 12, 0.3], (count, 1))]


def on_map(boxes, crs=UTM):
    points = boxes_to_polygons(boxes).reshape(-1, 2) * (GSD, -GSD) + (500_000, 5_000_000)
    return (points if crs == UTM else reproject(points, UTM, crs)).reshape(-1, 4, 2)


@pytest.fixture
def make(tmp_path):
    """Writer of a scene and a layer of boxes in it; returns the layer's path as text."""

    def write(name="boxes.gpkg", boxes=None, *, image="a.tif", crs=UTM, classes="ship", record=True, **fields):
        boxes = places() if boxes is None else boxes
        raster = tmp_path / image
        if image.endswith(".tif"):
            write_geotiff(raster, np.full((HEIGHT, WIDTH, 3), 90, np.uint8), GSD)
        else:
            Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(raster)
        columns = {"class": np.broadcast_to(np.array(classes, np.str_), (len(boxes),)).copy()}
        columns |= {"score": np.linspace(0.1, 0.95, len(boxes)), "scene": np.full(len(boxes), image)}
        columns = {key: np.asarray(value) for key, value in (columns | fields).items() if value is not None}
        told = {"weights": {"name": "m"}, "classes": CLASSES, "scenes": [{"name": image, "path": str(raster)}]}
        outlines = boxes_to_polygons(boxes) * (1, -1) if crs is None else on_map(boxes, crs)
        write_layer(tmp_path / name, Layer(outlines, crs, columns), About(json.dumps(told) if record else ""))
        return str(tmp_path / name)

    return write


def rows_of(path, layer="review"):
    return pyogrio.read_dataframe(path, layer=layer)


@pytest.fixture
def run(tmp_path):
    """``legnet review`` of layers; returns the result and the rows."""

    def go(*boxes, out="review.gpkg", **settings):
        result = review(ReviewConfig(boxes=boxes, out=tmp_path / out, **settings))
        return result, rows_of(tmp_path / out)

    return go


def test_the_layers_hold_what_is_to_be_reviewed(make, run):
    result, rows = run(make(), most=5)
    assert [*rows.columns] == [
        *("status", "class", "score", "probability", "reason", "priority", "scene", "id", "original", "geometry"),
    ]
    assert (result.objects, result.chosen, len(rows), result.places) == (12, 5, 5, 5)
    assert set(rows["status"]) == {"todo"}
    assert rows["id"].is_unique
    assert rows["priority"].tolist() == [1, 2, 3, 4, 5]
    assert rows.crs.to_epsg() == 32631
    # what nobody moved is the same to the last bit
    assert all(
        shapely.from_wkt(text).equals_exact(shape, 0)
        for text, shape in zip(rows["original"], rows.geometry, strict=True)
    )
    squares = rows_of(result.out, "places")
    assert squares["id"].tolist() == rows["id"].tolist()
    assert squares["scene"].tolist() == ["a.tif"] * 5
    whole = shapely.box(500_000, 5_000_000 - HEIGHT * GSD, 500_000 + WIDTH * GSD, 5_000_000)
    for square, row in zip(squares.geometry, rows.geometry, strict=True):
        assert square.covers(row.intersection(whole))
        assert whole.covers(square)
        assert square.area == pytest.approx((120 * GSD) ** 2, rel=0.05) or not whole.buffer(-1).covers(square)
    # near the threshold of 0.4, which the layer tells
    assert abs(rows["score"][0] - 0.4) < 0.05
    assert result.counts["ship"]["uncertain"] + result.counts["ship"]["missed"] == 5
    scene = read_record(result.out)["scenes"][0]
    assert (scene["name"], scene["path"].endswith("a.tif"), "size" in scene) == ("a.tif", True, True)


def test_qgis_shows_drop_downs_of_statuses_and_all_classes_of_the_model(make, run):
    result, _ = run(make(), most=3)
    with closing(sqlite3.connect(result.out)) as file:
        found = dict(file.execute("SELECT f_table_name, styleQML FROM layer_styles WHERE useAsDefault"))
    assert set(found) == {"review", "places"}
    style = Xml.fromstring(found["review"])
    choices = {
        field.get("name"): [one.get("value") for one in field.iterfind(".//Option[@name='map']/Option/Option")]
        for field in style.iterfind("fieldConfiguration/field")
        if field.find("editWidget").get("type") == "ValueMap"
    }
    assert choices == {"status": list(STATUSES), "class": list(CLASSES)}
    assert [one.get("value") for one in style.iterfind(".//category")] == list(STATUSES)
    assert style.find("defaults/default").attrib.items() >= {"field": "status", "expression": "'added'"}.items()
    assert style.get("labelsEnabled") == "1"


def test_pictures_show_each_row(make, run):
    result, rows = run(make(classes=["ship", "a/b"] * 6), most=50)
    crops = sorted(result.crops.iterdir())
    assert len(crops) == len(rows)
    assert crops[0].name == f"001_{rows['class'][0].replace('/', '_')}.png"
    with Image.open(crops[0]) as crop:
        pixels = np.asarray(crop).reshape(-1, 3)
    label = sorted({"ship", "a/b"}).index(rows["class"][0])
    assert crop.size == (200, 200)
    assert (np.abs(pixels.astype(int) - class_colour(label)).max(1) < 20).any()
    assert (pixels == 90).all(1).mean() > 0.5
    assert [sheet.name for sheet in result.sheets] == ["review.png"]


def test_more_rows_fill_more_sheets_and_old_ones_go(make, run, tmp_path):
    many = np.c_[np.random.default_rng(0).uniform(20, 460, (90, 2)), np.tile([12, 5, 0.3], (90, 1))]
    layer = make(boxes=many)
    result, _ = run(layer, most=85)
    assert [sheet.name for sheet in result.sheets] == ["review.png", "review-2.png", "review-3.png"]
    run(layer, most=4, overwrite=True)
    assert sorted(path.name for path in tmp_path.glob("review*.png")) == ["review.png"]
    assert len([*result.crops.iterdir()]) <= 4


def test_pixels_stay_pixels(make, run):
    _, rows = run(make(image="a.png", crs=None), most=50)
    bounds = rows.geometry.bounds
    assert rows.crs is None or rows.crs.type_name == "Engineering CRS"
    assert (bounds["miny"] >= -HEIGHT - 20).all()
    assert (bounds["maxy"] < 20).all()
    squares = rows_of(_.out, "places").geometry.bounds
    assert squares["minx"].min() >= 0
    assert squares["miny"].min() >= -HEIGHT
    assert squares["maxy"].max() <= 0


def test_layers_in_other_systems_come_together_in_the_first(make, run):
    one = make()
    two = make("other.gpkg", places(4), image="b.tif", crs=CRS.from_epsg(4326))
    result, rows = run(one, two, most=50)
    assert rows.crs.to_epsg() == 32631
    assert set(rows["scene"]) == {"a.tif", "b.tif"}
    assert result.scenes == 2
    moved = rows[rows["scene"] == "b.tif"].geometry.centroid
    goal = shapely.points(on_map(places(4)).mean(1))
    assert shapely.distance(moved.to_numpy()[:, None], goal).min(1).max() < 0.01


@pytest.mark.parametrize("fields", [{"scene": None}, {"scene": ["elsewhere/x.tif"] * 12}])
def test_scenes_are_found_by_where_objects_lie(make, run, tmp_path, fields):
    layer = make(record=False, **fields)
    _, rows = run(layer, scenes=(str(tmp_path / "*.tif"),), most=3)
    assert set(rows["scene"]) == {"a.tif"}


def test_objects_without_score_are_chosen_by_size(make, run, caplog):
    boxes = places()
    boxes[7, 2] = 80
    _, rows = run(make(boxes=boxes, score=None), most=1)
    assert (rows["reason"][0], rows["score"].isna()[0]) == ("unusually long", True)
    assert "without a score" in caplog.text


def test_probabilities_and_views_are_taken_from_the_layer(make, run, caplog):
    sure = np.full(12, 0.99)
    likely, views = np.where(np.arange(12) == 3, 0.5, sure), np.where(np.arange(12) == 8, 0.5, 1.0)
    _, rows = run(make(score=sure, probability=likely, views=views), most=2)
    assert rows["reason"].tolist() == ["probability 0.50", "found by 50% of the views"]
    assert "predict with --score 0.05" in caplog.text  # nothing tells what was missed
    assert "calibrate" not in caplog.text


def test_scores_without_probabilities_are_said_to_be_uncalibrated(make, run, caplog):
    run(make(), most=3)
    assert "eval --calibrate --write-back" in caplog.text


@pytest.mark.parametrize("status", ["ok", " Wrong ", None])
def test_a_review_that_was_begun_is_not_replaced(make, run, status):
    layer = make()
    result, _ = run(layer, most=3)
    with closing(sqlite3.connect(result.out)) as file, file:
        # of the spatial index, for which SQLite alone lacks functions
        for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            file.execute(f'DROP TRIGGER "{name}"')
        file.execute("UPDATE review SET status = ? WHERE id = '2'", (status,))
    before = result.out.read_bytes()
    with pytest.raises(ConfigError, match=r"1 object in it is reviewed already: .* --overwrite"):
        run(layer)
    assert result.out.read_bytes() == before
    run(layer, overwrite=True)


@pytest.mark.parametrize(
    ("layers", "settings", "error", "words"),
    [
        ([{"boxes": np.zeros((0, 5))}], {}, DataError, "no objects to choose from: predict with --score 0.05"),
        ([{}], {"out": "review.geojson"}, ConfigError, "need a GeoPackage"),
        ([{}], {"classes": "shop"}, ConfigError, "did you mean 'ship'"),
        ([{"record": False}], {}, DataError, "does not name its scenes: give them by --scenes"),
        ([{"boxes": places() + [9e4, 0, 0, 0, 0]}], {}, DataError, "no object lies in the scenes"),
        ([{"image": "a.png"}], {}, GeoError, "in map coordinates, but .*a.png has no georeference"),
        ([{}, {"name": "two.gpkg", "crs": None, "image": "b.png"}], {}, GeoError, "is in pixels, .* in map coord"),
        ([{}, {"name": "two.gpkg"}], {}, DataError, "both have objects of class 'ship' in a.tif"),
        ([{"score": np.full(12, 1.0)}], {}, DataError, "nothing is worth a look"),
    ],
)
def test_what_cannot_be_reviewed_is_told_in_one_line(make, run, tmp_path, layers, settings, error, words):
    with pytest.raises(error, match=words) as raised:
        run(*[make(**layer) for layer in layers], **settings)
    assert "\n" not in str(raised.value)
    assert not [*tmp_path.glob("review*")]


def test_the_same_input_gives_the_same_bytes(make, run, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    layer = make()
    one, two = run(layer, most=4)[0], run(layer, out="again.gpkg", most=4)[0]
    assert one.out.read_bytes() == two.out.read_bytes()
    assert one.sheets[0].read_bytes() == two.sheets[0].read_bytes()


@pytest.mark.parametrize(("image", "crs"), [("a.tif", UTM), ("a.tif", CRS.from_epsg(4326)), ("a.png", None)])
def test_what_was_reviewed_is_read_as_labels(make, run, tmp_path, image, crs):
    """Nothing at first; once all is marked, objects and ground without any, each where it was."""
    run(make(image=image, crs=crs), most=6)
    path, scene = tmp_path / "review.gpkg", tmp_path / image
    (labels,) = load_dataset(scene, labels=str(path)).images
    assert set(labels.names) == {"ignored"}
    with closing(sqlite3.connect(path)) as file, file:
        for (trigger,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            file.execute(f'DROP TRIGGER "{trigger}"')  # they call functions that only GDAL and QGIS have
        file.execute("UPDATE review SET status = CASE WHEN priority < 4 THEN 'ok' ELSE 'Wrong' END")
    (labels,) = load_dataset(scene, labels=str(path)).images
    ships = np.array([name == "ship" for name in labels.names])
    assert ships.sum() == 3
    near = np.hypot(*(labels.boxes[ships][:, None, :2] - places()[None, :, :2]).transpose(2, 0, 1))
    assert near.min(1).max() < 0.01
    ground = shapely.union_all(shapely.polygons(labels.quads[~ships]))
    squares = sum(120 * 120 for _ in range(6))  # of three times their length
    assert WIDTH * HEIGHT - ground.area == pytest.approx(squares, rel=0.05)
