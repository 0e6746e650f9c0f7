"""Servers on the loopback, of an object store and of files, that answer a share of the requests with 503."""

from __future__ import annotations

import http.server
import json
import random
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

SIGNED = {
    "Content-Type": "image/tiff",
    "Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request",
}


class Busy:
    """Chooses the requests to be refused."""

    def __init__(self):
        self.asked = Counter()
        self.be(0)

    def be(self, share):
        """From now on refuse ``share`` of the requests; returns how many there were before, by method."""
        before, self.asked = dict(self.asked), Counter()
        self.share, self.chance = share, random.Random(0)
        return before

    def refuses(self, method):
        self.asked[method] += 1
        return self.chance.random() < self.share


class Bucket:
    """A bucket called "scenes" on the server below."""

    def __init__(self, server):
        self.server = server
        self.busy(0)
        urlopen(Request(f"http://{server}/moto-api/reset", method="POST")).close()
        urlopen(Request(f"http://{server}/scenes", headers=SIGNED, method="PUT")).close()

    def put(self, key, content=b""):
        """Write an object."""
        urlopen(Request(f"http://{self.server}/scenes/{key}", content, SIGNED, method="PUT")).close()

    def busy(self, share):
        """As of :class:`Busy`."""
        with urlopen(f"http://{self.server}/-/busy/{share}") as answer:
            return json.load(answer)


@contextmanager
def s3_server():
    """Address of an S3 server, a process of its own."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    with process, process.stdout as said:
        yield f"127.0.0.1:{int(said.readline())}"
        process.kill()


class _Files(http.server.SimpleHTTPRequestHandler):
    """Serves byte ranges, as object stores do."""

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if self.server.busy.refuses(self.command):
            return self.send_error(503)
        if not path.is_file():
            return self.send_error(404)
        data = path.read_bytes()
        first, last = 0, len(data) - 1
        if "Range" in self.headers:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            last = min(last, len(data) - 1)
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[first : last + 1])

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@contextmanager
def file_server(folder):
    """A server of the files in a folder; has ``url`` and ``busy``."""

    def handler(*args):
        return _Files(*args, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.url, server.busy = f"http://127.0.0.1:{server.server_port}", Busy()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def _serve_s3():
    import logging

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    store, busy = DomainDispatcherApplication(create_backend_app), Busy()

    def answer(environ, start):
        path = environ["PATH_INFO"]
        if path.startswith("/-/busy/"):
            content = json.dumps(busy.be(float(path.rpartition("/")[2]))).encode()
        elif path.startswith("/moto-api") or not busy.refuses(environ["REQUEST_METHOD"]):
            return store(environ, start)
        else:
            content = b""
        start("200 OK" if content else "503 Slow Down", [("Content-Length", str(len(content)))])
        return [content]

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, answer, threaded=True)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve_s3()
