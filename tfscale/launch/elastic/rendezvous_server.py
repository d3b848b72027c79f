"""The rendezvous of an elastic job: a thread of the launcher that its address belongs to.

It is neither encrypted nor authenticated. Whatever connects and does not begin like a launcher of
this job is disconnected, and the job goes on.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

from strategies import Cluster
from tfscale.launch.elastic.membership import Membership, Phase, Rules
from tfscale.launch.elastic.messages import (
    FROM_LAUNCHERS,
    LONGEST_MESSAGE,
    Alive,
    Ended,
    Failing,
    Hello,
    Leaving,
    Message,
    Offer,
    Refused,
    Welcome,
    decoded,
    encoded,
)
from tfscale.launch.output import say

HEARTBEAT_SECONDS = 3.0
SILENT_SECONDS = 15.0
"""A launcher or a rendezvous that says nothing for so long counts as lost. Less than the 20 s after
which TensorFlow gives up a worker, so that the cause of a failure is named first."""
_TICK_SECONDS = 0.1
_LINGER_SECONDS = 5.0
_MOST_STRANGERS = 256
"""Connections that have not said who they are; a port scan must not use up all descriptors."""


def own_listener(host: str, port: int) -> socket.socket | None:
    """Returns a listening socket if the address is this host's and the port is free, else None.

    Args:
        host: A name or an IP address, without brackets.
        port: The port.

    Raises:
        PermissionError: If this process must not listen on the port.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None  # the launcher that then fails to connect says so
    for family, _, _, _, address in found:
        # Debian gives a host's own name the address 127.0.1.1, under which no other host finds it.
        everywhere = ipaddress.ip_address(address[0]).is_loopback and not _is_loopback(host)
        try:
            with socket.socket(family, socket.SOCK_STREAM) as own:
                own.bind((address[0], 0))  # fails unless the address is this host's
            return socket.create_server(
                ("" if everywhere else str(address[0]), port), family=family, backlog=128
            )
        except PermissionError:
            raise
        except OSError:
            continue
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass
class _Client:
    """A connection. `number` is its place in the order of joining; None before its `Hello`."""

    socket: socket.socket
    name: str
    heard: float
    number: int | None = None
    received: bytes = b""
    is_closed: bool = field(default=False)


class RendezvousServer:
    """Serves until the job is over and every launcher knows, or until it is closed.

    Args:
        listener: The socket; closed at the end.
        rules: Of the membership.
        own: What the launcher that runs this was started with; its token is a secret.
        job: TFSCALE_JOB_ID of the workers.
    """

    def __init__(self, listener: socket.socket, rules: Rules, own: Hello, job: str) -> None:
        self._listener, self._own, self._job = listener, own, job
        self._membership = Membership(rules, time.monotonic())
        self._numbers = itertools.count()
        self._clients: list[_Client] = []
        self._strangers: set[str] = set()
        self._is_over = threading.Event()
        listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="tfscale rendezvous", daemon=True)
        self._thread.start()

    def __enter__(self) -> RendezvousServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._is_over.set()
        self._thread.join(2 * _LINGER_SECONDS)

    def _serve(self) -> None:
        over_at: float | None = None
        last_sign = time.monotonic()
        try:
            while not self._is_over.is_set():
                for key, _ in self._selector.select(_TICK_SECONDS):
                    if key.data is None:
                        self._accept()
                    elif not key.data.is_closed:
                        self._read(key.data)
                now = time.monotonic()
                for client in self._clients[:]:
                    if now - client.heard > SILENT_SECONDS:
                        self._drop(client, f"no sign of life for {SILENT_SECONDS:g} s", now)
                if now - last_sign >= HEARTBEAT_SECONDS:
                    last_sign = now
                    for client in self._clients[:]:
                        if client.number is not None:
                            self._send(client, Alive())
                self._membership.advance(now)
                self._deliver()
                if self._membership.phase is Phase.OVER:
                    over_at = over_at or now
                    known = [client for client in self._clients if client.number is not None]
                    # A launcher closes its connection when it has read that the job is over.
                    if not known or now - over_at > _LINGER_SECONDS:
                        return
        finally:
            for client in self._clients:
                client.socket.close()
            self._selector.close()
            self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            accepted, address = self._listener.accept()
            if sum(client.number is None for client in self._clients) >= _MOST_STRANGERS:
                accepted.close()
                return
            accepted.setblocking(False)
            client = _Client(accepted, str(address[0]), time.monotonic())
            self._clients.append(client)
            self._selector.register(accepted, selectors.EVENT_READ, client)

    def _read(self, client: _Client) -> None:
        now = time.monotonic()
        try:
            data = client.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(client, f"its connection failed ({error.strerror})", now)
            return
        if not data:
            self._drop(client, "its connection has ended", now)
            return
        if client.number is not None:
            client.heard = now  # not of a stranger, who has this long to say who it is
        *lines, client.received = (client.received + data).split(b"\n")
        if len(client.received) > LONGEST_MESSAGE:
            self._drop(client, "its message is too long", now)
        for line in lines:
            if client.is_closed:
                return
            try:
                self._take(client, decoded(line, FROM_LAUNCHERS), now)
            except ValueError as error:
                self._drop(client, f"it sent something else than a launcher does ({error})", now)
            self._deliver()

    def _take(self, client: _Client, message: Message, now: float) -> None:
        members, number = self._membership, client.number
        if number is None:
            if not isinstance(message, Hello):
                raise ValueError("its first message is not Hello")
            self._greet(client, message, now)
            return
        match message:
            case Offer(ports=ports):
                count = self._own.workers_per_host
                if len(ports) != count or not all(0 < port <= 65535 for port in ports):
                    raise ValueError(f"it does not offer {count} ports")
                members.offer(number, message, now)
            case Failing():
                members.fail(number, message, now)
            case Ended():
                members.end(number, message, now)
            case Leaving():
                members.leave(number, message, now)
            case Hello():
                raise ValueError("it said Hello twice")

    def _greet(self, client: _Client, hello: Hello, now: float) -> None:
        why = self._own.difference(hello)
        if not why and self._membership.phase is Phase.OVER:
            why = "the job is over"
        if why:
            say(f"a launcher on {client.name} is refused: {why}")
            self._send(client, Refused(why))
            self._drop(client, "", now)
            return
        Cluster({"worker": (f"{hello.address}:1",)}, "worker", 0)  # raises if it is no address
        client.number, client.heard = next(self._numbers), now
        self._send(client, Welcome(self._job))
        is_local = bool(hello.token) and hello.token == self._own.token
        self._membership.join(client.number, hello.address, is_local)

    def _deliver(self) -> None:
        membership = self._membership
        while membership.orders or membership.gone:
            orders, membership.orders = membership.orders, []
            for number, message in orders:
                client = next((c for c in self._clients if c.number == number), None)
                if client is not None:
                    self._send(client, message)
            gone, membership.gone = membership.gone, []
            for client in [c for c in self._clients if c.number in gone]:
                self._drop(client, "", time.monotonic())

    def _send(self, client: _Client, message: Message) -> None:
        data = encoded(message)
        try:
            is_sent = client.socket.send(data) == len(data)
        except OSError:
            is_sent = False
        if not is_sent:  # a message fits into the buffer of a connection that is read
            self._drop(client, "it does not read", time.monotonic())

    def _drop(self, client: _Client, reason: str, now: float) -> None:
        if client.is_closed:
            return
        client.is_closed = True
        self._clients.remove(client)
        self._selector.unregister(client.socket)
        client.socket.close()
        if client.number is not None:
            self._membership.lose(client.number, reason, now)
        elif reason and client.name not in self._strangers and len(self._strangers) < 100:
            self._strangers.add(client.name)
            say(f"a connection from {client.name} to the rendezvous is no launcher: {reason}")
