"""A job with a Watchdog and a fault, and what it said by time."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.workers.job import DEADLINE_SECONDS, started

WATCH_SECONDS = 12  # the others tell what they see after 7 to 10
NOTICED_SECONDS = 15
LAUNCH = ("-m", "tfscale", "launch", "--grace_seconds=5")  # time to say who failed


@dataclass
class Job:
    """A job that ended: its status, its lines with the time they came, and when the fault came."""

    status: int
    lines: list[tuple[float, str]]
    fault: float

    def at(self, pattern: str) -> float:
        """Returns how many seconds after the fault a line like this came first."""
        for moment, line in self.lines:
            if re.search(pattern, line):
                return moment - self.fault
        raise AssertionError(f"no line like {pattern!r} among:\n{self.text()[-6000:]}")

    def text(self) -> str:
        """Returns all lines."""
        return "".join(line for _, line in self.lines)


def begun(
    folder: Path, case: str, culprit: int, *launch: str, deadline: int = WATCH_SECONDS
) -> subprocess.Popen[str]:
    """Starts `tests.workers.watched`: what follows the interpreter, and the watchdog's deadline."""
    program = ["-m", "tests.workers.watched", str(folder), case, str(culprit), str(deadline)]
    return started([sys.executable, *launch, *program])


def ended(
    process: subprocess.Popen[str], fault: Path, see: Callable[[str], None] = lambda line: None
) -> Job:
    """Reads a job's lines to its end; `make test` ends one that outlives its own deadline.

    Args:
        process: The job.
        fault: The file that says when the fault came.
        see: Called with each line as it comes.
    """
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append((time.time(), line))
        see(line)
    return Job(process.wait(DEADLINE_SECONDS), lines, float(fault.read_text("utf-8")))
