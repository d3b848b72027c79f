"""Runs the programs of an engine, such as sbatch and kubectl, each with a deadline."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

TOOL_SECONDS = 60.0
_LONGEST_TEXT = 600


class EngineFailed(RuntimeError):
    """Raised if an engine does not do what it was asked. The text is a sentence for its user."""


def run_tool(
    command: Sequence[str],
    *,
    cure: str,
    folder: Path | None = None,
    text: str = "",
    environ: Mapping[str, str] | None = None,
    seconds: float = TOOL_SECONDS,
) -> str:
    """Runs a program and returns what it printed.

    Args:
        command: Program and arguments.
        cure: What a user can do if it cannot be run; a sentence.
        folder: Working directory. None: that of this process.
        text: Its standard input.
        environ: Its environment. None: that of this process.
        seconds: Deadline. Positive.

    Raises:
        EngineFailed: If the program is missing, is late, or fails.
    """
    shown = shlex.join(command[:3]) + (" ..." if len(command) > 3 else "")
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environ,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise EngineFailed(f"{command[0]!r} is not on PATH. {cure}") from error
    except OSError as error:
        raise EngineFailed(f"`{shown}` cannot be run: {error.strerror}. {cure}") from error
    except subprocess.TimeoutExpired as error:
        raise EngineFailed(f"`{shown}` has not answered within {seconds:g} s. {cure}") from error
    if done.returncode:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).split())[-_LONGEST_TEXT:]
        raise EngineFailed(f"`{shown}` failed with status {done.returncode}: {said}. {cure}")
    return done.stdout
