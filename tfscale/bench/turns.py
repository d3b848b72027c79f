"""A child's end of the connection to the race: it sends "ready", receives "go", sends times.

The connection is a socket in the race's folder, because a worker of `tfscale launch` has no
standard input, and TensorFlow's messages would mix with the answers. Messages are lines of JSON.
When the race ends, the connection closes and the child ends too.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any


class Turns:
    """The turns of one process.

    Args:
        address: Path of the socket that the race listens on.
        patience_seconds: How long to wait for a turn, while other variants start up or run.

    Attributes:
        device_bytes: Returns the peak memory that this process has used on its GPUs.
    """

    def __init__(self, address: str, patience_seconds: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(patience_seconds)
        self._socket.connect(address)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self.device_bytes: Callable[[], int] = lambda: 0
        self._started = 0.0
        self._spent = 0.0

    def ready(self, loss: float) -> None:
        """Reports that the warm-up is done, and its loss, for comparison between variants."""
        self._say(kind="ready", loss=loss)

    def start(self) -> None:
        """Waits for this process's turn and starts the clock.

        Raises:
            SystemExit: If the race has ended.
            TimeoutError: After `patience_seconds`.
        """
        if not self._lines.readline():
            raise SystemExit(0)
        self._spent = processor_seconds()
        self._started = time.perf_counter()

    def finish(self) -> None:
        """Reports wall and processor time of the turn, and the memory of this process."""
        seconds = time.perf_counter() - self._started
        spent = processor_seconds() - self._spent
        self._say(
            kind="took",
            seconds=seconds,
            processor_seconds=spent,
            peak_bytes=peak_bytes(),
            resident_bytes=resident_bytes(),
            device_bytes=self.device_bytes(),
        )

    def fail(self, kind: str, text: str) -> None:
        """Reports why there are no turns.

        Args:
            kind: "wrong" for wrong usage, "missing" if something is not installed, so that the race
                goes on without this variant, "failed" for other causes.
            text: The cause, in a sentence.
        """
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


def processor_seconds() -> float:
    """Returns the processor time that this process has used: user and system, all threads.

    Example:
        >>> processor_seconds() > 0
        True
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_bytes() -> int:
    """Returns the resident memory of this process in bytes, or the peak where there is no /proc."""
    try:
        pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    except OSError:
        return peak_bytes()
    return int(pages) * resource.getpagesize()


def peak_bytes() -> int:
    """Returns the peak resident memory of this process in bytes.

    Example:
        >>> peak_bytes() > 1_000_000
        True
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
