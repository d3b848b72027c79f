"""Program: what an all-reduce on one host cannot beat: memory, and TCP over loopback.

python -m tfscale.bench.collectives.physical_limits ADDRESS LIMIT NUM_RANKS THREADS REDUCTION

An all-reduce of a tensor sends and receives at least the tensor's bytes on each of two ranks, and
reads and writes them at least once. So the limits are one copy of that many bytes in all ranks at a
time ("memcpy"), and that many bytes in each direction at a time ("tcp"). Nothing is added up.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time

import numpy as np

from strategies.extension import cluster_from_environment, host_and_port
from tfscale.bench.collectives.reduction import Rank, Reduce, reduce_in_turns

_CONNECT_SECONDS = 60.0
_POLL_SECONDS = 0.05


def copy(size: int) -> Reduce:
    """Returns the function that copies that many bytes."""
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)

    def copied(count: int) -> None:
        for _ in range(count):
            np.copyto(target, source)

    return copied


class Loopback:
    """A ring of TCP connections: each rank sends to the next and receives from the one before."""

    def __init__(self) -> None:
        cluster = cluster_from_environment()
        assert cluster is not None, "started without `tfscale launch`"
        addresses = cluster.jobs[cluster.task_type]
        own, following = cluster.task_index, (cluster.task_index + 1) % len(addresses)
        with socket.create_server(host_and_port(addresses[own])) as listener:
            listener.settimeout(_CONNECT_SECONDS)
            self._next = _connected(host_and_port(addresses[following]))
            self._previous, _ = listener.accept()
        for each in (self._next, self._previous):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, size: int) -> Reduce:
        """Returns the function that sends and receives that many bytes at the same time."""
        sent, received = memoryview(bytearray(size)), memoryview(bytearray(size))

        def exchanged(count: int) -> None:
            for _ in range(count):
                self._exchange(sent, received)

        return exchanged

    def _exchange(self, sent: memoryview, received: memoryview) -> None:
        # Of one thread: at 1 MB, starting a second one would be most of the time.
        while sent or received:
            before = len(sent) + len(received)
            with contextlib.suppress(BlockingIOError):
                while sent:
                    sent = sent[self._next.send(sent) :]
            with contextlib.suppress(BlockingIOError):
                while received:
                    count = self._previous.recv_into(received)
                    if not count:
                        raise ConnectionError("The other rank has ended.")
                    received = received[count:]
            if len(sent) + len(received) == before:
                select.select(
                    [self._previous] if received else [], [self._next] if sent else [], []
                )


def _connected(address: tuple[str, int]) -> socket.socket:
    end = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            return socket.create_connection(address)
        except ConnectionRefusedError:  # it does not listen yet
            if time.monotonic() > end:
                raise
            time.sleep(_POLL_SECONDS)


def main() -> int:
    """Runs the turns of one rank. Returns the exit status."""
    rank = Rank.from_command_line()
    with rank.turns as turns:
        new_reduce = copy if rank.engine == "memcpy" else Loopback().exchange
        reduce_in_turns(rank.reduction, turns, new_reduce)
    return 0


if __name__ == "__main__":
    sys.exit(main())
