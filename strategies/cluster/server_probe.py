"""Probes whether the gRPC server behind an address answers.

An accepted connection says little: the kernel accepts it for a stopped process too. A gRPC server
answers the preface of HTTP/2 with its settings (RFC 9113, section 3.4), from the process itself.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping

from strategies.cluster.cluster import host_and_port

ANSWER_SECONDS = 2.0
SILENT_SECONDS = 6.0
"""A task that has not answered its probes for this long is silent."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


def answers(address: str, seconds: float = ANSWER_SECONDS) -> bool:
    """Returns whether the process of a gRPC server answers.

    Args:
        address: "host:port".
        seconds: How long it may take to connect, and then to answer.
    """
    try:
        with socket.create_connection(host_and_port(address), timeout=seconds) as connection:
            connection.sendall(_PREFACE)
            return bool(connection.recv(9))
    except OSError:  # refused, no route, unknown name, timeout
        return False


class TaskProbe:
    """Probes the other tasks of an asynchronous training.

    Args:
        addresses: The address of each task by its name, such as "ps 0".
        busy: Returns the start of the execution of each worker by name, on the clock of
            `time.monotonic`. Called from any thread.
    """

    def __init__(
        self, addresses: Mapping[str, str], busy: Callable[[], Mapping[str, float]]
    ) -> None:
        self._addresses = addresses
        self._busy = busy
        self._answered: dict[str, float] = {}

    def forget(self) -> None:
        """Forgets all answers, so that the next `look` starts from now."""
        self._answered = {}

    def look(self) -> None:
        """Probes all tasks at the same time; takes a little over 2 s if one is silent."""
        begin = time.monotonic()

        def probe(name: str, address: str) -> None:
            self._answered.setdefault(name, begin)
            if answers(address):
                self._answered[name] = time.monotonic()

        threads = [
            threading.Thread(target=probe, args=task, name="tfscale probe", daemon=True)
            for task in self._addresses.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * ANSWER_SECONDS)

    def silent(self) -> dict[str, float]:
        """Returns the tasks that do not answer, and for how many seconds."""
        now = time.monotonic()
        silent = {name: now - self._answered.get(name, now) for name in self._addresses}
        return {name: seconds for name, seconds in silent.items() if seconds >= SILENT_SECONDS}

    def busy(self) -> dict[str, float]:
        """Returns how many seconds the execution of each worker has taken so far."""
        now = time.monotonic()
        return {name: now - since for name, since in self._busy().items()}
