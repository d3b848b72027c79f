"""The processes that a worker consists of, as Linux's /proc shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tfscale.files.control_groups import text_of

PROCESSES = Path("/proc")


def process_tree(first: int, proc: Path = PROCESSES) -> Iterator[int]:
    """Yields a process id and those of all processes below it.

    Args:
        first: The process id.
        proc: The folder of the system's processes.
    """
    waiting = [first]
    while waiting:
        process = waiting.pop()
        yield process
        for children in (proc / str(process)).glob("task/*/children"):  # of every thread
            waiting += [int(child) for child in text_of(children).split()]


def is_stopped(process: int, proc: Path = PROCESSES) -> bool:
    """Returns whether a process is stopped by a signal or a debugger; False if it has ended.

    Args:
        process: The process id.
        proc: The folder of the system's processes.
    """
    # "812 (python) T ...": the name may contain anything, also spaces and parentheses.
    return text_of(proc / str(process) / "stat").rpartition(")")[2][:2] in (" T", " t")
