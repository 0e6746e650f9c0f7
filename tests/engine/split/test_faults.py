"""Images, labels and settings that cannot be used are named, or left out where that is asked for."""

import struct
from pathlib import Path

import numpy as np
import pytest
from reviews import row, write_review
from splits import files, run, write_image

from legnet_cli.data.labels import LabelError
from legnet_cli.engine.split import SplitConfig, split
from legnet_cli.errors import ConfigError, DataError


@pytest.mark.parametrize("options", [{}, {"val_fraction": 0.3}, {"format": "tif"}])
def test_a_damaged_header_is_named_or_left_out(tmp_path, write_scene, options):
    for name in ("a", "b"):
        write_scene(f"src/images/{name}.tif", np.full((3, 150, 150), 9, np.uint8))
        (tmp_path / "src/labelTxt").mkdir(exist_ok=True)
        (tmp_path / f"src/labelTxt/{name}.txt").write_text("10 10 30 10 30 20 10 20 car 0\n")
    path = tmp_path / "src/images/b.tif"
    path.write_bytes(path.read_bytes().replace(struct.pack("<HH", 277, 3), struct.pack("<HH", 277, 99)))  # bands
    with pytest.raises(DataError, match=r"b\.tif: "):
        run(tmp_path / "src", tmp_path / "out", **options)
    result = run(tmp_path / "src", tmp_path / "out", skip_bad=True, overwrite=True, **options)
    assert [problem.place for problem in result.problems if problem.left_out] == [str(path)]
    assert {file.name[0] for file in (tmp_path / "out").rglob("*__*")} == {"a"}


def damage(dota):
    path = dota / "train" / "images" / "P1.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_damaged_image_is_named_or_left_out(tmp_path, dota):
    damage(dota)
    with pytest.raises(DataError, match=r"P1\.png: cannot read rows .* damaged"):
        run(dota, tmp_path / "out")
    result = run(dota, tmp_path / "out", skip_bad=True, overwrite=True)
    assert [p.place.endswith("P1.png") for p in result.problems if p.left_out] == [True]
    assert not [name for name in files(tmp_path / "out") if "P1__" in name]
    assert result.splits["train"].source == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 1 9 1 9 9 ship 0", "6 coordinates where 4 points have 8"),
        ("1 1 9 1 9 9 1 9 5 5 ship 0", "10 coordinates where 4 points have 8"),
        ("1 1 9 1 nan 9 1 9 ship 0", "not a finite number"),
        ("1 1 5 1 9 1 3 1 ship 0", "the area is zero"),
    ],
)
def test_faulty_labels(tmp_path, dota, line, message):
    path = dota / "train" / "labelTxt" / "P2.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, line, ""]))
    with pytest.raises(LabelError, match=rf"P2\.txt:{len(lines) + 1}: .*{message}"):
        run(dota, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    result = run(dota, tmp_path / "out", skip_bad=True)
    assert [message in str(problem) for problem in result.problems if problem.left_out] == [True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "train/labelTxt/P2.txt").unlink(), "no labels for 1 image, counted as empty: P2"),
        (lambda d: (d / "train/images/P2.png").unlink(), "no image for the labels of P2"),
        (lambda d: _append(d, "1 1 20 20 20 1 1 20 ship 0"), "sides of the quad cross"),
        (lambda d: _append(d, "900 900 920 900 920 920 900 920 ship 0"), "lies outside of its image"),
        (lambda d: _append(d, "1 1 9 1 9 9 1 9 Ship 0"), "did you mean"),
        (lambda d: _append(d, "-90 -90 150 -90 150 150 -90 150 ship 0"), "no tile has 0.7 of the area of"),
    ],
)
def test_doubtful_labels_are_told(tmp_path, dota, change, message):
    change(dota)
    result = run(dota, tmp_path / "out")
    assert any(message in str(problem) for problem in result.problems)


def _append(dota, line):
    with (dota / "train" / "labelTxt" / "P2.txt").open("a") as file:
        file.write(f"{line}\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 8, "overlap": 0}, "--tile 8 is out of range: give 32 or more"),
        ({"tile": 64, "overlap": 64}, "does not fit"),
        ({"scales": (0.0,)}, "--scale"),
        ({"scales": ()}, "--scale"),
        ({"truncated": "cut"}, "--truncated cut: choose from keep, drop, recut"),
        ({"format": "jpg"}, "choose from png, tif"),
        ({"background": 1.5}, "--background 1.5"),
        ({"val_fraction": 1.0}, "--val-fraction 1.0"),
        ({"workers": 0}, "--workers 0"),
        ({"format": "tif", "stretch": "0,1"}, "tif keeps all values"),
        ({"format": "tif", "bands": (1,)}, "tif keeps all bands"),
    ],
)
def test_settings_are_checked_first(options, message):
    with pytest.raises(ConfigError, match=message):
        SplitConfig(Path("a"), Path("b"), **options)


def test_no_tile_to_cut_is_told_with_its_reason(tmp_path):
    """A review that nobody has worked on, ground that is all ignored, and empty tiles that are not wanted."""
    write_image(tmp_path / "in/images/a.png", (100, 100))
    review = write_review(tmp_path / "review.gpkg", [row("r1", "todo", (50, 50)), row("r2", "todo", (60, 50))])
    with pytest.raises(DataError, match=r"review\.gpkg: no square is reviewed yet .*open it in QGIS and set"):
        run(tmp_path / "in", tmp_path / "out", labels=str(review))
    labels = tmp_path / "in/labelTxt/a.txt"
    labels.parent.mkdir()
    labels.write_text("0 0 100 0 100 100 0 100 ignored 0\n")
    with pytest.raises(DataError, match="in: all ground is ignored"):
        run(tmp_path / "in", tmp_path / "out")
    labels.write_text("")
    with pytest.raises(DataError, match=r"in: no tile holds an object: .*--background 1"):
        run(tmp_path / "in", tmp_path / "out", background=0.0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"gsd": 0.5, "format": "tif"}, ConfigError, "--gsd is for --format png"),
        ({"gsd": 0.0}, ConfigError, "--gsd 0.0: give metres per pixel"),
        ({"gsd": 0.02}, ConfigError, "too coarse for --gsd 0.02"),
        ({"gsd": 0.5}, DataError, "T1.png: its ground sampling distance is unknown: leave out --gsd"),
    ],
)
def test_a_scale_that_cannot_be_had(dota, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        run(dota, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [((1 << 31) - 1, 1), ((1 << 31) - 1, (1 << 31) - 1)])
def test_a_header_of_an_image_that_cannot_be(tmp_path, size):
    """Told before any tile is planned."""
    (tmp_path / "in").mkdir()
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", *size) + b"\x08\0\0\0\0"
    (tmp_path / "in" / "a.png").write_bytes(png + bytes(64))
    (tmp_path / "in" / "a.txt").write_text("1 1 9 1 9 9 1 9 ship 0\n")
    with pytest.raises(DataError, match=r"a\.png: its header says 2,147,483,647 × [0-9,]+ pixels"):
        split(SplitConfig(tmp_path / "in", tmp_path / "out", tile=64, overlap=0))
