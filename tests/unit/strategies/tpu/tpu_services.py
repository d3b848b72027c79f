"""A metadata server and a Cloud TPU API on this host, for TensorFlow's TPU resolver.

with tpu_services(states={"ready": "READY"}) as services:
    resolver = tpu_resolver("ready", service=services.api)
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

METADATA = {"project/project-id": "a-project", "instance/zone": "projects/1/zones/a-zone"}


class Api:
    """The part of googleapiclient's TPU API that the resolver calls, over HTTP."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._name = ""

    def projects(self) -> Api:
        return self

    def locations(self) -> Api:
        return self

    def nodes(self) -> Api:
        return self

    def get(self, name: str) -> Api:
        self._name = name
        return self

    def execute(self) -> Any:
        with urllib.request.urlopen(f"{self._address}/v1/{self._name}", timeout=10) as answer:
            return json.load(answer)


class Services:
    """The requests received, and a client of the API."""

    def __init__(self, address: str) -> None:
        self.api = Api(address)
        self.asked: list[str] = []


@contextlib.contextmanager
def tpu_services(nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[Services]:
    """Serves TPUs by name, each with the fields of an API answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            services.asked.append(self.path)
            prefix, _, name = self.path.rpartition("/")
            metadata = METADATA.get(self.path.removeprefix("/computeMetadata/v1/"))
            if metadata is not None and self.headers["Metadata-Flavor"] == "Google":
                self._answer(metadata.encode())
            elif prefix == "/v1/projects/a-project/locations/a-zone/nodes" and name in nodes:
                self._answer(json.dumps(nodes[name]).encode())
            else:
                self.send_error(404)

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"127.0.0.1:{server.server_port}"
    services = Services(f"http://{address}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    before = dict(os.environ)
    os.environ.update(GCE_METADATA_HOST=address, no_proxy="*")
    try:
        yield services
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.shutdown()
        server.server_close()
        thread.join()
