"""A child's end of the line to the race: it says "ready", hears "go", answers seconds.

The line is a socket in a folder of the race's own, for a worker of `tfscale launch` has no standard
input, and what TensorFlow prints would stand between the answers. Messages are lines of JSON. When
the race is gone the line is closed, and so the child ends.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
import time
from types import TracebackType
from typing import Any


class Turns:
    """The turns of one process.

    Args:
        address: Path of the socket that the race listens on.
        patience_seconds: How long to wait for a turn: the others start up and take theirs.
    """

    def __init__(self, address: str, patience_seconds: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(patience_seconds)
        self._socket.connect(address)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self._started = 0.0

    def ready(self, loss: float) -> None:
        """Says that everything is warm, and the loss of the warm-up: who trains alike has one."""
        self._say(kind="ready", loss=loss)

    def start(self) -> None:
        """Waits for this process's turn, and notes when it begins.

        Raises:
            SystemExit: If the race is gone.
            TimeoutError: If the patience is over.
        """
        if not self._lines.readline():
            raise SystemExit(0)
        self._started = time.perf_counter()

    def finish(self) -> None:
        """Says how long the turn took, and the most memory this process has held."""
        seconds = time.perf_counter() - self._started
        self._say(kind="took", seconds=seconds, peak_bytes=peak_bytes())

    def fail(self, kind: str, text: str) -> None:
        """Says why there are no turns: "wrong" for wrong usage, "failed" for anything else."""
        self._say(kind=kind, text=text)

    def _say(self, **message: Any) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def __enter__(self) -> Turns:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._socket.close()


def peak_bytes() -> int:
    """Returns the most memory that this process has had resident so far.

    Example:
        >>> peak_bytes() > 1_000_000
        True
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
