"""Ports for what a test starts later.

A port that the system chooses is free for every process of this host once it is closed, and that of
a launcher may be taken by a launcher of another test. These are of neither kind, and each is given
to one process of the tests only.
"""

from __future__ import annotations

import contextlib
import random
import socket
import sys

# Below those of launchers (from 20000) and those that the system chooses (from 32768).
_PORTS = range(10_000, 20_000)
_ATTEMPTS = 1_000
# An address of this host that nothing else uses: a UDP socket there is the claim of a process until
# it ends, and disturbs nothing. Other systems than Linux have no such address.
_CLAIMED_AT = "127.77.77.77"
_CLAIMS: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """Returns ports in a row that are free, and that no other process of the tests gets.

    Args:
        count: How many. Positive.

    Raises:
        OSError: If there are none.
    """
    draw = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        first = draw.randrange(_PORTS.start, _PORTS.stop - count + 1)
        ports = list(range(first, first + count))
        with contextlib.ExitStack() as claims, contextlib.suppress(OSError):
            sockets = [claims.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in ports]
            for claim, port in zip(sockets, ports, strict=True):
                if sys.platform == "linux":
                    claim.bind((_CLAIMED_AT, port))
                with socket.socket() as probe:
                    probe.bind(("", port))
            claims.pop_all()
            _CLAIMS.extend(sockets)
            return ports
    raise OSError(f"no {count} ports in a row are free from {_PORTS.start} to {_PORTS.stop - 1}")
