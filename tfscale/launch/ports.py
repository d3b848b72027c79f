"""Ports for the workers of one host, each kept for one job until the job is over."""

from __future__ import annotations

import errno
import random
import socket
from types import TracebackType

# Below the ports that the kernel gives to outgoing connections (from 32768 on Linux, 49152 on
# macOS), so none of those takes a port in the seconds between its release and the moment TensorFlow
# is imported and binds it; and below the node ports of Kubernetes (from 30000).
_CANDIDATES = range(20_000, 30_000)
_LOCALHOST = "127.0.0.1"


class ReservedPort:
    """A TCP port of this host that is free, and stays so for the worker it is meant for.

    Two sockets hold it. The TCP one proves that the port is free and keeps it until `release`. It
    lacks SO_REUSEADDR on purpose: where it could bind, the worker can, with the option or without,
    and as it never listens it leaves no TIME_WAIT behind. The UDP socket of the same number is in
    nobody's way and lasts until `close`: it tells every other launcher that the port is taken.

    Args:
        number: The port.
        used_before: Whether workers of this job may have had the port a moment ago. Connections of
            theirs that the kernel remembers (TIME_WAIT) then do not count as taken: TensorFlow's
            server, which sets SO_REUSEADDR, can bind all the same.

    Raises:
        OSError: If something holds the port, with `errno` EADDRINUSE.
    """

    def __init__(self, number: int, *, used_before: bool = False) -> None:
        self.number = number
        self._claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if used_before:
            self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._claim.bind((_LOCALHOST, number))
            # On all interfaces, as TensorFlow's server will; without listen nobody can connect.
            self._holder.bind(("", number))
        except OSError:
            self.close()
            raise

    @property
    def address(self) -> str:
        """`host:port`, as TF_CONFIG has it."""
        return f"{_LOCALHOST}:{self.number}"

    def release(self) -> None:
        """Leaves the TCP port to the worker; other launchers still keep off it."""
        self._holder.close()

    def close(self) -> None:
        """Gives the port back."""
        self._holder.close()
        self._claim.close()

    def __enter__(self) -> ReservedPort:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def reserve_port() -> ReservedPort:
    """Reserves some free port.

    Raises:
        OSError: If none of the 10,000 candidates is free.
    """
    # SystemRandom: neither follows nor disturbs a seed that the user gave to `random`.
    start = random.SystemRandom().randrange(len(_CANDIDATES))
    for offset in range(len(_CANDIDATES)):
        try:
            return ReservedPort(_CANDIDATES[(start + offset) % len(_CANDIDATES)])
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"No port is free from {_CANDIDATES[0]} to {_CANDIDATES[-1]}.")
