import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling

from legnet_cli.errors import ConfigError, DataError, GeoError, LegnetError
from legnet_cli.geo.bands import Bands
from legnet_cli.geo.inputs import expand_scenes
from legnet_cli.geo.raster import Scene
from legnet_cli.geo.stretch import NEUTRAL
from legnet_cli.tiles import Tile, tile_grid

REAL = Path(__file__).parents[1] / "real" / "rasters"
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}
quiet = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def pattern(*shape, dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)


def smooth(height, width):
    """A band without detail finer than some pixels, so that resampling keeps it."""
    row, col = np.mgrid[:height, :width]
    return (120 + 60 * np.sin(row / 17) + 60 * np.cos(col / 23)).astype(np.uint8)


def whole(scene):
    return scene.read(Tile(0, 0, scene.height, scene.width))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "float32", "float64", "int8"])
def test_other_types_are_stretched_the_same_for_every_tile(write_scene, dtype):
    image = pattern(3, 200, 300, dtype=dtype) // np.array(2, dtype)
    image[0] += np.array(7, dtype)
    path = write_scene("a.tif", image)
    with Scene.open(path) as scene:
        full, valid = whole(scene)
        tiles = tile_grid(200, 300, 64, 16)
        for tile in reversed(tiles):
            part = full[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
            assert (scene.read(tile)[0] == part).all()
    assert valid.all()
    low, high = np.percentile(image[0], (2, 98))
    expected = np.clip((image[0].astype(float) - low) / (high - low) * 255, 0, 255)
    assert np.abs(full[..., 0] - expected).max() <= 0.51
    with Scene.open(path) as again:
        assert (whole(again)[0] == full).all()


@pytest.mark.parametrize(
    ("stretch", "expected"), [("none", [10, 20, 30]), ("10,30", [0, 128, 255]), ("0,100", [0, 128, 255])]
)
def test_a_stretch_given_applies_to_8_bit_too(write_scene, stretch, expected):
    image = np.tile(np.array([[10, 20, 30]], np.uint8), (3, 1))
    with Scene.open(write_scene("a.tif", image), stretch=stretch) as scene:
        assert whole(scene)[0][0, :, 0].tolist() == expected


def test_stretch_of_a_large_scene_reads_spots_of_it(write_scene, monkeypatch):
    monkeypatch.setattr("legnet_cli.geo.raster.SAMPLE_COST", 1000)
    image = (np.arange(400)[:, None] * 10 + np.arange(600)[None] + 1).astype(np.uint16)
    path = write_scene("a.tif", image, nodata=0)
    windows = []

    def fetch(self, ds, window, shape, *, smooth):
        windows.append(window)
        return original(self, ds, window, shape, smooth=smooth)

    original = Bands.fetch
    with monkeypatch.context() as patch:
        patch.setattr(Bands, "fetch", fetch)
        scene = Scene.open(path)
    assert len(windows) == 256
    assert {window[2:] for window in windows} == {(64, 64)}
    low, high = np.percentile(image, (2, 98))
    expected = np.clip((image - low) / (high - low) * 255, 0, 255)
    assert np.abs(whole(scene)[0][..., 0] - expected).max() < 12
    scene.close()


def test_stretch_of_a_large_nearly_empty_scene_reads_all_of_it(write_scene, monkeypatch):
    monkeypatch.setattr("legnet_cli.geo.raster.SAMPLE_COST", 1000)
    image = np.zeros((1500, 1500), np.uint16)
    image[101:131, 101:131] = np.arange(900).reshape(30, 30) + 5  # between the spots
    with Scene.open(write_scene("a.tif", image, nodata=0)) as scene:
        rgb, valid = whole(scene)
    assert valid.sum() == 900
    assert np.ptp(rgb[valid]) == 255


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_constant_single_pixel_and_empty_scenes_work(write_scene, dtype):
    with Scene.open(write_scene("a.tif", np.full((1, 1), 7, dtype))) as scene:
        rgb, valid = whole(scene)
        assert rgb.tolist() == [[[7] * 3 if dtype == "uint8" else [0] * 3]]
        assert valid.all()
        assert scene.preview(100)[0].shape == (1, 1, 3)
    with Scene.open(write_scene("b.tif", np.zeros((5, 9), dtype), nodata=0)) as scene:
        rgb, valid = whole(scene)
        assert not valid.any()
        assert (rgb == NEUTRAL).all()


@pytest.mark.parametrize("overviews", [(), (2, 4)])
@pytest.mark.parametrize("gsd", [0.2, 0.93, 0.97, 1.0, 1.7, 2.02])
@pytest.mark.parametrize("how", ["plain", "nodata", "mask"])
def test_resampled_grid(write_scene, overviews, gsd, how):
    """Pixels of half a metre read at another size: right place, no seams, no mixing with what is no data."""
    height, width = 331, 407
    image = np.maximum(smooth(height, width), 60)
    hole = np.zeros((height, width), bool)
    if how != "plain":
        hole[:, :100] = True
    path = write_scene("a.tif", np.where(hole, 0, image), nodata=0 if how == "nodata" else None, **TILED)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as ds:
        if how == "mask":
            ds.write_mask(~hole)
        if overviews:
            ds.build_overviews(overviews, Resampling.average)
    with Scene.open(path, gsd=gsd) as scene:
        assert scene.width == pytest.approx(width * 0.5 / gsd, abs=0.6)
        assert scene.height == pytest.approx(height * 0.5 / gsd, abs=0.6)
        assert (scene.width * scene.scale_x, scene.height * scene.scale_y) == pytest.approx((width, height))
        assert (scene.source_width, scene.source_height) == (width, height)
        rgb, valid = whole(scene)
        for tile in tile_grid(scene.height, scene.width, 96, 32):
            part, part_valid = scene.read(tile)
            here = slice(tile.row, tile.row + tile.height), slice(tile.col, tile.col + tile.width)
            assert np.abs(part.astype(int) - rgb[here]).max() <= 1
            assert (part_valid == valid[here]).all()
        row = ((np.arange(scene.height) + 0.5) * scene.scale_y).astype(int)
        col = ((np.arange(scene.width) + 0.5) * scene.scale_x).astype(int)
        expected = image[np.ix_(row, col)].astype(int)
        error = np.abs(rgb[..., 0] - expected)[valid]
        assert error.mean() < 2
        assert error.max() < 20  # nothing darkens where data end
        edge = int(np.argmax(valid.all(0))) * scene.scale_x
        assert edge == pytest.approx(100 if hole.any() else 0, abs=2 * max(1, scene.scale_x))


@pytest.mark.parametrize("gsd", [0.6, 0.95, 0.97, 0.99, 1.0, 1.94, 1.98, 2.02, 2.9])
def test_tiles_near_an_overviews_scale_agree(write_scene, gsd):
    """All tiles come from one overview: none for less than its scale, the coarsest fine enough otherwise."""
    image = pattern(331, 407)
    plain = write_scene("plain.tif", image, **TILED)
    path = write_scene("a.tif", image, **TILED)
    with rasterio.open(path, "r+") as ds:
        ds.build_overviews([2, 4], Resampling.nearest)  # unlike the scene, so that mixing shows
    with Scene.open(path, gsd=gsd) as scene, Scene.open(plain, gsd=gsd) as reference:
        full, _ = whole(scene)
        for tile in tile_grid(scene.height, scene.width, 32, 0):
            part = full[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
            assert (scene.read(tile)[0] == part).all()
        assert (whole(reference)[0] == full).all() == (gsd < 1)


def test_gsd_is_met_on_the_ground_along_each_axis(write_scene):
    transform = rasterio.Affine(1e-5, 0, 11, 0, -1e-5, 60.001)
    path = write_scene("a.tif", smooth(200, 300), crs="EPSG:4326", transform=transform)
    with Scene.open(path, gsd=1) as scene:
        assert scene.scale_x == pytest.approx(1 / 0.558, rel=0.01)
        assert scene.scale_y == pytest.approx(1 / 1.114, rel=0.01)
        assert scene.georef.gsd == pytest.approx((0.558, 1.114), rel=0.001)  # of the raster, not of the grid


def test_gsd_near_the_rasters_own_changes_nothing(write_scene):
    image = pattern(50, 60)
    with Scene.open(write_scene("a.tif", image), gsd=0.503) as scene:
        assert (scene.width, scene.height, scene.scale_x) == (60, 50, 1)
        assert (whole(scene)[0][..., 0] == image).all()


@pytest.mark.parametrize(
    ("crs", "gsd", "error", "words"),
    [
        (None, 1, GeoError, "leave out --gsd"),
        ("EPSG:32631", 0, ConfigError, "must be positive"),
        ("EPSG:32631", float("nan"), ConfigError, "must be positive"),
        ("EPSG:32631", 0.01, ConfigError, "too coarse"),
    ],
)
def test_impossible_gsd_is_refused(write_scene, crs, gsd, error, words):
    with pytest.raises(error, match=words) as caught:
        Scene.open(write_scene("a.tif", pattern(8, 8), crs=crs), gsd=gsd)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size", "side", "shape", "factor"),
    [
        ((300, 200), 100, (67, 100), 3),
        ((200, 300), 100, (100, 67), 3),
        ((300, 200), 1000, (200, 300), 1),
        ((900, 2), 30, (1, 30), 30),
    ],
)
def test_preview(write_scene, size, side, shape, factor):
    image = smooth(size[1], size[0])
    with Scene.open(write_scene("a.tif", image)) as scene:
        rgb, per_pixel = scene.preview(side)
    assert rgb.shape == (*shape, 3)
    assert per_pixel == factor
    assert abs(float(rgb.mean()) - image.mean()) < 3


@pytest.mark.parametrize(("width", "layout"), [(500, {}), (500, TILED), (5000, {})])  # 5000: one shared handle
def test_threads_read_the_same(write_scene, width, layout):
    image = pattern(3, 300, width)
    with Scene.open(write_scene("a.tif", image, **layout)) as scene, ThreadPoolExecutor(4) as pool:
        tiles = tile_grid(300, width, 128, 32) * 2
        for tile, (rgb, _) in zip(tiles, pool.map(scene.read, tiles), strict=True):
            part = image[:, tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
            assert (rgb == np.moveaxis(part, 0, 2)).all()


def test_a_closed_scene_opens_again(write_scene):
    scene = Scene.open(write_scene("a.tif", pattern(8, 8)))
    first = whole(scene)[0]
    scene.close()
    assert (whole(scene)[0] == first).all()
    scene.close()


def test_huge_scenes_are_read_by_windows(write_scene, tmp_path):
    path = tmp_path / "huge.tif"
    options = {"driver": "GTiff", "width": 200_000, "height": 200_000, "count": 3, "sparse_ok": True, "bigtiff": "YES"}
    with rasterio.open(
        path, "w", dtype="uint16", crs="EPSG:32631", transform=rasterio.Affine(1, 0, 5e5, 0, -1, 5e6), nodata=0,
        tiled=True, blockxsize=4096, blockysize=4096, **options,
    ) as ds:  # fmt: skip
        ds.write(pattern(3, 64, 64, dtype="uint16"), window=((150_000, 150_064), (90_000, 90_064)))
    with Scene.open(str(path), stretch="0:255") as scene:
        rgb, valid = scene.read(Tile(149_990, 89_990, 100, 100))
    assert valid.sum() == 64 * 64
    assert (rgb[10:74, 10:74] == np.moveaxis(pattern(3, 64, 64), 0, 2)).all()


@quiet
@pytest.mark.parametrize(
    ("crs", "transform", "words"),
    [
        (None, None, ["it has no georeference: results are in pixel coordinates"]),
        ("EPSG:32631", None, ["it has no georeference: results are in pixel coordinates"]),
        (
            None,
            rasterio.Affine(1, 0, 5, 0, -1, 5),
            ["it has no coordinate system: results are in its own map coordinates"],
        ),
        ("EPSG:32631", rasterio.Affine(1, 0, 5e5, 0, -1, 5e6), []),
    ],
)
def test_a_scene_without_place_warns_but_tells_nobody(write_scene, caplog, crs, transform, words):
    path = write_scene("a.tif", pattern(8, 8), crs=crs, transform=transform)
    with caplog.at_level(logging.WARNING), Scene.open(path) as scene:
        whole(scene)
    assert list(scene.warnings) == words
    assert caplog.records == []


def damaged(path, how):
    data = Path(path).read_bytes()
    if how == "text":
        Path(path).write_text("not a raster")
    elif how == "header":
        Path(path).write_bytes(data[:100])
    elif how == "cut":
        Path(path).write_bytes(data[: len(data) * 2 // 3])
    elif how == "gone":
        Path(path).unlink()
    elif how == "empty":
        Path(path).write_bytes(b"")


@pytest.mark.parametrize(
    ("how", "words"),
    [("text", "not a raster"), ("header", "raster"), ("empty", "not a raster"), ("gone", "no such file")],
)
def test_unreadable_files_are_refused_in_one_line(write_scene, how, words):
    path = write_scene("a.tif", pattern(3, 400, 400))
    damaged(path, how)
    with pytest.raises(DataError, match=words) as caught, Scene.open(path) as scene:
        whole(scene)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_fails_midway_names_the_place(write_scene):
    path = write_scene("a.tif", pattern(3, 400, 400), interleave="pixel", blockysize=8)
    damaged(path, "cut")
    with Scene.open(path) as scene:
        assert scene.read(Tile(0, 0, 100, 100))[1].all()
        with pytest.raises(
            DataError, match=r"a\.tif: cannot read rows 300-400, columns 10-110 .*fetch it again"
        ) as caught:
            scene.read(Tile(300, 10, 100, 100))
        assert "\n" not in str(caught.value)
        assert scene.read(Tile(0, 0, 100, 100))[1].all()
    with pytest.raises(DataError, match="cannot read rows 0-400"):
        Scene.open(path, stretch="2,98")


def test_urls_are_read_by_ranges(write_scene, web):
    image = pattern(3, 300, 300)
    write_scene("a.tif", image, **TILED)
    with Scene.open(f"{web.url}/a.tif") as scene:
        assert scene.name == "a.tif"
        assert (scene.read(Tile(100, 50, 120, 200))[0] == np.moveaxis(image[:, 100:220, 50:250], 0, 2)).all()
    with pytest.raises(DataError, match="404"):
        Scene.open(f"{web.url}/missing.tif")


@pytest.mark.parametrize("kind", ["http", "s3"])
def test_busy_servers_are_asked_again(write_scene, web, bucket, kind):
    images = np.random.default_rng(0).integers(0, 255, (24, 3, 600, 600), np.uint8)
    for number, image in enumerate(images):
        path = write_scene(f"{kind}{number}.tif", image, **TILED)
        bucket.put(f"{kind}{number}.tif", Path(path).read_bytes())
    ask, root = (web.busy.be, web.url) if kind == "http" else (bucket.busy, "s3://scenes")
    ask(0.3)
    for number, image in enumerate(images):
        with Scene.open(f"{root}/{kind}{number}.tif") as scene:
            assert (scene.read(Tile(0, 0, 600, 600))[0] == np.moveaxis(image, 0, 2)).all()
    assert sum(ask(0).values()) < 24 * 8


@pytest.mark.parametrize("gsd", [None, "double"])
def test_every_real_raster_is_read_or_refused(gsd):
    outcomes = {}
    for path in expand_scenes([str(REAL / "*"), str(REAL / "*.h5")]):
        name = Path(path).name
        try:
            with Scene.open(path) as scene:
                own = scene.georef.gsd
            if gsd and own is None:
                continue
            with Scene.open(path, gsd=2 * max(own) if gsd else None) as scene:
                rows, cols = -(-scene.height // 2), -(-scene.width // 2)
                tile = Tile(scene.height // 2, scene.width // 2, min(256, rows), min(256, cols))
                rgb, valid = scene.read(tile)
                preview, factor = scene.preview(256)
        except LegnetError as error:
            outcomes[name] = str(error)
            continue
        assert rgb.shape == (tile.height, tile.width, 3)
        assert valid.shape == rgb.shape[:2]
        assert max(preview.shape) <= 256
        assert factor >= 1
    expected = {"no_band.h5": "2 subdatasets", "two-subs.h5": "2 subdatasets"}
    assert {name: words in outcomes.pop(name) for name, words in expected.items()} == dict.fromkeys(expected, True)
    assert outcomes == {}
