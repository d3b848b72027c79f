"""A launcher's connection to the rendezvous of its job."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from types import TracebackType

from tfscale.launch.attempts import signal_until
from tfscale.launch.elastic.messages import (
    FROM_RENDEZVOUS,
    LONGEST_MESSAGE,
    Alive,
    Message,
    decoded,
    encoded,
)
from tfscale.launch.elastic.rendezvous_server import HEARTBEAT_SECONDS, SILENT_SECONDS
from tfscale.launch.events import ConnectionLost, Events, MessageArrived
from tfscale.launch.output import say

_AGAIN_SECONDS = 1.0
_CONNECT_SECONDS = 10.0


class RendezvousLost(ConnectionError):
    """The rendezvous cannot be reached, or no longer."""


class Connection:
    """Sends messages and signs of life, and puts what arrives on the queue of events.

    Args:
        connected: The socket; closed at the end.
        events: Receives `MessageArrived`, and `ConnectionLost` at the end.
    """

    def __init__(self, connected: socket.socket, events: Events) -> None:
        self._socket, self._events = connected, events
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        connected.settimeout(SILENT_SECONDS)
        for target, name in ((self._read, "reads"), (self._show_life, "shows life")):
            threading.Thread(target=target, name=f"tfscale {name}", daemon=True).start()

    def send(self, message: Message) -> None:
        """Sends a message. If that fails, `ConnectionLost` follows on the queue."""
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(encoded(message))

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self) -> None:
        received = b""
        try:
            while data := self._socket.recv(1 << 16):
                *lines, received = (received + data).split(b"\n")
                for line in lines:
                    message = decoded(line, FROM_RENDEZVOUS)
                    if not isinstance(message, Alive):
                        self._events.put(MessageArrived(message))
                if len(received) > LONGEST_MESSAGE:
                    raise ValueError("a message is too long")
            reason = "the connection has ended"
        except TimeoutError:
            reason = f"no sign of life for {SILENT_SECONDS:g} s"
        except OSError as error:
            reason = error.strerror or str(error)
        except ValueError as error:
            reason = f"its answer is no message of `tfscale launch` ({error})"
        self._events.put(ConnectionLost(reason))

    def _show_life(self) -> None:
        while not self._is_over.wait(HEARTBEAT_SECONDS):
            self.send(Alive())


def connected_socket(host: str, port: int, seconds: float, events: Events) -> socket.socket | int:
    """Connects, with repeated attempts, and says once why that fails.

    Args:
        host: Host of the rendezvous, without brackets.
        port: Its port.
        seconds: The deadline. Positive.
        events: A signal in it ends the wait. Other events are dropped.

    Returns:
        The socket, or the number of the signal that ended the wait.

    Raises:
        RendezvousLost: If nothing answers until the deadline.
    """
    deadline = time.monotonic() + seconds
    is_said = False
    while True:
        try:
            return socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        if time.monotonic() >= deadline:
            raise RendezvousLost(
                f"after {seconds:g} s nothing answers at the rendezvous {_address(host)}:{port} "
                f"({reason}). Start a launcher on the host that has this address, or correct "
                "--rendezvous."
            )
        if not is_said:
            is_said = True
            say(
                f"nothing answers at the rendezvous {_address(host)}:{port} yet ({reason}); "
                f"trying for {seconds:g} s"
            )
        stop_signal = signal_until(min(deadline, time.monotonic() + _AGAIN_SECONDS), events)
        if stop_signal is not None:
            return stop_signal


def own_address(connected: socket.socket, host: str) -> str:
    """Returns the address under which other hosts reach this one, as in TF_CONFIG.

    It is the local end of the connection to the rendezvous. If that is a loopback address, this is
    the host of the rendezvous, which all others know by its name.
    """
    found = str(connected.getsockname()[0]).partition("%")[0]
    return _address(host if ipaddress.ip_address(found).is_loopback else found)


def _address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
