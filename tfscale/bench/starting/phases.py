"""The phases of a start, measured by the process itself.

This module needs the standard library only, because the program of PyTorch uses it too.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

PHASES = ("launch", "imports", "group", "build", "first step")
"""In their order: until the program's first line; its imports; strategy or process group, with the
wait for the other workers; model, optimizer and data; one step."""


@dataclass(frozen=True)
class Start:
    """What is started.

    Attributes:
        model: A name of `models.MODELS`.
        threads: Threads of a single process, divided among several. Positive.
        timeout_seconds: Deadline of a start. Positive.
        started: Time when the command was started, in seconds since the epoch.
    """

    model: str
    threads: int
    timeout_seconds: float
    started: float = 0.0

    def threads_of(self, processes: int) -> int:
        """Returns the threads of each of `processes` processes, at least 1."""
        return max(1, self.threads // max(1, processes))

    def to_json(self) -> str:
        """Returns what `from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Start:
        """Returns the start that `to_json` wrote."""
        return Start(**json.loads(text))


class PhaseClock:
    """Measures the phases of this process.

    Args:
        started: Time when the command was started, in seconds since the epoch.
    """

    def __init__(self, started: float) -> None:
        self._last = started
        self._seconds: dict[str, float] = {}

    def end(self, phase: str) -> None:
        """Ends a phase, the next of `PHASES`."""
        now = time.time()
        self._seconds[phase] = now - self._last
        self._last = now

    def report(self, folder: str) -> None:
        """Writes the seconds of the phases to a file of this process in a folder."""
        Path(folder, f"{os.getpid()}.json").write_text(json.dumps(self._seconds), "utf-8")


def slowest(folder: Path, processes: int) -> dict[str, float]:
    """Returns the phases of the process that ended its step last.

    Args:
        folder: Where the processes reported.
        processes: How many there were.

    Raises:
        ValueError: If another number of processes has reported.
    """
    reports = [json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")]
    if len(reports) != processes:
        raise ValueError(f"{len(reports)} of {processes} processes reported their first step")
    found: dict[str, float] = max(reports, key=lambda report: sum(report.values()))
    return found
