"""Programs of the tests, each in a Python of its own and outside of any cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def own_environment(**added: str) -> dict[str, str]:
    """This process's variables, for a program that is in no cluster but its own."""
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
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


def run_program(*command: str, timeout: float) -> str:
    """Runs `python COMMAND...`, which must end well; returns all that it printed.

    Args:
        *command: What follows the interpreter.
        timeout: Deadline, in seconds.
    """
    done = completed(*command, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
