"""Runs a program that takes minutes, with a deadline and lines of progress."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from strategies.extension import Deadline


class TookTooLong(RuntimeError):
    """Raised if a program is still running at the deadline. It has been killed."""


def run_with_progress(
    command: Sequence[str],
    log: Path,
    deadline: Deadline,
    say: Callable[[str], None],
    doing: str,
    *,
    every: float,
) -> int:
    """Runs a program and returns its exit status; negative for the signal that killed it.

    Args:
        command: The program and its arguments.
        log: The file that its output is appended to.
        deadline: When to kill it.
        say: Called with each line of progress.
        doing: What the program does, for these lines, such as "installing".
        every: Seconds between two lines of progress. Positive.

    Raises:
        TookTooLong: If the deadline passes.
    """
    began = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while True:  # looks once more at the end: this process may have stood still meanwhile
                left = deadline.left(at_most=every)
                try:
                    return process.wait(left)
                except subprocess.TimeoutExpired:
                    say(f"{doing}: {time.monotonic() - began:.0f} s")
                if not left:
                    break
        finally:
            process.kill()
            process.wait()
    raise TookTooLong
