"""A job with a Watchdog and a fault, and the lines that it prints with their times."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.programs import forked, lines_of, started
from tests.workers.job import DEADLINE_SECONDS

WATCH_SECONDS = 12
"""The deadline. A worker that does not move is named 7 to 10 s after its last step."""
NOTICED_SECONDS = 30
"""A fault is named by then, on a machine that is three times slower than it should be."""
LAUNCH = ("-m", "tfscale", "launch", "--grace_seconds=5")  # time to print who failed


@dataclass
class Job:
    """A job that has ended.

    Attributes:
        status: Its exit status.
        lines: Each with the time at which it came, in seconds since 1970.
        fault: When the fault came.
    """

    status: int
    lines: list[tuple[float, str]]
    fault: float

    def at(self, pattern: str) -> float:
        """Returns how many seconds after the fault the first line with a pattern came."""
        for moment, line in self.lines:
            if re.search(pattern, line):
                return moment - self.fault
        raise AssertionError(f"no line like {pattern!r} among:\n{self.text()[-6000:]}")

    def after_fault(self, pattern: str) -> list[str]:
        """Returns the lines with a pattern that came after the fault.

        Before it, on a busy machine, a worker may truly not have moved for a while.
        """
        return [line for at, line in self.lines if at > self.fault and re.search(pattern, line)]

    def text(self) -> str:
        """Returns all lines."""
        return "".join(line for _, line in self.lines)


def begun(
    folder: Path, case: str, culprit: int, *launch: str, deadline: int = WATCH_SECONDS
) -> subprocess.Popen[str]:
    """Starts `tests.workers.watched`.

    Args:
        folder: In which the program writes when its fault came.
        case: Of the program.
        culprit: Index of the worker that has the fault.
        *launch: The command that starts the program, without the first `python`.
        deadline: Of the Watchdog, in seconds.
    """
    program = ["-m", "tests.workers.watched", str(folder), case, str(culprit), str(deadline)]
    return started(*launch, *forked(*program))


def ended(
    process: subprocess.Popen[str], fault: Path, see: Callable[[str], None] = lambda line: None
) -> Job:
    """Reads a job's lines until it has ended.

    Args:
        process: The job.
        fault: The file that says when the fault came.
        see: Called with each line as it comes.
    """
    lines = []
    for line in lines_of(process, DEADLINE_SECONDS):
        lines.append((time.time(), line))
        see(line)
    return Job(process.wait(), lines, float(fault.read_text("utf-8")))
