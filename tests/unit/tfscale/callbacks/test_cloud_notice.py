"""Google Cloud's notices, from a local server that answers as its metadata server is documented."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import keras
import numpy as np
import pytest

import strategies
import tfscale
from tfscale.callbacks import preemption
from tfscale.callbacks.preemption import CloudNotice, metadata_host

MAINTENANCE = "/computeMetadata/v1/instance/maintenance-event"
PREEMPTED = "/computeMetadata/v1/instance/preempted"
STEPS = 40


class Metadata:
    """Values by path, each with a tag that changes with it; waits where it is asked to."""

    def __init__(self) -> None:
        self.values = {MAINTENANCE: "NONE", PREEMPTED: "FALSE"}
        self.waiting: set[str] = set()
        self.num_halves = 0
        self.has_gone = False
        self.changed = threading.Condition()
        metadata = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = urlparse(self.path)
                if self.headers["Metadata-Flavor"] != "Google":
                    self.send_error(403)
                    return
                known = parse_qs(asked.query).get("last_etag", [""])[0]
                with metadata.changed:
                    metadata.waiting |= {asked.path} if known else set()
                    metadata.changed.notify_all()
                    metadata.changed.wait_for(
                        lambda: metadata.has_gone or metadata.values[asked.path] != known, 60
                    )
                    if metadata.has_gone:
                        return
                    value = metadata.values[asked.path]
                    is_half, metadata.num_halves = metadata.num_halves > 0, metadata.num_halves - 1
                self.send_response(200)
                self.send_header("ETag", value)
                self.send_header("Content-Length", str(len(value) + 1))
                self.end_headers()
                self.wfile.write(value[:1].encode() if is_half else f"{value}\n".encode())

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.host = f"127.0.0.1:{self.server.server_port}"

    def await_listeners(self) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.waiting) == 2, 30)

    def say(self, path: str, value: str) -> None:
        with self.changed:
            self.values[path] = value
            self.changed.notify_all()

    def go(self) -> None:
        with self.changed:
            self.has_gone = True
            self.changed.notify_all()


def listeners() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name.startswith("tfscale instance/")}


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    metadata, earlier = Metadata(), signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("GCE_METADATA_HOST", metadata.host)
    yield metadata
    metadata.server.shutdown()
    signal.signal(signal.SIGTERM, earlier)  # a training that leaves listens no more


class At(keras.callbacks.Callback):
    """Calls at a step, once."""

    def __init__(self, step: int, call: Any) -> None:
        super().__init__()
        self.step, self.call, self.seen = step, call, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen += 1
        if self.seen == self.step:
            self.call()


def train(folder: Path, *callbacks: keras.callbacks.Callback) -> int:
    keras.utils.set_random_seed(1)
    strategy = strategies.one_device_strategy("CPU:0")
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x, y = np.ones((STEPS * 2, 2)), np.ones((STEPS * 2, 1))
    checkpoint = tfscale.callbacks.Checkpoint(str(folder), every=1000)
    options: dict[str, Any] = {"batch_size": 2, "shuffle": False, "verbose": 0}
    model.fit(x, y, callbacks=[*callbacks, checkpoint], **options)
    return int(model.optimizer.iterations.numpy())


@pytest.mark.parametrize(
    ("path", "value"),
    [(MAINTENANCE, "TERMINATE_ON_HOST_MAINTENANCE"), (PREEMPTED, "TRUE")],
)
def test_a_notice_saves_and_ends_and_the_next_start_trains_on_under_it(
    metadata: Metadata, tmp_path: Path, path: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = threading.Event()

    class Noted(CloudNotice):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "text" and value:
                heard.set()

    monkeypatch.setattr("tfscale.callbacks.preemption.CloudNotice", Noted)

    def announce() -> None:
        metadata.await_listeners()
        metadata.say(path, value)
        assert heard.wait(30)

    with pytest.raises(SystemExit) as left:
        train(tmp_path, At(7, announce))
    assert left.value.code == 42
    assert [folder.name for folder in tmp_path.glob("step-*")] == ["step-000000000007"]
    assert train(tmp_path) == STEPS


def test_after_half_an_answer_the_server_is_asked_again(
    metadata: Metadata, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preemption, "_AGAIN_SECONDS", 0.01)
    metadata.num_halves = 4
    notice = CloudNotice(metadata.host)
    metadata.await_listeners()
    notice.end()
    told = capsys.readouterr().err.splitlines()
    assert 1 <= len(told) <= 2  # a line a value, whatever the number of attempts
    assert all("IncompleteRead" in line for line in told)


def test_a_training_that_left_says_nothing_of_a_server_that_goes(
    metadata: Metadata, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = listeners()

    def leave() -> None:
        metadata.await_listeners()
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit):
        train(tmp_path, At(3, leave))
    own = listeners() - earlier
    metadata.go()
    for each in own:
        each.join(30)
        assert not each.is_alive()
    assert len(own) == 2
    assert "retrying" not in capsys.readouterr().err


def test_a_machine_that_moves_alive_trains_on(metadata: Metadata, tmp_path: Path) -> None:
    def move() -> None:
        metadata.await_listeners()
        metadata.say(MAINTENANCE, "MIGRATE_ON_HOST_MAINTENANCE")

    assert train(tmp_path, At(3, move)) == STEPS


def test_elsewhere_nobody_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GCE_METADATA_HOST", raising=False)
    product = tmp_path / "product_name"
    monkeypatch.setattr(preemption, "_PRODUCT_NAME", product)
    assert metadata_host() is None
    product.write_text("KVM Virtual Machine\n")
    assert metadata_host() is None
    product.write_text("Google Compute Engine\n")
    assert metadata_host() == "metadata.google.internal"
