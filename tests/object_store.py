"""A small object store that answers as Google's does, for TensorFlow's gs:// in another process.

TensorFlow always asks googleapis.com. Here it is led to a local server: by a proxy variable, to
a proxy that answers the connection itself, with a certificate that is made for the test.

    with object_store(tmp_path, delay=0.05, lag=0.5) as store:
        subprocess.run([...], env={**os.environ, **store.variables})

Objects are there at once, are read at once, and are listed after at most `lag` seconds, each name
after a time that the test sets.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

_HOST = "www.googleapis.com"
_TOKEN = "of-the-test"


def object_store_missing() -> str:
    """Returns what is missing for `object_store`, or nothing."""
    return "" if shutil.which("openssl") else "openssl is needed for the store's certificate"


class ObjectStore:
    """The objects, the requests that were answered, and how a process is led here.

    Attributes:
        contents: By bucket and name, joined by a slash.
        requests: Kinds of requests, with their number.
        variables: The environment for a process whose gs:// is this store.
        failing: A pattern of the paths that are answered with an error of the server, or None.
    """

    def __init__(self, delay: float, lag: float) -> None:
        self.contents: dict[str, bytes] = {}
        self.requests: dict[str, int] = {}
        self.variables: dict[str, str] = {}
        self.failing: str | None = None
        self.delay = delay
        self._lag = lag
        self._lock = threading.Lock()
        self._generation = 0
        self._changes: dict[str, tuple[bool, float]] = {}
        self._uploads: dict[str, tuple[str, bytes]] = {}

    def count(self, kind: str) -> None:
        with self._lock:
            self.requests[kind] = self.requests.get(kind, 0) + 1

    def put(self, key: str, content: bytes) -> None:
        with self._lock:
            if key not in self.contents:
                self._note(key, is_there=True)
            self._generation += 1
            self.contents[key] = content

    def delete(self, key: str) -> bool:
        with self._lock:
            if key not in self.contents:
                return False
            del self.contents[key]
            self._note(key, is_there=False)
            return True

    def listed(self, bucket: str, prefix: str) -> list[str]:
        """Returns the names that a listing shows by now."""
        with self._lock:
            now = time.monotonic()
            return sorted(
                key.partition("/")[2]
                for key, (is_there, since) in self._changes.items()
                if key.startswith(f"{bucket}/{prefix}") and is_there == (since <= now)
            )

    def begin_upload(self, key: str) -> str:
        with self._lock:
            name = str(len(self._uploads))
            self._uploads[name] = (key, b"")
            return name

    def end_upload(self, name: str, content: bytes) -> None:
        self.put(self._uploads[name][0], content)

    def _note(self, key: str, *, is_there: bool) -> None:
        self._changes[key] = (is_there, time.monotonic() + random.uniform(0, self._lag))


@contextlib.contextmanager
def object_store(folder: Path, *, delay: float = 0.0, lag: float = 0.0) -> Iterator[ObjectStore]:
    """Serves an empty store.

    Args:
        folder: Where the certificate is made.
        delay: Seconds before each answer.
        lag: The longest time until a listing shows a name, or shows it no more.
    """
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = f"subjectAltName=DNS:{_HOST},DNS:storage.googleapis.com"
    subject = ["-subj", f"/CN={_HOST}", "-addext", names, "-days", "2"]
    files = ["-nodes", "-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *files, *subject]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    store = ObjectStore(delay, lag)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        proxy = f"http://127.0.0.1:{listening.getsockname()[1]}"
        store.variables = {
            "https_proxy": proxy,
            "no_proxy": "",
            "CURL_CA_BUNDLE": str(certificate),
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": _TOKEN,
        }
        threading.Thread(target=_accept, args=(listening, context, store), daemon=True).start()
        yield store


def _accept(listening: socket.socket, context: ssl.SSLContext, store: ObjectStore) -> None:
    with contextlib.suppress(OSError):  # closed at the end
        while True:
            connection, _ = listening.accept()
            thread = threading.Thread(target=_serve, args=(connection, context, store), daemon=True)
            thread.start()


def _serve(connection: socket.socket, context: ssl.SSLContext, store: ObjectStore) -> None:
    with contextlib.suppress(OSError), connection:
        asked = b""
        while b"\r\n\r\n" not in asked:  # CONNECT www.googleapis.com:443
            if not (part := connection.recv(4096)):
                return
            asked += part
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with context.wrap_socket(connection, server_side=True) as stream:
            handler = type("Handler", (_Handler,), {"store": store})
            handler(stream, ("127.0.0.1", 0), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: ObjectStore

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        path, query = self._asked()
        if self.store.failing is not None and re.search(self.store.failing, path):
            return self._answer(503)
        if match := re.fullmatch(r"/storage/v1/b/([^/]+)/o", path):
            return self._list(match[1], query)
        if match := re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)", path):
            content = self.store.contents.get(f"{match[1]}/{urllib.parse.unquote(match[2])}")
            self.store.count("stat")
            if content is None:
                return self._answer(404)
            return self._json({"size": str(len(content)), "generation": "1", "updated": _UPDATED})
        if match := re.fullmatch(r"/storage/v1/b/([^/]+)", path):
            return self._json({"location": "EU"})
        bucket, _, name = path.lstrip("/").partition("/")
        return self._read(f"{bucket}/{urllib.parse.unquote(name)}")

    def do_POST(self) -> None:
        path, query = self._asked()
        content = self._body()
        match = re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", path)
        if match and query["uploadType"] == "media":
            self.store.put(f"{match[1]}/{query['name']}", content)
            return self._json({})
        if match:
            name = self.store.begin_upload(f"{match[1]}/{query['name']}")
            self.store.count("write")
            return self._answer(200, headers={"Location": f"https://{_HOST}/session/{name}"})
        if match := re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)/rewriteTo/b/([^/]+)/o/(.+)", path):
            parts = [urllib.parse.unquote(part) for part in match.groups()]
            source = self.store.contents.get(f"{parts[0]}/{parts[1]}")
            if source is None:
                return self._answer(404)
            self.store.put(f"{parts[2]}/{parts[3]}", source)
            return self._json({"done": True})
        return self._answer(404)

    def do_PUT(self) -> None:
        path, _ = self._asked()
        content = self._body()
        self.store.end_upload(path.rpartition("/")[2], content)
        return self._json({})

    def do_DELETE(self) -> None:
        path, _ = self._asked()
        match = re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)", path)
        self.store.count("delete")
        is_gone = match and self.store.delete(f"{match[1]}/{urllib.parse.unquote(match[2])}")
        return self._answer(204 if is_gone else 404)

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        self.store.count("list")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items, folders = [], set()
        for name in self.store.listed(bucket, prefix):
            below, cut, _ = (
                name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            )
            if cut:
                folders.add(prefix + below + delimiter)
            else:
                items.append({"name": name})
        most = int(query.get("maxResults", 1000))
        self._json({"items": items[:most], "prefixes": sorted(folders)})

    def _read(self, key: str) -> None:
        self.store.count("read")
        content = self.store.contents.get(key)
        if content is None:
            return self._answer(404)
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(match[1]), int(match[2])) if match else (0, len(content))
        if first >= len(content):
            return self._answer(416)
        return self._answer(206 if match else 200, content[first : last + 1])

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _asked(self) -> tuple[str, dict[str, str]]:
        time.sleep(self.store.delay)
        url = urllib.parse.urlsplit(self.path)
        return url.path, dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))

    def _json(self, values: object) -> None:
        self._answer(200, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


_UPDATED = "2026-01-01T00:00:00.000Z"
