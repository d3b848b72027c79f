"""The files that a task leaves in the folder of the logs: their names, and how to find them.

worker-0.attempt-1.log            its output in the second start of the job
worker-0.attempt-1.error.json     why it failed, as it wrote it itself
"""

from __future__ import annotations

import re
from pathlib import Path


def attempt_name(task: str, restart: int | str) -> str:
    """Returns the beginning of the names of a task's files.

    Args:
        task: The name of the task, as in `JobRequest.tasks`.
        restart: Number of earlier starts, or the variable that has it.

    Example:
        >>> attempt_name("worker-0", 1)
        'worker-0.attempt-1'
    """
    return f"{task}.attempt-{restart}"


def log_file(folder: Path, task: str, restart: int) -> Path:
    """Returns the file with the output of a task."""
    return folder / f"{attempt_name(task, restart)}.log"


def exit_reason_file(folder: Path, task: str, restart: int) -> Path:
    """Returns the file in which a task says why it failed."""
    return folder / f"{attempt_name(task, restart)}.error.json"


def task_logs(folder: Path) -> dict[str, Path | tuple[str, ...]]:
    """Returns the log files in a folder by task, such as "worker-0" and "worker-0.attempt-1".

    The first start of a task has the task's name alone.
    """
    found: dict[str, Path | tuple[str, ...]] = {}
    for path in sorted(folder.glob(f"{attempt_name('*', '*')}.log"), key=_place):
        name = path.name.removesuffix(".log")
        task, _, attempt = name.rpartition(".attempt-")
        found[task if attempt == "0" else name] = path
    return found


def _place(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", path.name)  # worker-2 before worker-10
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
