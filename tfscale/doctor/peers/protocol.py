"""Questions between the doctors of two tasks: a line of JSON, answered by a line of JSON.

    with Listener(2222, answer) as listener:
        with Conversation("10.0.0.2:2222", seconds=5.0) as conversation:
            reply = conversation.ask({"ask": "time"})

Anything may arrive at an open port. A line that is too long, is not JSON or is no question ends its
connection and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from strategies.extension import host_and_port
from tfscale.doctor.cluster_configuration import listening_socket

VERSION = 1
LONGEST_LINE = 1 << 20
IDLE_SECONDS = 120.0
MOST_CONNECTIONS = 512

_KEY = "tfscale_doctor"
_PAUSE_SECONDS = 0.05

Answer = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Answers a question; raises ValueError for one that it does not understand."""


class NotADoctor(Exception):
    """What answers at an address is another program, or another version of this one."""


class Listener:
    """Answers questions on all interfaces, as TensorFlow's server will, until the context ends.

    Args:
        port: The port.
        answer: Called with each question, from any thread.

    Raises:
        OSError: If the port cannot be listened on.
    """

    def __init__(self, port: int, answer: Answer) -> None:
        self._answer = answer
        self._free = threading.Semaphore(MOST_CONNECTIONS)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = listening_socket(port)
        self._thread = threading.Thread(target=self._accept, name="tfscale doctor", daemon=True)
        self._thread.start()

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the listener and its connections; the port is free afterwards."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._server.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(IDLE_SECONDS)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                if self._server.fileno() < 0 or not _is_listening(self._server):
                    return
                time.sleep(_PAUSE_SECONDS)  # no file is left, or the peer gave up
                continue
            if not self._free.acquire(blocking=False):
                connection.close()
                continue
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(IDLE_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, connection.makefile("rwb") as stream:
                while True:
                    question = _read(stream)
                    if question is None:
                        return
                    _write(stream, self._answer(question))
        except (OSError, ValueError, NotADoctor):
            return  # garbage, or the connection has ended
        finally:
            self._free.release()
            with self._lock:
                self._open.discard(connection)


class Conversation:
    """A connection to the doctor of another task.

    Args:
        address: "host:port".
        seconds: How long it may take to connect, and then for each answer.

    Raises:
        OSError: If it cannot be connected to.
    """

    def __init__(self, address: str, seconds: float) -> None:
        self._connection = socket.create_connection(host_and_port(address), timeout=seconds)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._connection.makefile("rwb")

    @property
    def ends(self) -> tuple[str, str]:
        """The numeric addresses of this end and of the other."""
        return self._connection.getsockname()[0], self._connection.getpeername()[0]

    def ask(self, question: Mapping[str, Any], seconds: float | None = None) -> dict[str, Any]:
        """Returns the answer to a question.

        Args:
            question: JSON values.
            seconds: How long the answer may take. None keeps the limit.

        Raises:
            OSError: If no answer comes.
            NotADoctor: If the answer is not that of a doctor.
        """
        if seconds is not None:
            self._connection.settimeout(seconds)
        _write(self._stream, question)
        answer = _read(self._stream)
        if answer is None:
            raise NotADoctor("it ended the connection")
        return answer

    def __enter__(self) -> Conversation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()
        self._connection.close()


def _is_listening(server: socket.socket) -> bool:
    try:
        return bool(server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except (OSError, AttributeError):
        return False


def _write(stream: Any, message: Mapping[str, Any]) -> None:
    stream.write(json.dumps({_KEY: VERSION, **message}).encode() + b"\n")
    stream.flush()


def _read(stream: Any) -> dict[str, Any] | None:
    """Reads a message; None at the end of the connection."""
    line = stream.readline(LONGEST_LINE)
    if not line:
        return None
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotADoctor(f"it sent {line[:40]!r}") from error
    if not isinstance(message, dict) or _KEY not in message:
        raise NotADoctor(f"it sent {line[:40]!r}")
    if message[_KEY] != VERSION:
        raise NotADoctor(f"its messages have version {message[_KEY]!r}, not {VERSION}")
    return message
