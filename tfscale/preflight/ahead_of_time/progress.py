"""Runs a program that takes minutes, with a deadline and lines of progress."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from strategies.extension import Deadline, environment_of_one_process
from tfscale.launch import exec_tied


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

    It ends with this process, and is a process for itself, also inside of a job.

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
            # Ends with this process, which may be killed at any time.
            [sys.executable, "-I", "-S", exec_tied.__file__, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment_of_one_process(os.environ),
            start_new_session=True,
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
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # and what it has started
                process.wait()
    raise TookTooLong
