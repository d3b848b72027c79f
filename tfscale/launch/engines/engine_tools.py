"""Runs the programs of an engine, such as sbatch and kubectl, each with a deadline."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfscale.cli.errors import complain
from tfscale.launch.engines.missing_programs import cure_of

TOOL_SECONDS = 60.0
NOTICE_SECONDS = 5.0
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
        cure: What a user can do if it cannot be run; a sentence. For a program of an engine that is
            missing, that of `missing_programs`.
        folder: Working directory. None: that of this process.
        text: Its standard input.
        environ: Its environment. None: that of this process.
        seconds: Deadline. Positive.

    Raises:
        EngineFailed: If the program is missing, is late, or fails.
    """
    shown = shlex.join(command[:3]) + (" ..." if len(command) > 3 else "")
    try:
        tool = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        missing = f"{command[0]!r} is not on PATH. {cure_of(command[0]) or cure}"
        raise EngineFailed(missing) from error
    except OSError as error:
        raise EngineFailed(f"`{shown}` cannot be run: {error.strerror}. {cure}") from error
    with tool:
        try:
            output, errors = _answer(tool, text, shown, seconds)
        except BaseException as error:
            tool.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                late = f"`{shown}` has not answered within {seconds:g} s. {cure}"
                raise EngineFailed(late) from error
            raise
    if tool.returncode:
        said = " ".join((errors.strip() or output.strip()).split())[-_LONGEST_TEXT:]
        raise EngineFailed(f"`{shown}` failed with status {tool.returncode}: {said}. {cure}")
    return output


def _answer(tool: subprocess.Popen[str], text: str, shown: str, seconds: float) -> tuple[str, str]:
    """Waits for what a program prints, and says so after a while."""
    notice = min(NOTICE_SECONDS, seconds)
    try:
        return tool.communicate(text, timeout=notice)
    except subprocess.TimeoutExpired:
        if seconds > notice:
            complain("tfscale", f"waits for `{shown}`, at most {seconds:g} s.")
        return tool.communicate(timeout=seconds - notice)
