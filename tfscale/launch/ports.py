"""Reserves ports for the workers of one host until the job ends."""

from __future__ import annotations

import errno
import random
import socket
from types import TracebackType

# Below the ports of outgoing connections (from 32768 on Linux, 49152 on macOS), so that none of
# them takes a port in the seconds between its release and the moment TensorFlow binds it. Also
# below the node ports of Kubernetes (from 30000).
_CANDIDATES = range(20_000, 30_000)
_LOCALHOST = "127.0.0.1"


class ReservedPort:
    """A free TCP port of this host, reserved for one worker.

    Two sockets reserve it. The TCP socket proves that the port is free and keeps it until
    `release`. It does not set SO_REUSEADDR: where it can bind, the worker can too, with or without
    that option. It never listens, so it leaves no TIME_WAIT. The UDP socket of the same number does
    not disturb the worker and stays until `close`. It shows other launchers that the port is taken.

    Args:
        number: The port.
        used_before: Whether workers of this job may have just used the port. Their connections in
            TIME_WAIT then do not count as taken, because TensorFlow's server sets SO_REUSEADDR and
            can bind anyway.

    Raises:
        OSError: If the port is in use, with `errno` EADDRINUSE.
    """

    def __init__(self, number: int, *, used_before: bool = False) -> None:
        self.number = number
        self._claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if used_before:
            self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._claim.bind((_LOCALHOST, number))
            # On all interfaces, as TensorFlow's server will. Without `listen` no one can connect.
            self._holder.bind(("", number))
        except OSError:
            self.close()
            raise

    @property
    def address(self) -> str:
        """`host:port`, as in TF_CONFIG."""
        return f"{_LOCALHOST}:{self.number}"

    def release(self) -> None:
        """Releases the TCP port for the worker. Other launchers still see it as taken."""
        self._holder.close()

    def close(self) -> None:
        """Ends the reservation."""
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
    """Reserves a free port.

    Raises:
        OSError: If none of the 10,000 candidates is free.
    """
    # SystemRandom neither depends on nor changes the state of the user's `random`.
    start = random.SystemRandom().randrange(len(_CANDIDATES))
    for offset in range(len(_CANDIDATES)):
        try:
            return ReservedPort(_CANDIDATES[(start + offset) % len(_CANDIDATES)])
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"No port is free from {_CANDIDATES[0]} to {_CANDIDATES[-1]}.")
