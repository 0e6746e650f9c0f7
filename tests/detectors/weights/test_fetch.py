"""Downloads, against a server on this machine."""

import hashlib
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from legnet_cli.detectors.weights import fetch as module
from legnet_cli.detectors.weights.fetch import WEIGHTS, WeightFile, cache_dir, fetch
from legnet_cli.errors import CheckpointError

BODY = bytes(range(256)) * 4000


@dataclass
class Server:
    """A file server whose manners a test sets."""

    url: str = ""
    body: bytes = BODY
    etag: str | None = '"v1"'
    ranges: bool = True
    stop_after: int | None = None
    length: bool | str = True
    content_type: str = "application/octet-stream"
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("LEGNET_CACHE", str(tmp_path / "cache"))
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append((self.path, dict(self.headers)))
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/moved="))
                self.end_headers()
                return
            if self.path == "/none":
                self.send_error(404)
                return
            asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            fresh = self.headers.get("If-Range") in (None, state.etag)
            start = int(asked[1]) if asked and state.ranges and fresh else 0
            if start >= len(state.body):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}")
            self.send_header("Content-Type", state.content_type)
            if state.etag:
                self.send_header("ETag", state.etag)
            if state.length:
                stated = state.length if isinstance(state.length, str) else str(len(state.body) - start)
                self.send_header("Content-Length", stated)
            self.end_headers()
            self.wfile.write(state.body[start : state.stop_after])

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up here
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}"
        monkeypatch.setitem(WEIGHTS, "test-model", WeightFile(f"{state.url}/w.pth"))
        yield state
        http.shutdown()
        thread.join()


def interrupted(server: Server, at: int = 300_000) -> None:
    """Leave an unfinished download of the first ``at`` bytes behind."""
    server.stop_after = at
    with pytest.raises(CheckpointError, match=rf"{at} of {len(server.body)} bytes arrived.*run again"):
        fetch("test-model")
    server.stop_after = None
    assert [p.name for p in cache_dir().glob("*.pth")] == []


def test_a_named_file_is_fetched_once_and_reported(server: Server) -> None:
    told: list[tuple[int, int | None]] = []
    path = fetch("test-model", lambda done, total: told.append((done, total)))
    assert (path, path.read_bytes()) == (cache_dir() / "test-model.pth", BODY)
    assert told[0] == (0, len(BODY))
    assert told[-1] == (len(BODY), len(BODY))
    assert fetch("test-model") == path
    assert len(server.requests) == 1
    assert sorted(p.name for p in cache_dir().iterdir()) == ["test-model.pth", "test-model.pth.sha256"]
    assert (cache_dir() / "test-model.pth.sha256").read_text().split()[0] == hashlib.sha256(BODY).hexdigest()


def test_redirects_are_followed_and_length_may_be_unknown(server: Server) -> None:
    server.length = False
    assert fetch(f"{server.url}/moved=/x.pth").read_bytes() == BODY


def test_it_resumes_where_it_stopped(server: Server) -> None:
    interrupted(server)
    assert fetch("test-model").read_bytes() == BODY
    assert server.requests[-1][1]["Range"] == "bytes=300000-"
    assert server.requests[-1][1]["If-Range"] == '"v1"'
    assert not list(cache_dir().glob("*.part*"))


@pytest.mark.parametrize(
    "change",
    [
        {"ranges": False},  # a server that ignores Range
        {"etag": '"v2"', "body": BODY[::-1]},  # another version by now
        {"etag": '"v2"', "body": BODY[:1000]},  # and a shorter one
    ],
)
def test_it_starts_over_where_it_cannot_resume(server: Server, change: dict[str, object]) -> None:
    interrupted(server)
    for name, value in change.items():
        setattr(server, name, value)
    assert fetch("test-model").read_bytes() == server.body


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_tag_it_starts_over(server: Server, etag: str | None) -> None:
    server.etag = etag
    interrupted(server)
    assert fetch("test-model").read_bytes() == BODY
    assert "Range" not in server.requests[-1][1]


def test_an_unfinished_file_longer_than_the_real_one_is_dropped(server: Server) -> None:
    interrupted(server)
    (cache_dir() / "test-model.pth.part").write_bytes(BODY * 2)
    assert fetch("test-model").read_bytes() == BODY


def test_two_downloads_at_once_give_the_whole_file(server: Server) -> None:
    interrupted(server)
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(fetch, ["test-model"] * 4))
    assert {p.read_bytes() for p in paths} == {BODY}


def test_a_file_that_changed_is_refused(server: Server) -> None:
    path = fetch("test-model")
    path.write_bytes(b"other")
    with pytest.raises(CheckpointError, match=r"test-model\.pth: changed since its first use: delete it"):
        fetch("test-model")


def test_a_file_put_there_by_hand_is_taken(server: Server) -> None:
    cache_dir().mkdir()
    (cache_dir() / "test-model.pth").write_bytes(b"by hand")
    assert fetch("test-model").read_bytes() == b"by hand"
    assert server.requests == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none", r"answers 404 Not Found; download http.* yourself and save it as .*-none$"),
        ("/moved=file:///etc/hosts", r"answers 302 .*file:///etc/hosts"),
        ("/moved=ftp://127.0.0.1/x", r"unknown url type: ftp"),
    ],
)
def test_answers_that_are_no_file(server: Server, path: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        fetch(server.url + path)
    assert not list(cache_dir().iterdir())


def test_a_web_page_is_refused(server: Server) -> None:
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(CheckpointError, match="the server sent a web page"):
        fetch("test-model")


def test_offline_says_where_to_put_the_file(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WEIGHTS, "test-model", WeightFile("http://127.0.0.1:9/w.pth"))  # nothing listens there
    with pytest.raises(CheckpointError) as caught:
        fetch("test-model")
    message = str(caught.value)
    assert "refused" in message
    assert message.endswith(
        f"download http://127.0.0.1:9/w.pth yourself and save it as {cache_dir() / 'test-model.pth'}"
    )
    assert "\n" not in message


def test_a_silent_server_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/w.pth"
        with pytest.raises(CheckpointError, match="timed out"):
            fetch(url)


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LEGNET_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(CheckpointError, match=r"cannot be written .*LEGNET_CACHE"):
        fetch("test-model")


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://host/x.pth", "s3://bucket/x.pth"])
def test_other_schemes_are_refused(server: Server, url: str) -> None:
    with pytest.raises(CheckpointError, match="only http and https"):
        fetch(url)


def test_urls_with_one_file_name_are_kept_apart(server: Server) -> None:
    first = fetch(f"{server.url}/a/w.pth")
    server.body = b"other"
    second = fetch(f"{server.url}/b/w.pth")
    assert (first.read_bytes(), second.read_bytes()) == (BODY, b"other")
    assert second.name.endswith("-w.pth")


def test_paths_are_returned_and_missing_ones_named(tmp_path: Path) -> None:
    (tmp_path / "own.pth").write_bytes(b"x")
    assert fetch(tmp_path / "own.pth") == tmp_path / "own.pth"
    with pytest.raises(
        CheckpointError, match=r"nope\.pth: no such file, and no weights of that name: names are .*legnet-tiny-dota10"
    ):
        fetch("nope.pth")


def test_published_addresses() -> None:
    assert WEIGHTS["legnet-tiny-dota10"].url == (
        "https://github.com/lwCVer/LEGNet/releases/download/weights/lwegnet_tiny_orcnn_dota19_ss.pth"
    )
    assert WEIGHTS["unravelnet-small-imagenet"] == WeightFile(
        "https://github.com/AeroVILab-AHU/LEGNet/releases/download/pre-train/unravelnet_small.pth", backbone_only=True
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://[",
        "http://",
        "https:///a.pth",
        "http://a:b/w.pth",
        "http://a:99999/w.pth",
        "http://h/a\nb",
        "ftp://h/w.pth",
    ],
)
def test_addresses_that_are_none(server: Server, url: str) -> None:
    with pytest.raises(CheckpointError, match=r"^[^\n]+: only http and https addresses can be fetched: check it$"):
        fetch(url)


@pytest.mark.parametrize("name", ["a" * 400, "a b%20c", "größe", "雪" * 200, "w.pth?x=ü&y= #z"])
def test_addresses_of_any_letters(server: Server, name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert fetch(f"{server.url}/{name}").read_bytes() == BODY
    assert "http is not encrypted" in caplog.text


@pytest.mark.parametrize("length", ["abc", "-5", "1" * 30, "1e9", "99999999999999999", "²"])
def test_lengths_that_are_none(server: Server, length: str) -> None:
    server.length = length
    with pytest.raises(CheckpointError, match=r"/w\.pth: cannot be fetched \("):
        fetch("test-model")


@pytest.mark.parametrize(
    "goal", ["http://[", "nonsense:", "file:///etc/passwd", "//", "http://127.0.0.1:1/x", "ftp://h/a"]
)
def test_redirections_to_nonsense(server: Server, goal: str) -> None:
    with pytest.raises(CheckpointError, match=r"^[^\n]+ download .+ yourself and save it as [^\n]+$"):
        fetch(f"{server.url}/moved={goal}")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b"nonsense", b"0" * 63, b"\0" * 4096, bytes(1 << 20)])
def test_a_damaged_note_of_the_hash(server: Server, content: bytes) -> None:
    record = Path(f"{fetch('test-model')}.sha256")
    record.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"test-model\.pth\.sha256: is damaged: delete it"):
        fetch("test-model")


@pytest.mark.parametrize("suffix", ["", ".sha256", ".part", ".part.etag"])
def test_a_folder_where_a_file_should_be(server: Server, suffix: str) -> None:
    (cache_dir() / f"test-model.pth{suffix}").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"test-model\.pth[^\n]*: (is not a file|is damaged|cannot be written)"):
        fetch("test-model")


@pytest.mark.parametrize("name", ["a" * 5000, "\udcff" * 300, "a\0b", "\n"])
def test_names_that_no_file_has(name: str) -> None:
    with pytest.raises(CheckpointError, match="no such file, and no weights of that name"):
        fetch(name)


def test_a_damaged_tag_starts_anew(server: Server) -> None:
    interrupted(server)
    (tag,) = cache_dir().glob("*.etag")
    tag.write_bytes(b"\xff\r\nX: y")
    assert fetch("test-model").read_bytes() == BODY
