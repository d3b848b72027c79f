"""Starts a program in a separate Python process, outside any cluster, and reads what it prints."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
END_SECONDS = 60.0
"""How long a program may take to exit after its output has ended, or after SIGTERM."""


def own_environment(**added: str) -> dict[str, str]:
    """Returns this process's variables without its cluster, plus the ones that are added."""
    cluster = ("TF_CONFIG", "TFSCALE_RESTART")
    inherited = {name: value for name, value in os.environ.items() if name not in cluster}
    return {**inherited, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT), **added}


def completed(*command: str, timeout: float, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs `python COMMAND...` and returns how it ended.

    Args:
        *command: What follows the interpreter.
        timeout: Deadline, in seconds.
        **variables: Added to its environment.
    """
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=own_environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_program(*command: str, timeout: float, **variables: str) -> str:
    """Runs `python COMMAND...`, which must succeed; returns all that it printed.

    Args:
        *command: What follows the interpreter.
        timeout: Deadline, in seconds.
        **variables: Added to its environment.
    """
    done = completed(*command, timeout=timeout, **variables)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-8000:]
    return printed


def started(*command: str, **variables: str) -> subprocess.Popen[str]:
    """Starts `python COMMAND...` in a new session; its output and its errors are one pipe.

    Args:
        *command: What follows the interpreter.
        **variables: Added to its environment.
    """
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=own_environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def lines_of(process: subprocess.Popen[str], seconds: float) -> Iterator[str]:
    """Yields the lines of a started program as they come, and waits until it has exited.

    Args:
        process: See `started`.
        seconds: Deadline, after which SIGTERM ends the program: a launcher then ends its workers.
    """
    assert process.stdout is not None
    deadline = threading.Timer(seconds, process.terminate)
    deadline.daemon = True
    deadline.start()
    try:
        yield from process.stdout
    finally:
        deadline.cancel()
    process.wait(END_SECONDS)
