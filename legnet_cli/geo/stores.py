"""Object stores: what lies in them, the size and ETag of each object, and files that are put there.

GDAL reads the pixels. It could list as well, but what it hands to Python has no ETags, and where a request fails its
list just ends: some scenes would be left out without a word. Of writing, Python gets nothing of it.

The settings are those of GDAL and of each cloud: ``AWS_…``, ``~/.aws``, ``GOOGLE_…``, ``AZURE_…``.
"""

from __future__ import annotations

import configparser
import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from legnet_cli.errors import DependencyError, reading
from legnet_cli.geo import network
from legnet_cli.installation import install_line

SCHEMES = ("s3", "gs", "az")

_ADVICE = "check the address, and the region and credentials in the environment"
# settings of obstore by GDAL's variables, where these are not its own
_SETTINGS = {
    "s3": {"skip_signature": "AWS_NO_SIGN_REQUEST"},
    "gs": {"skip_signature": "GS_NO_SIGN_REQUEST"},
    "az": {"skip_signature": "AZURE_NO_SIGN_REQUEST", "account_name": "AZURE_STORAGE_ACCOUNT"},
}
_PROFILE = {
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
    "region": "region",
}


@dataclass(frozen=True)
class StoredObject:
    """An object of a store.

    Attributes:
        url: its address, as ``s3://bucket/key``.
        stamp: size, and ETag or time of the last change.
    """

    url: str
    stamp: str


def check_installed(url: str) -> None:
    """Refuse work on a store whose package is missing.

    Raises:
        DependencyError: obstore is not installed.
    """
    if not _installed():
        raise DependencyError(f"{url}: object stores need obstore: run `{install_line('cloud')}`")


def list_objects(url: str, *, recursive: bool = False) -> Iterator[StoredObject]:
    """Objects of the folder ``url`` in a store, those directly inside or all below, in no defined order.

    Raises:
        DataError: they cannot be listed.
        DependencyError: obstore is not installed.
    """
    check_installed(url)
    import obstore

    base, folder = _split(url)
    with reading(url, _ADVICE, "cannot be listed"):
        store = open_store(base)
        pages: Any = obstore.list(store, folder) if recursive else [_directly_in(store, folder)]
        for page in pages:
            for meta in page:
                yield StoredObject(f"{base}/{meta['path']}", _stamp(meta))


def object_stamp(url: str) -> str:
    """Size and ETag of an object; empty if the store does not tell, or obstore is not installed."""
    if not _installed():
        return ""
    import obstore

    base, key = _split(url)
    try:
        return _stamp(obstore.head(open_store(base), key))
    except Exception:  # of Rust; whether the scene can be read is GDAL's to say
        return ""


def exists(url: str) -> bool:
    """Whether there is an object of that name.

    Raises:
        DataError: the store does not tell.
        DependencyError: obstore is not installed.
    """
    check_installed(url)
    import obstore
    from obstore.exceptions import NotFoundError

    base, key = _split(url)
    with reading(url, _ADVICE, "cannot be reached"):
        try:
            obstore.head(open_store(base), key)
        except (NotFoundError, FileNotFoundError):
            return False
    return True


def upload(path: Path, url: str) -> None:
    """Put a file into a store, where it appears as a whole and takes the place of any object of that name.

    Raises:
        DataError: it cannot be written.
        DependencyError: obstore is not installed.
    """
    check_installed(url)
    import obstore

    base, key = _split(url)
    with reading(
        url, "check the rights, the region and credentials in the environment, and repeat", "cannot be written"
    ):
        obstore.put(open_store(base), key, path)


@functools.cache
def open_store(base: str) -> Any:  # noqa: ANN401 - a class for each cloud
    """The store of a bucket or container, ``s3://bucket``, as obstore takes it."""
    from obstore.store import from_url

    wait = timedelta(seconds=network.retry_delay())
    config = _config(urlsplit(base).scheme, os.environ)
    return from_url(
        base,
        config=cast("Any", config),
        client_options={"allow_http": config.get("endpoint", "").startswith("http:")},
        retry_config={
            "max_retries": network.retries(),
            "retry_timeout": timedelta(minutes=5),
            "backoff": {"init_backoff": wait, "max_backoff": wait * 32, "base": 2},
        },
    )


def _config(scheme: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Settings that obstore does not read from the environment by itself."""
    config = {own: environment[name] for own, name in _SETTINGS[scheme].items() if environment.get(name)}
    if scheme != "s3":
        return config
    if endpoint := environment.get("AWS_S3_ENDPOINT"):
        plain = environment.get("AWS_HTTPS", "YES").upper() in ("NO", "FALSE", "OFF", "0")
        config["endpoint"] = endpoint if "://" in endpoint else f"{'http' if plain else 'https'}://{endpoint}"
    if "AWS_ACCESS_KEY_ID" not in environment and "skip_signature" not in config:
        config = {**_profile(environment), **config}
    return config


def _profile(environment: Mapping[str, str]) -> dict[str, str]:
    """Keys and region of the user's profile, from the files of the AWS command line."""
    home = Path.home() / ".aws"
    name = environment.get("AWS_PROFILE", "default")
    files = configparser.ConfigParser(interpolation=None)
    with reading(home, "correct the file"):
        files.read(
            [
                environment.get("AWS_CONFIG_FILE", home / "config"),
                environment.get("AWS_SHARED_CREDENTIALS_FILE", home / "credentials"),
            ]
        )
    values = {**files[f"profile {name}"]} if files.has_section(f"profile {name}") else {}
    values |= {**files[name]} if files.has_section(name) else {}
    return {own: values[key] for own, key in _PROFILE.items() if key in values}


def _directly_in(store: Any, folder: str) -> Any:  # noqa: ANN401 - obstore's
    import obstore

    return obstore.list_with_delimiter(store, folder)["objects"]


def _split(url: str) -> tuple[str, str]:
    """Bucket, with its scheme, and key."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key.rstrip("/")


def _stamp(meta: Mapping[str, Any]) -> str:
    return f"{meta['size']} {meta['e_tag'] or meta['last_modified'].isoformat()}"


def _installed() -> bool:
    try:
        import obstore  # noqa: F401
    except ImportError:
        return False
    return True
