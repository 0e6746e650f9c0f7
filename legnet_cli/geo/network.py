"""Reading over networks: how often a request is repeated, for GDAL, for object stores and for plain HTTP alike.

A server that is busy (429, 5xx) or drops the connection is asked again five times, after half a second, then twice as
long each time. GDAL's own variables (``GDAL_HTTP_MAX_RETRY=8``) change that for all three.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

_GDAL: dict[str, object] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no listing of the server's folder for sidecars
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,  # most headers in one request
    "GDAL_HTTP_MAX_RETRY": 5,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 20,
    "GDAL_HTTP_LOW_SPEED_TIME": 60,  # a transfer that stands still for so long is begun anew
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    "GDAL_HTTP_MULTIPLEX": "YES",  # several ranges over one connection, where the server speaks HTTP/2
    "VSI_CACHE": True,  # neighbouring tiles share blocks
}
_OFFLINE: dict[str, object] = {
    # no name of a file on a network is this one
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
    # what asks by other ways than as a file system, gets no farther than to the port called discard
    "GDAL_HTTP_PROXY": "127.0.0.1:9",
    "GDAL_HTTP_MAX_RETRY": 0,
}
_BUSY = {429, 500, 502, 503, 504}
_TIMEOUT = 30.0  # seconds without a byte


def gdal_options(*, remote: bool) -> dict[str, object]:
    """GDAL's options to read over a network with, where what the environment sets is left to it; or to ask none."""
    if not remote:
        return dict(_OFFLINE)
    return {name: value for name, value in _GDAL.items() if name not in os.environ}


def retries() -> int:
    """How often a request is repeated."""
    return int(_number("GDAL_HTTP_MAX_RETRY"))


def retry_delay() -> float:
    """Seconds before the first repetition; each further one waits twice as long."""
    return _number("GDAL_HTTP_RETRY_DELAY")


def _number(name: str) -> float:
    try:
        return float(os.environ[name])
    except (KeyError, ValueError):
        return float(str(_GDAL[name]))


def open_url(url: str, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
    """The answer to a GET request, to be closed by the caller.

    Raises:
        Exception: of urllib, of many kinds; to be called inside :func:`legnet_cli.errors.reading`.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "legnet", **(headers or {})})
    for attempt in range(retries() + 1):
        try:
            answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT)
            return answer
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it holds the connection
            if attempt == retries() or not _may_pass(error):
                raise
            time.sleep(retry_delay() * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _may_pass(error: Exception) -> bool:
    """Whether a request may succeed when it is repeated."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _BUSY
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(cause, (TimeoutError, ConnectionResetError, http.client.IncompleteRead))
