"""One launcher, and a rendezvous that says what the test wants."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tfscale.launch.elastic.messages import (
    FROM_LAUNCHERS,
    Alive,
    Ended,
    Failing,
    Finish,
    Hello,
    Leaving,
    Message,
    Offer,
    Refused,
    Start,
    Stop,
    Welcome,
    decoded,
    encoded,
)
from tfscale.launch.elastic.rendezvous_server import HEARTBEAT_SECONDS

Launch = Callable[..., Any]
Python = Callable[..., list[str]]

HELD = 100_000_000
HOLDS = (
    "import os, signal\n"
    f"held = bytearray({HELD}); del held\n"
    "signal.signal(signal.SIGTERM, lambda *_: os._exit(42))\n"
    "print(os.environ['TFSCALE_RESTART'], os.environ['TFSCALE_JOB_ID'], os.environ['TF_CONFIG'])\n"
    "while True: signal.pause()\n"
)


class Scripted:
    """A rendezvous of this test, which shows life all the time, as a launcher expects of it."""

    def __init__(self, server: socket.socket) -> None:
        self._accepted, _ = server.accept()
        self._accepted.settimeout(120.0)
        self._lines = self._accepted.makefile("rb")
        self._lock = threading.Lock()
        threading.Thread(target=self._show_life, daemon=True).start()

    def say(self, message: Message) -> None:
        with self._lock:
            self._accepted.sendall(encoded(message))

    def _show_life(self) -> None:
        with contextlib.suppress(OSError):  # the launcher has ended
            while True:
                self.say(Alive())
                time.sleep(HEARTBEAT_SECONDS)

    def hear(self) -> Message:
        """The next message that is more than a sign of life."""
        while isinstance(message := decoded(self._lines.readline(), FROM_LAUNCHERS), Alive):
            pass
        return message

    def offered(self) -> Offer:
        offer = self.hear()
        assert isinstance(offer, Offer)
        return offer


@pytest.fixture
def server() -> Iterator[socket.socket]:
    # The launcher tries to run the rendezvous itself: the port is taken, so it connects.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(120.0)
        yield listening


def joined(server: socket.socket, launch: Launch, *command: str) -> tuple[Any, Scripted]:
    """A launcher of two workers that has been welcomed, and its rendezvous."""
    flags = ("--num_workers=2:4", "--workers_per_host=2", "--grace_seconds=60")
    address = f"--rendezvous=127.0.0.1:{server.getsockname()[1]}"
    launcher = launch(address, *flags, "--", *command)
    rendezvous = Scripted(server)
    hello = rendezvous.hear()
    assert isinstance(hello, Hello)
    assert (hello.min_workers, hello.max_workers, hello.workers_per_host) == (2, 4, 2)
    assert (hello.address, hello.token) == ("127.0.0.1", "")
    rendezvous.say(Welcome("the-job"))
    return launcher, rendezvous


def start(rendezvous: Scripted, offer: Offer, restart: int) -> None:
    """Starts the launcher's two workers behind two of another host."""
    own = [f"127.0.0.1:{port}" for port in offer.ports]
    rendezvous.say(Start(restart, ("10.0.0.9:1", "10.0.0.9:2", *own), 2))


def test_workers_start_as_told_and_their_memory_is_reported(
    server: socket.socket, launch: Launch, python: Python
) -> None:
    launcher, rendezvous = joined(server, launch, *python(HOLDS))
    offer = rendezvous.offered()
    assert len(set(offer.ports)) == 2
    start(rendezvous, offer, restart=5)
    for line in sorted(launcher.read_lines(2)):
        prefix, _, told = line.partition("] ")
        restart, job, config = told.split(" ", 2)
        assert (restart, job) == ("5", "the-job")
        found = json.loads(config)
        assert f"[worker {found['task']['index']}" == prefix
        assert found["cluster"]["worker"][2:] == [f"127.0.0.1:{port}" for port in offer.ports]
    rendezvous.say(Stop())
    ended = rendezvous.hear()
    assert isinstance(ended, Ended)
    assert (ended.succeeded, ended.saved) == (False, True)
    following = rendezvous.offered()
    assert set(following.ports).isdisjoint(offer.ports)
    if sys.platform == "linux":
        assert ended.peak is not None
        assert HELD < ended.peak < 2 * HELD
        assert offer.room is not None
        assert offer.room > HELD
    rendezvous.say(Finish(5, "because", 1))
    assert launcher.finish() == (5, "", "tfscale launch: because.\n")


def test_the_end_of_the_job_ends_the_workers(
    server: socket.socket, launch: Launch, python: Python
) -> None:
    launcher, rendezvous = joined(server, launch, *python(HOLDS))
    start(rendezvous, rendezvous.offered(), restart=0)
    launcher.read_lines(2)
    rendezvous.say(Finish(0, "every worker succeeded", 0))
    assert launcher.finish()[0] == 0


def test_a_failure_is_reported_before_the_other_workers_have_ended(
    server: socket.socket, launch: Launch, python: Python, tmp_path: Path
) -> None:
    fifo = tmp_path / "the worker that stays handles SIGTERM"
    os.mkfifo(fifo)
    code = (
        "import json, os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "is_last = json.loads(os.environ['TF_CONFIG'])['task']['index'] == 3\n"
        f"open({str(fifo)!r}, 'r' if is_last else 'w').close()\n"
        "while not is_last: signal.pause()\n"
        "sys.exit(7)\n"
    )
    launcher, rendezvous = joined(server, launch, *python(code))
    start(rendezvous, rendezvous.offered(), restart=0)
    failing = rendezvous.hear()
    assert isinstance(failing, Failing)
    assert failing.sentence.startswith("worker 3 failed first: exit status 7 after ")
    assert (failing.status, failing.is_own) == (7, True)
    for _ in range(2):  # the second one kills the worker that stays
        launcher.process.send_signal(signal.SIGINT)
        assert rendezvous.hear() == Leaving("SIGINT received", 130)
    ended = rendezvous.hear()
    assert isinstance(ended, Ended)
    assert (ended.succeeded, ended.saved) == (False, False)
    assert launcher.finish()[0] == 130


def test_a_refusal_is_the_error(server: socket.socket, launch: Launch, python: Python) -> None:
    address = f"127.0.0.1:{server.getsockname()[1]}"
    launcher = launch(f"--rendezvous={address}", "--num_workers=2", "--", "true")
    rendezvous = Scripted(server)
    rendezvous.hear()
    rendezvous.say(Refused("its command differs"))
    status, _, errors = launcher.finish()
    assert status == 2
    assert errors.startswith("tfscale launch: `rendezvous` must be that of a job with the same ")
    assert "which refuses this launcher: its command differs." in errors
