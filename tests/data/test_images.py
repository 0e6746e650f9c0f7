import pytest

from legnet_cli.data.images import find_images, holds_images
from legnet_cli.data.labels import strip_image_suffix


@pytest.mark.parametrize(
    ("file", "stem"),
    [("a.PNG", "a"), ("d/a.b.tif", "d/a.b"), ("scene.v2", "scene.v2"), ("a__b", "a__b"), (".png", ".png")],
)
def test_stems(file, stem):
    assert strip_image_suffix(file) == stem


def test_images_are_found_in_any_case_and_sorted(tmp_path):
    for name in ("b.PNG", "a.jpg", "c/d.TIFF", "c/notes.txt", ".hidden.png", ".d/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path) == ["a.jpg", "b.PNG", "c/d.TIFF"]
    assert holds_images(tmp_path)
    assert not holds_images(tmp_path / "c" / "nothing")
