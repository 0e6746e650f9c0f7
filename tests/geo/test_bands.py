"""Bands, palettes and missing data, as a scene shows them."""

import itertools

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp as C
from rasterio.shutil import copy

from legnet_cli.errors import ConfigError, DataError
from legnet_cli.geo.raster import Scene
from legnet_cli.geo.stretch import NEUTRAL
from legnet_cli.tiles import Tile


def pattern(*shape, dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)


def edit(path, **attributes):
    with rasterio.open(path, "r+") as ds:
        for name, value in attributes.items():
            setattr(ds, name, value)
    return path


def whole(scene):
    return scene.read(Tile(0, 0, scene.height, scene.width))


@pytest.mark.parametrize(
    ("count", "colours", "bands", "expected"),
    [
        (1, None, None, (1, 1, 1)),
        (2, (C.gray, C.undefined), None, (1, 1, 1)),
        (3, None, None, (1, 2, 3)),
        (3, (C.gray, C.undefined, C.undefined), None, (1, 2, 3)),
        (3, (C.blue, C.green, C.red), None, (3, 2, 1)),
        (4, (C.undefined, C.red, C.green, C.blue), None, (2, 3, 4)),
        (4, (C.gray, C.undefined, C.undefined, C.undefined), None, (1, 2, 3)),
        (3, None, (2,), (2, 2, 2)),
        (4, (C.red, C.green, C.blue, C.undefined), (4, 1, 2), (4, 1, 2)),
        (3, None, (1, 1, 3), (1, 1, 3)),
    ],
)
def test_bands_become_rgb(write_scene, count, colours, bands, expected):
    image = pattern(count, 40, 50)
    path = write_scene("a.tif", image, **({"photometric": "RGB"} if count == 3 and not colours else {}))
    if colours:
        edit(path, colorinterp=colours)
    with Scene.open(path, bands=bands) as scene:
        rgb, valid = scene.read(Tile(5, 7, 20, 30))
    assert (rgb == np.stack([image[i - 1, 5:25, 7:37] for i in expected], 2)).all()
    assert rgb.dtype == np.uint8
    assert valid.all()
    assert valid.shape == (20, 30)


def test_many_bands_without_colours_give_a_warning(write_scene):
    path = edit(write_scene("a.tif", pattern(5, 8, 8)), colorinterp=[C.gray] + [C.undefined] * 4)
    with Scene.open(path) as scene:
        assert scene.warnings[0] == (
            "none of its 5 bands is marked as a colour; bands 1, 2, 3 are taken as red, green, blue "
            "(choose with --bands)"
        )
    with Scene.open(path, bands=(3, 2, 1)) as scene:
        assert not [warning for warning in scene.warnings if "bands" in warning]


@pytest.mark.parametrize(
    ("bands", "words"),
    [
        ((4,), "no band 4: give --bands from 1 to 3"),
        ((0,), "no band 0"),
        ((1, 2), "one band or three"),
        ((), "one band"),
    ],
)
def test_wrong_bands_are_refused(write_scene, bands, words):
    with pytest.raises(ConfigError, match=words):
        Scene.open(write_scene("a.tif", pattern(3, 8, 8)), bands=bands)


def test_palette_is_expanded(write_scene):
    image = np.array([[0, 1], [2, 3]], np.uint8)
    path = write_scene("a.tif", image, photometric="palette")
    colours = {0: (1, 2, 3, 255), 1: (200, 100, 50, 255), 2: (9, 9, 9, 0), 3: (0, 0, 255, 128)}
    with rasterio.open(path, "r+") as ds:
        ds.write_colormap(1, colours)
        ds.colorinterp = [C.palette]
    with Scene.open(path) as scene:
        rgb, valid = whole(scene)
        preview, _ = scene.preview(2)
    # TIFF palettes have no alpha; a PNG-like one comes through a VRT
    assert rgb.tolist() == [[[1, 2, 3], [200, 100, 50]], [[9, 9, 9], [0, 0, 255]]]
    assert valid.all()
    assert (preview == rgb).all()


def test_transparent_palette_entries_are_no_data(write_scene, tmp_path):
    path = write_scene("a.tif", np.array([[0, 1], [2, 1]], np.uint8))
    entries = "".join(f'<Entry c1="{i}" c2="5" c3="6" c4="{255 if i else 0}"/>' for i in range(3))
    vrt = tmp_path / "a.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="2" rasterYSize="2"><VRTRasterBand dataType="Byte" band="1">'
        f"<ColorInterp>Palette</ColorInterp><ColorTable>{entries}</ColorTable>"
        f"<SimpleSource><SourceFilename>{path}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with Scene.open(str(vrt)) as scene:
        rgb, valid = whole(scene)
    assert valid.tolist() == [[False, True], [True, True]]
    assert rgb.tolist() == [[list(NEUTRAL), [1, 5, 6]], [[2, 5, 6], [1, 5, 6]]]


@pytest.mark.parametrize(
    ("how", "dtype"),
    [
        *itertools.product(["alpha", "grey-alpha", "mask", "external-mask", "nodata"], ["uint8", "uint16", "float32"]),
        *itertools.product(["nan", "nan-nodata", "huge"], ["float32", "float64"]),
    ],
)
def test_pixels_without_data_are_marked_and_neutral(write_scene, how, dtype):
    image = pattern(3, 60, 80, dtype=dtype)
    hole = np.zeros((60, 80), bool)
    hole[:, :20] = hole[30, 40] = True
    options = {"photometric": "RGB"}
    if "alpha" in how:
        image = image[: 1 if how == "grey-alpha" else 3]
        image = np.concatenate([image, np.where(hole, 0, 255).astype(dtype)[None]])
        options = {"alpha": "YES"} if how == "grey-alpha" else {"photometric": "RGB", "alpha": "YES"}
    elif how == "nodata":
        image[:, hole] = 0
        image[0, 50, 50] = 0  # one band's zero is a colour
        options["nodata"] = 0
    elif "mask" not in how:
        image[:, hole] = -3.4028235e38 if how == "huge" else np.nan
        options |= {"nodata": np.nan} if how == "nan-nodata" else {}
    path = write_scene("a.tif", image, **options)
    if "mask" in how:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=how == "mask"), rasterio.open(path, "r+") as ds:
            ds.write_mask(~hole)
    with Scene.open(path) as scene:
        rgb, valid = whole(scene)
        tile_rgb, tile_valid = scene.read(Tile(10, 15, 30, 40))
        preview, _ = scene.preview(40)
    assert (valid == ~hole).all()
    assert (rgb[hole] == NEUTRAL).all()
    assert len(np.unique(rgb[~hole])) > 100
    assert (tile_rgb == rgb[10:40, 15:55]).all()
    assert (tile_valid == valid[10:40, 15:55]).all()
    assert (preview[:, :9] == NEUTRAL).all()


@pytest.mark.parametrize(
    ("dtype", "nodata", "share"),
    [
        ("uint8", -9999, 1), ("uint8", 256, 1), ("int16", 65535, 1), ("uint8", 0.5, 1), ("uint16", "nan", 1),
        ("uint8", 5, 0.75), ("int16", 5, 0.75), ("float64", 5, 0.75),
    ],
)  # fmt: skip
def test_nodata_only_marks_values_equal_to_it(write_scene, tmp_path, dtype, nodata, share):
    path = write_scene("a.tif", np.array([[5, 6], [7, 8]], dtype))
    vrt = tmp_path / "a.vrt"
    with rasterio.open(path) as ds:
        copy(ds, vrt, driver="VRT")
    text = vrt.read_text().replace("<ColorInterp>", f"<NoDataValue>{nodata}</NoDataValue><ColorInterp>")
    vrt.write_text(text)
    with Scene.open(str(vrt)) as scene:
        assert whole(scene)[1].mean() == share


def test_alpha_after_five_bands(write_scene):
    image = pattern(6, 8, 8)
    image[5] = np.eye(8) * 255
    path = edit(write_scene("a.tif", image), colorinterp=[C.red, C.green, C.blue, C.undefined, C.undefined, C.alpha])
    with Scene.open(path) as scene:
        assert (whole(scene)[1] == np.eye(8, dtype=bool)).all()


def test_bands_of_different_types(write_scene, tmp_path):
    paths = [
        write_scene(f"{t}.tif", pattern(8, 8, dtype=t, seed=i)) for i, t in enumerate(["uint8", "int16", "float32"])
    ]
    vrt = tmp_path / "a.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="8" rasterYSize="8">'
        + "".join(
            f'<VRTRasterBand dataType="{kind}" band="{i}"><SimpleSource><SourceFilename>{path}</SourceFilename>'
            "</SimpleSource></VRTRasterBand>"
            for i, (kind, path) in enumerate(zip(["Byte", "Int16", "Float32"], paths, strict=True), 1)
        )
        + "</VRTDataset>"
    )
    with Scene.open(str(vrt), stretch="none") as scene:
        rgb, _ = whole(scene)
    for i, t in enumerate(["uint8", "int16", "float32"]):
        assert (rgb[..., i] == pattern(8, 8, dtype=t, seed=i)).all()


def test_a_palette_is_not_mixed_when_resampled(write_scene):
    path = write_scene("a.tif", np.tile(np.array([[0, 200]], np.uint8), (40, 20)), photometric="palette")
    with rasterio.open(path, "r+") as ds:
        ds.write_colormap(1, {i: (i, 0, 255 - i) for i in range(256)})
    with Scene.open(path, gsd=0.8) as scene:
        colours = np.unique(whole(scene)[0].reshape(-1, 3), axis=0)
    assert {tuple(c) for c in colours.tolist()} <= {(0, 0, 255), (200, 0, 55)}


def test_complex_values_are_refused(write_scene):
    with pytest.raises(DataError, match="complex numbers"):
        Scene.open(write_scene("a.tif", np.ones((4, 4), np.complex64)))
