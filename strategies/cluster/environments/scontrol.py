"""Slurm's `scontrol` command, run with a deadline."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

Scontrol = Callable[[Sequence[str]], str]
"""Takes the arguments of `scontrol` and returns what it prints."""

_CURE = (
    "Install Slurm's client commands where the task runs (in a container, mount them), "
    "or set TF_CONFIG in every task."
)


def scontrol_answer(arguments: Sequence[str], *, deadline_seconds: float = 30.0) -> str:
    """Runs `scontrol` and returns its standard output.

    Args:
        arguments: For instance `("show", "hostnames", "n[1-2,10]")`.
        deadline_seconds: Seconds to wait. A busy controller takes a few; if it is gone `scontrol`
            retries for more than a minute.

    Raises:
        RuntimeError: If the command is missing, fails or exceeds the deadline.
    """
    command = ["scontrol", *arguments]
    shown = " ".join(command)
    try:
        finished = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=deadline_seconds,
            check=True,
        )
    except FileNotFoundError as error:
        raise RuntimeError(f"`{shown}` must be on PATH in a Slurm step. {_CURE}") from error
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(
            f"`{shown}` must answer within {deadline_seconds:g} s. Is slurmctld up? {_CURE}"
        ) from error
    except subprocess.CalledProcessError as error:
        answer = error.stderr.strip() or f"exit status {error.returncode}"
        raise RuntimeError(f"`{shown}` must succeed. Received: {answer!r}. {_CURE}") from error
    return finished.stdout
