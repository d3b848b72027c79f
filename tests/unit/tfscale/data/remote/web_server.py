"""A web server whose files break off, lie, fail or are slow."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Site:
    """What a server serves, by name.

    Attributes:
        files: The content of each file.
        faults: What goes wrong with a file: "break", "short", "error", "slow", "changes", "silent"
            or "no size", and for how many requests.
        requests: How often each file was asked for, by method.
        asked_again: Set by the request after a "silent" one, which is silent until then.
        address: Where the server is.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, tuple[str, int]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    asked_again: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    def fault(self, name: str, method: str) -> str:
        """The fault of this request."""
        kind, times = self.faults.get(name, ("", 0))
        if times <= 0 or (method == "HEAD" and kind not in ("error", "no size")):
            return ""
        self.faults[name] = (kind, times - 1)
        return kind


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    """Runs a server on a free port."""
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer("HEAD")

        def do_GET(self) -> None:
            self.answer("GET")

        def answer(self, method: str) -> None:
            name = self.path.lstrip("/").partition("?")[0]
            site.requests[f"{method} {name}"] += 1
            fault = site.fault(name, method)
            if method == "GET" and site.requests[f"GET {name}"] > 1:
                site.asked_again.set()
            content = site.files.get(name)
            if fault == "error" or content is None:
                self.send_response(500 if fault else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            if fault == "short":
                content = content[: len(content) // 2]
            if fault == "no size":
                self.send_header("Connection", "close")
                self.close_connection = True
            else:
                self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hash(site.files[name])}"')
            self.end_headers()
            if method == "HEAD":
                return
            if fault == "changes":
                site.files[name] = content[::-1]
            with contextlib.suppress(ConnectionError):
                self.send(content, fault)

        def send(self, content: bytes, fault: str) -> None:
            half = len(content) // 2
            self.wfile.write(content[:half])
            if fault == "break":
                self.close_connection = True
                self.connection.shutdown(2)
                return
            if fault == "silent":
                site.asked_again.wait(60)
            if fault == "slow":
                for i in range(half, len(content), 10):
                    self.wfile.write(content[i : i + 10])
                    time.sleep(0.02)
                return
            self.wfile.write(content[half:])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
