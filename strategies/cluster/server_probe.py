"""Whether the process behind an address runs: asked in the language of TensorFlow's servers.

That an address takes connections says little: the kernel takes them for a process that is stopped
too. A gRPC server answers the opening of HTTP/2 with its settings (RFC 9113, section 3.4), from the
process itself.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping

ANSWER_SECONDS = 2.0
SILENT_SECONDS = 6.0
"""A task that has not answered for so long, asked again and again, is called silent."""

_OPENING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


def answers(address: str, seconds: float = ANSWER_SECONDS) -> bool:
    """Tells whether a gRPC server's process answers.

    Args:
        address: "host:port".
        seconds: How long it may take to connect, and then to answer.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds) as connection:
            connection.sendall(_OPENING)
            return bool(connection.recv(9))
    except OSError:  # refused, no route, no name, no time
        return False


class TaskProbe:
    """Asks the other tasks of an asynchronous training whether they are there.

    Args:
        addresses: Of each by its name, such as "ps 0".
        busy: Returns since when each worker has been in an execution, by name, on the clock of
            `time.monotonic`; called from any thread.
    """

    def __init__(
        self, addresses: Mapping[str, str], busy: Callable[[], Mapping[str, float]]
    ) -> None:
        self._addresses = addresses
        self._busy = busy
        self._heard: dict[str, float] = {}

    def forget(self) -> None:
        """Forgets what was heard; the next look begins."""
        self._heard = {}

    def look(self) -> None:
        """Asks all of them, at the same time; takes 2 s or a little more where one is silent."""
        begin = time.monotonic()

        def ask(name: str, address: str) -> None:
            self._heard.setdefault(name, begin)
            if answers(address):
                self._heard[name] = time.monotonic()

        threads = [
            threading.Thread(target=ask, args=task, name="tfscale probe", daemon=True)
            for task in self._addresses.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * ANSWER_SECONDS)

    def silent(self) -> dict[str, float]:
        """Returns the tasks that do not answer, and for how many seconds they have been asked."""
        now = time.monotonic()
        silent = {name: now - self._heard.get(name, now) for name in self._addresses}
        return {name: seconds for name, seconds in silent.items() if seconds >= SILENT_SECONDS}

    def busy(self) -> dict[str, float]:
        """Returns for how many seconds each worker has been in one execution."""
        now = time.monotonic()
        return {name: now - since for name, since in self._busy().items()}
