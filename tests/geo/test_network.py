"""How often servers are asked."""

import gc

import pytest
import rasterio

from legnet_cli.errors import DataError, reading
from legnet_cli.geo import network


@pytest.fixture
def file(tmp_path):
    (tmp_path / "a.txt").write_text("here")


def ask(url):
    with reading(url, "check"), network.open_url(url) as answer:
        return answer.read()


def test_a_busy_server_is_asked_again(file, web):
    web.busy.be(0.3)
    assert [ask(f"{web.url}/a.txt") for _ in range(24)] == [b"here"] * 24


@pytest.mark.parametrize(
    ("repeats", "share", "name", "requests"), [("2", 1, "a", 3), ("0", 1, "a", 1), ("5", 0, "b", 1)]
)
def test_not_for_ever(file, web, monkeypatch, repeats, share, name, requests):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", repeats)
    web.busy.be(share)
    with pytest.raises(DataError, match="503" if share else "404"):
        ask(f"{web.url}/{name}.txt")
    assert web.busy.be(0) == {"GET": requests}
    gc.collect()  # of a connection that was left open Python tells now, and pytest fails


@pytest.mark.parametrize("url", ["http://[", "http://127.0.0.1:1/a", "http://x y/", "nothing", "http://\u00e4\ud800/"])
def test_addresses_that_are_none(url):
    with pytest.raises(DataError):
        ask(url)


def test_the_environment_goes_first(monkeypatch):
    assert network.gdal_options(remote=True)["GDAL_HTTP_MAX_RETRY"] == network.retries() == 5
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "8")
    assert "GDAL_HTTP_MAX_RETRY" not in network.gdal_options(remote=True)
    assert network.retries() == 8
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "many")
    assert network.retries() == 5
    with rasterio.Env(**network.gdal_options(remote=True)):
        pass
