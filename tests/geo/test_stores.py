"""Against an S3 server on the loopback."""

import sys

import pytest

from legnet_cli.errors import DataError, DependencyError
from legnet_cli.geo import stores
from legnet_cli.geo.inputs import expand_scenes, find_scenes, find_stamps

KEYS = [
    *("2026/a.tif", "2026/b.TIF", "2026/.hidden.tif", "2026/notes.md", "2026/c.dat", "2026/a.tif.ovr"),
    *("2026/05/d.tif", "2026/05/.thumbs/e.tif", "2026/odd[1].tif", "20260/f.tif"),
]


@pytest.fixture
def filled(bucket):
    for key in KEYS:
        bucket.put(key, key.encode())
    bucket.busy(0)
    return bucket


@pytest.mark.parametrize(
    ("arg", "expected"),
    [
        ("2026/", ["2026/a.tif", "2026/b.TIF", "2026/odd[1].tif"]),
        ("2026", ["2026/a.tif", "2026/b.TIF", "2026/odd[1].tif"]),
        ("2026/*.tif", ["2026/a.tif", "2026/odd[1].tif"]),
        ("2026/*", ["2026/a.tif", "2026/b.TIF", "2026/odd[1].tif"]),
        ("2026/*.dat", ["2026/c.dat"]),
        ("2026/**/*.tif", ["2026/05/d.tif", "2026/a.tif", "2026/odd[1].tif"]),
        ("**/d.tif", ["2026/05/d.tif"]),
        ("*/f*", ["20260/f.tif"]),
        ("2026/odd[1].tif", ["2026/odd[1].tif"]),  # a pattern, but also an object
        ("2026/c.dat", ["2026/c.dat"]),
        ("elsewhere.tif", ["elsewhere.tif"]),  # GDAL's to judge
    ],
)
@pytest.mark.parametrize("prefix", ["s3://", "/vsis3/"])
def test_folders_and_globs(filled, prefix, arg, expected):
    assert expand_scenes([f"{prefix}scenes/{arg}"]) == [f"/vsis3/scenes/{name}" for name in expected]


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ("s3://scenes/2027/", "no raster in this folder"),
        ("s3://scenes/2026/*.img", "no raster matches"),
        ("s3://other/2026/", r"cannot be listed \(.*404.*\): check the address"),
    ],
)
def test_what_names_no_raster(filled, arg, words):
    with pytest.raises(DataError, match=words) as caught:
        expand_scenes([arg])
    assert str(caught.value).startswith(arg)
    assert "\n" not in str(caught.value)


def test_a_busy_store_is_listed_whole_or_not_at_all(filled, monkeypatch):
    whole = expand_scenes(["s3://scenes/**/*.tif"])
    filled.busy(0.3)
    assert [expand_scenes(["s3://scenes/**/*.tif"]) for _ in range(24)] == [whole] * 24
    assert filled.busy(1)["GET"] > 24
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "1")
    stores.open_store.cache_clear()
    with pytest.raises(DataError, match="s3://scenes: cannot be listed"):
        expand_scenes(["s3://scenes/**/*.tif"])


def test_a_listing_has_the_stamps(filled):
    listed = find_stamps(find_scenes(["s3://scenes/2026/"]))
    assert filled.busy(0) == {"GET": 1}
    single = find_stamps(find_scenes(["s3://scenes/2026/a.tif", "s3://scenes/none.tif"]))
    assert filled.busy(0) == {"HEAD": 2}
    assert single == {"/vsis3/scenes/2026/a.tif": listed["/vsis3/scenes/2026/a.tif"], "/vsis3/scenes/none.tif": ""}
    filled.put("2026/a.tif", b"2026/A.tif")  # as long as before
    assert find_stamps(find_scenes(["s3://scenes/2026/a.tif"])) != {**single, "/vsis3/scenes/none.tif": ""}


def test_without_the_package_single_objects_can_still_be_named(filled, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert find_stamps(find_scenes(["s3://scenes/2026/a.tif"])) == {"/vsis3/scenes/2026/a.tif": ""}
    with pytest.raises(DependencyError, match=r"s3://scenes/2026/: .*obstore.*cloud"):
        expand_scenes(["s3://scenes/2026/"])


PROFILES = "[default]\naws_access_key_id = own\naws_secret_access_key = s1\n[work]\naws_access_key_id = job\n"


@pytest.mark.parametrize(
    ("scheme", "environment", "expected"),
    [
        ("s3", {}, {"access_key_id": "own", "secret_access_key": "s1", "region": "eu-west-1"}),
        ("s3", {"AWS_PROFILE": "work"}, {"access_key_id": "job", "region": "eu-north-1"}),
        ("s3", {"AWS_PROFILE": "none"}, {}),
        ("s3", {"AWS_ACCESS_KEY_ID": "key"}, {}),  # obstore's to read
        ("s3", {"AWS_NO_SIGN_REQUEST": "YES"}, {"skip_signature": "YES"}),
        (
            "s3",
            {"AWS_NO_SIGN_REQUEST": "YES", "AWS_S3_ENDPOINT": "h:1"},
            {"skip_signature": "YES", "endpoint": "https://h:1"},
        ),
        ("s3", {"AWS_ACCESS_KEY_ID": "k", "AWS_S3_ENDPOINT": "h", "AWS_HTTPS": "no"}, {"endpoint": "http://h"}),
        ("gs", {"GS_NO_SIGN_REQUEST": "YES"}, {"skip_signature": "YES"}),
        ("az", {"AZURE_STORAGE_ACCOUNT": "a"}, {"account_name": "a"}),
    ],
)
def test_settings_of_gdal(tmp_path, monkeypatch, scheme, environment, expected):
    (tmp_path / "credentials").write_text(PROFILES)
    (tmp_path / "config").write_text("[default]\nregion = eu-west-1\n[profile work]\nregion = eu-north-1\n")
    files = {"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}
    environment |= {name: str(tmp_path / file) for name, file in files.items()}
    assert stores._config(scheme, environment) == expected
