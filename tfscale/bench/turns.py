"""A child's end of the connection to the race: it sends "ready", receives "go", sends times.

The connection is a socket in the race's folder, because a worker of `tfscale launch` has no
standard input, and TensorFlow's messages would mix with the answers. Messages are lines of JSON.
When the race ends, the connection closes and the child ends too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tfscale.files.room import resident_memory


class Turns:
    """The turns of one process.

    Args:
        address: Path of the socket that the race listens on.
        patience_seconds: How long to wait for a turn, while other variants start up or run.
        with_children: Whether times and memory include the processes that this one has started.
            Each process counts pages that several share.

    Attributes:
        device_bytes: Returns the peak memory that this process has used on its GPUs.
    """

    def __init__(
        self, address: str, patience_seconds: float, *, with_children: bool = False
    ) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(patience_seconds)
        self._socket.connect(address)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self.device_bytes: Callable[[], int] = lambda: 0
        self._children = children if with_children else list
        self._started = 0.0
        self._spent = 0.0

    def ready(self, loss: float) -> None:
        """Reports that the warm-up is done, and its loss, for comparison between variants."""
        self._say(kind="ready", loss=loss)

    def start(self, prepare: Callable[[], object] = lambda: None) -> None:
        """Waits for this process's turn and starts the clock.

        Args:
            prepare: Called before the clock starts, for instance to empty a buffer.

        Raises:
            SystemExit: If the race has ended.
            TimeoutError: After `patience_seconds`.
        """
        if not self._lines.readline():
            raise SystemExit(0)
        prepare()
        self._spent = self._processor_seconds()
        self._started = time.perf_counter()

    def finish(self) -> None:
        """Reports wall and processor time of the turn, and the memory of this process."""
        seconds = time.perf_counter() - self._started
        spent = self._processor_seconds() - self._spent
        running = self._children()
        self._say(
            kind="took",
            seconds=seconds,
            processor_seconds=spent,
            peak_bytes=peak_bytes() + sum(child.peak_bytes for child in running),
            resident_bytes=resident_bytes() + sum(child.resident_bytes for child in running),
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

    def _processor_seconds(self) -> float:
        return processor_seconds() + sum(child.processor_seconds for child in self._children())

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


@dataclass(frozen=True)
class Child:
    """What a running process has used.

    Attributes:
        processor_seconds: User and system time of all its threads.
        peak_bytes: Peak resident memory.
        resident_bytes: Resident memory now.
    """

    processor_seconds: float
    peak_bytes: int
    resident_bytes: int


def children() -> list[Child]:
    """Returns the running descendants of this process. Linux only."""
    parents: dict[int, int] = {}
    found: dict[int, Child] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, KeyError):  # it has ended in the meantime, or is a zombie
            # The fields after the program's name, which may contain spaces and brackets.
            fields = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            status = dict(re.findall(r"(\w+):\s+(\d+) kB", (folder / "status").read_text("utf-8")))
            parents[int(folder.name)] = int(fields[1])
            found[int(folder.name)] = Child(
                (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
                int(status["VmHWM"]) * 1024,
                int(status["VmRSS"]) * 1024,
            )

    def is_descendant(process: int) -> bool:
        parent = parents.get(process, 0)
        return parent == os.getpid() or (parent != 0 and is_descendant(parent))

    return [child for process, child in found.items() if is_descendant(process)]


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
    found = resident_memory()
    return peak_bytes() if found is None else found


def peak_bytes() -> int:
    """Returns the peak resident memory of this process in bytes.

    Example:
        >>> peak_bytes() > 1_000_000
        True
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
