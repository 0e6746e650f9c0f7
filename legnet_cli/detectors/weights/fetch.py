"""Weight files by name, path or URL; named ones are fetched once from the authors' releases to the user's cache.

A download resumes where it stopped, is checked against the length the server states and only then takes its name.
The SHA-256 of the first use is recorded beside the file and checked at every later one: the authors publish none.
"""

from __future__ import annotations

import contextlib
import hashlib
import http
import http.client
import logging
import os
import re
import ssl
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import quote, urlsplit

import platformdirs

from legnet_cli import __version__
from legnet_cli.detectors.weights.recipes import RECIPES
from legnet_cli.errors import CheckpointError, DataError
from legnet_cli.files import atomic_path
from legnet_cli.untrusted import open_file, read_text

logger = logging.getLogger(__name__)

DownloadProgress = Callable[[int, int | None], None]  # bytes so far, bytes in all if known

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 20
MOST_BYTES = 1 << 35  # of a weight file
_LONGEST_NAME = 100  # letters; file systems allow 255 bytes


# comes with the package, so that everything can be tried at once
EMBEDDED = "legnet-nano"
BEST = "best.safetensors"  # of a training run


@dataclass(frozen=True)
class WeightFile:
    """A file of the authors' releases.

    Attributes:
        url: where it is.
        backbone_only: holds ImageNet weights of a backbone, not a detector.
        licence: as the authors state it.
    """

    url: str
    backbone_only: bool = False
    licence: str = "CC BY-NC 4.0"


def _release(repository: str, file: str) -> WeightFile:
    url = f"https://github.com/{repository}/releases/download/{file}"
    return WeightFile(url, backbone_only=file.startswith("pre-train/"))


WEIGHTS = {
    # "dota19" is the authors' spelling: these are DOTA-v1.0 weights
    "legnet-tiny-dota10": _release("lwCVer/LEGNet", "weights/lwegnet_tiny_orcnn_dota19_ss.pth"),
    "legnet-small-dota10": _release("lwCVer/LEGNet", "weights/lwegnet_small_orcnn_dota10_ss.pth"),
    "legnet-small-dota15": _release("lwCVer/LEGNet", "weights/lwegnet_small_orcnn_dota15_ss.pth"),
    "legnet-tiny-imagenet": _release("lwCVer/LEGNet", "pre-train/LWEGNet_tiny.pth"),
    "legnet-small-imagenet": _release("lwCVer/LEGNet", "pre-train/LWEGNet_small.pth"),
    "unravelnet-tiny-imagenet": _release("AeroVILab-AHU/LEGNet", "pre-train/unravelnet_tiny.pth"),
    "unravelnet-small-imagenet": _release("AeroVILab-AHU/LEGNet", "pre-train/unravelnet_small.pth"),
}


def cache_dir() -> Path:
    """Folder of downloaded weights: ``$LEGNET_CACHE``, else the system's cache folder of this user."""
    return Path(os.environ.get("LEGNET_CACHE") or platformdirs.user_cache_path("legnet"))


def fetch(source: str | Path, progress: DownloadProgress | None = None) -> Path:
    """The local file of ``source``: ``EMBEDDED``, a name in ``WEIGHTS``, an http(s) URL,
    or a path, which is returned as it is.

    Args:
        source: what to get; the folder of a training run stands for its best weights.
        progress: told the bytes so far and in all (None if unknown) while a file is downloaded.

    Raises:
        CheckpointError: if there is no such file, it cannot be fetched, or it changed since its first use.
    """
    text = str(source)
    if text == EMBEDDED:
        return Path(__file__).parents[2] / "weights" / f"{EMBEDDED}.safetensors"
    if text in WEIGHTS:
        url, name = WEIGHTS[text].url, f"{text}.pth"
    elif "://" in text:
        url, name = text, _cache_name(text)
    else:
        return _local(Path(source))
    target = cache_dir() / name
    if url.lower().startswith("http://"):
        logger.warning("%s: http is not encrypted: the file can be changed on the way; use https", url)
    if not target.exists():
        _download(url, target, progress or (lambda done, total: None))
        if text in WEIGHTS:
            logger.info("%s: weights of the authors, %s: non-commercial use only", text, WEIGHTS[text].licence)
    _check_hash(target)
    return target


def _local(path: Path) -> Path:
    """A weight file, be it the best one of a training run's folder."""
    if os.path.isfile(path):  # False for a name that is too long, too
        return path
    if os.path.isdir(path):
        if (best := path / BEST).is_file():
            return best
        raise CheckpointError(f"{path}: folder without {BEST}: name a weight file or the folder of a training run")
    if os.path.exists(path):
        raise CheckpointError(f"{path}: is not a regular file: name a weight file")
    text, names = str(path), [EMBEDDED, *WEIGHTS]
    if text in RECIPES:
        made = RECIPES[text].weights
        named = f"its published weights are {made}" if made else "legnet train makes weights of it"
        raise CheckpointError(f"{text}: is a recipe, not weights: {named}")
    close = get_close_matches(text, names, 1)
    hint = f"did you mean {close[0]}?" if close else f"names are {', '.join(names)}"
    raise CheckpointError(f"{text}: no such file, and no weights of that name: {hint}")


def _cache_name(url: str) -> str:
    """A file name for ``url``: the end of its own last part, made unique."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        known = False
    if not known or not url.isprintable():
        shown = ascii(url)[1:-1] if not url.isprintable() else url
        raise CheckpointError(f"{shown:.200}: only http and https addresses can be fetched: check it")
    name = re.sub(r"[^\w.-]", "_", parts.path.rsplit("/", 1)[-1], flags=re.ASCII)[-_LONGEST_NAME:] or "weights"
    return f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"


def _download(url: str, target: Path, progress: DownloadProgress) -> None:
    """Fetch ``url`` into ``target``, going on with what an earlier try left.

    The unfinished file first takes a name of its own: two downloads at once never write to one file.
    """
    by_hand = f"download {url} yourself and save it as {target}"
    kept, mine = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _move(kept, mine)
        try:
            _transfer(url, mine, progress)
            os.replace(mine, target)
            _validator(mine).unlink(missing_ok=True)
        finally:
            _move(mine, kept)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        words = " ".join(str(error.reason).split())
        raise CheckpointError(f"{url}: the server answers {error.code} {words}; {by_hand}") from None
    except OSError as error:
        if not isinstance(error, (urllib.error.URLError, ssl.SSLError, ConnectionError, TimeoutError)):
            fault = f"{target}: cannot be written ({error.strerror})"
            raise CheckpointError(f"{fault}; set LEGNET_CACHE elsewhere") from None
        raise _unfetched(url, getattr(error, "reason", error), by_hand) from None
    except (http.client.HTTPException, ValueError) as error:  # an answer or a redirection that makes no sense
        raise _unfetched(url, error, by_hand) from None


def _unfetched(url: str, error: object, by_hand: str) -> CheckpointError:
    words = " ".join(str(error).split())[:200]
    return CheckpointError(f"{url}: cannot be fetched ({words}); run again to continue, or {by_hand}")


def _transfer(url: str, part: Path, progress: DownloadProgress) -> None:
    """Append to ``part`` what it lacks of ``url``, or all of it where the server cannot or the file has changed."""
    validator = _read_note(_validator(part))
    start = part.stat().st_size if validator and part.exists() else 0
    headers = {"User-Agent": f"legnet/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    try:
        response = _opener().open(urllib.request.Request(_as_ascii(url), headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        error.close()
        part.unlink()  # nothing to add to it: it is no part of the file
        return _transfer(url, part, progress)
    with response:
        if response.headers.get_content_type() == "text/html":
            raise ConnectionError("the server sent a web page")
        if not str(response.headers["Content-Range"]).startswith(f"bytes {start}-"):
            start = 0
        total = _total(response.headers["Content-Length"], start)
        etag = response.headers["ETag"] or ""
        # a weak tag must not vouch for a byte range (RFC 9110, 13.1.5)
        _validator(part).write_text(response.headers["Last-Modified"] or "" if etag[:2] in ("", "W/") else etag)
        done = _receive(response, part, start, total, progress)
    if total not in (None, done):
        raise ConnectionError(f"{done} of {total} bytes arrived")


def _as_ascii(url: str) -> str:
    """``url`` with other letters escaped, as servers want it."""
    parts = urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    return parts._replace(
        netloc=host,
        path=quote(parts.path, safe="/%:@!$&'()*+,;=~"),
        query=quote(parts.query, safe="/?%:@!$&'()*+,;=~"),
        fragment="",
    ).geturl()


def _total(length: str | None, start: int) -> int | None:
    """Bytes of the whole file, by what the server states of the rest; None if it states nothing.

    Raises:
        ConnectionError: it states nonsense, or more than any weights have.
    """
    if not length:
        return None
    if not re.fullmatch("[0-9]{1,19}", length) or start + int(length) > MOST_BYTES:
        raise ConnectionError(f"the server states a length of {length[:40]!r} bytes")
    return start + int(length)


def _read_note(path: Path) -> str:
    """The line in a small file beside weights; empty if there is none, or it is damaged."""
    try:
        text = read_text(path, 1 << 12).strip()
    except (OSError, ValueError):
        return ""
    return text if text.isprintable() else ""


def _receive(
    response: http.client.HTTPResponse, part: Path, done: int, total: int | None, progress: DownloadProgress
) -> int:
    """Write the body at the end of the first ``done`` bytes of ``part``; bytes there are then."""
    with part.open("ab" if done else "wb") as file:
        progress(done, total)
        while chunk := response.read(CHUNK):
            file.write(chunk)
            done += len(chunk)
            if done > MOST_BYTES:
                raise ConnectionError(f"the server sent over {MOST_BYTES >> 30} GiB")
            progress(done, total)
    return done


def _opener() -> urllib.request.OpenerDirector:
    """HTTP(S) alone, redirects included: the default opener would follow to file: and ftp: too."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _validator(part: Path) -> Path:
    """Where the tag of the version that ``part`` belongs to is kept."""
    return part.with_name(f"{part.name}.etag")


def _move(source: Path, target: Path) -> None:
    """Rename an unfinished file with its tag, if there is one (and no other process was faster)."""
    for old, new in ((source, target), (_validator(source), _validator(target))):
        with contextlib.suppress(FileNotFoundError):
            os.replace(old, new)


def _check_hash(file: Path) -> None:
    """Compare ``file`` with the SHA-256 recorded beside it, or record it."""
    if not file.is_file():
        raise CheckpointError(f"{file}: is not a file: delete it to fetch the weights again")
    digest = sha256(file)
    record = file.with_name(f"{file.name}.sha256")
    known = _read_note(record).split()[:1]
    if not record.exists():
        with contextlib.suppress(DataError), atomic_path(record) as scratch:  # a read-only cache serves too
            scratch.write_text(f"{digest}  {file.name}\n")
    elif not known or not re.fullmatch("[0-9a-f]{64}", known[0]):
        raise CheckpointError(f"{record}: is damaged: delete it if you trust {file.name}, and both if not")
    elif known != [digest]:
        raise CheckpointError(f"{file}: changed since its first use: delete it and {record.name} to fetch it again")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
