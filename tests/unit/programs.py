"""Programs of the tests, each in a Python of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_program(*command: str, timeout: float) -> str:
    """Runs `python COMMAND...` outside of any cluster; returns all that it printed.

    Args:
        *command: What follows the interpreter.
        timeout: Deadline, in seconds.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    result = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr
